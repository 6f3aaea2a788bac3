"""A microphone that a recording is played into: PulseAudio's null sink, heard through ALSA."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from af3stream.protocol.messages import Caption
from tests.e2e.conftest import RunningService
from tests.words import word_error_rate

pytestmark = pytest.mark.mini

TOLERANCE = 0.03  # of word error rate, for where the playing begins and what resampling does
PATIENCE_S = 180.0
Environment = dict[str, str]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Environment]:
    """A sound server of its own: what is played into the sink `room` is what a microphone hears."""
    socket = tmp_path / "native"
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    environment |= {"PULSE_SERVER": f"unix:{socket}", "PULSE_SOURCE": "room.monitor"}
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
    command += ["-L", "module-null-sink sink_name=room rate=16000 channels=1"]
    command += ["-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: b"room.monitor" in pactl("list", "short", "sources", environment=environment))
        yield environment
    finally:
        server.terminate()
        server.wait(10)


def pactl(*arguments: str, environment: Environment) -> bytes:
    """What the sound server says; nothing while it does not answer."""
    return subprocess.run(["pactl", *arguments], env=environment, capture_output=True, check=False).stdout


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_microphone_is_captioned_as_a_file_is(
    service: RunningService,
    recording: Path,
    offline_captions: tuple[Caption, ...],
    transcript: str,
    room: Environment,
    tmp_path: Path,
) -> None:
    """Streams at the pace of speech, because a sound server has its own clock."""
    arguments = [service.http, "--device", "pulse", "--ask", "What was said first?"]
    program = [sys.executable, "-m", "af3stream_clients.mic", *arguments, "--captions", str(tmp_path / "out.vtt")]
    with (tmp_path / "said").open("wb") as said:
        listening = subprocess.Popen(program, env=room, stdout=said, cwd=Path(__file__).parents[2])
    try:
        until(lambda: b"Source Output" in pactl("list", "source-outputs", environment=room))
        subprocess.run(["paplay", "--device=room", str(recording)], env=room, check=True, timeout=PATIENCE_S)
        until(lambda: "himself" in (tmp_path / "said").read_text())  # the last word: a loaded server is behind
        listening.send_signal(signal.SIGINT)
        assert listening.wait(PATIENCE_S) == 0
    finally:
        listening.kill()
        listening.wait()
    lines = (tmp_path / "said").read_text().splitlines()
    words = " ".join(line.partition("  ")[2] for line in lines if line[:1].isdigit())
    assert "lost]" not in words
    of_the_file = word_error_rate(transcript, " ".join(caption.text for caption in offline_captions))
    assert word_error_rate(transcript, words) <= of_the_file + TOLERANCE
    assert "? What was said first?" in lines
    assert (tmp_path / "out.vtt").read_text().startswith("WEBVTT")
