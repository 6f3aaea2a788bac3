"""The microphone and the system's output, on a sound server of their own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import sounddevice
import soundfile

from af3stream.protocol.messages import Audio
from af3stream_clients.captions.app import Captions
from af3stream_clients.captions.sources import BLOCK_BYTES, CAPTURE_BLOCKS, Choice, Microphone, microphones
from tests.desktop.gui_driver import until
from tests.desktop.scripted_service import ScriptedService

RATE = 16_000
TONE_HZ = 440


@pytest.fixture
def pulseaudio(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """Run a sound server with one output, whose monitor is its only input."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's paths are too long for a socket
        yield from _pulseaudio(Path(folder), monkeypatch)


def _pulseaudio(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    socket = folder / "socket"
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("PULSE_SERVER", f"unix:{socket}")
    modules = (f"module-native-protocol-unix socket={socket} auth-anonymous=1", "module-null-sink sink_name=speakers")
    loads = [part for module in modules for part in ("-L", module)]
    server = subprocess.Popen(
        ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", *loads],
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: not subprocess.run(["pactl", "info"], capture_output=True, check=False).returncode)
        yield server
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def tone(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """``tone()``: play ten seconds of a tone."""
    path = tmp_path / "tone.wav"
    seconds = np.arange(10 * RATE) / RATE
    soundfile.write(path, 0.4 * np.sin(2 * np.pi * TONE_HZ * seconds), RATE)
    players: list[subprocess.Popen[bytes]] = []
    yield lambda: players.append(
        subprocess.Popen(["paplay", "--device=speakers", str(path)], stderr=subprocess.DEVNULL)
    )
    for player in players:
        player.kill()
        player.wait()


def pitch_hz(stage: ScriptedService) -> float:
    """Return the strongest frequency of the last half second received; 0 for silence."""
    pcm = b"".join(message.pcm for message in stage.heard(Audio)[-5:] if isinstance(message, Audio))
    samples = np.frombuffer(pcm, np.int16).astype(float)
    if len(samples) < RATE // 4 or samples.std() < 500:
        return 0.0
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / RATE)[spectrum.argmax()])


def recording() -> bytes:
    """Return the clients that record from the sound server."""
    command = ["pactl", "list", "short", "source-outputs"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_system_audio_is_captured_until_the_sound_server_dies(
    pulseaudio: subprocess.Popen[bytes], tone: Callable[[], None], run: Callable[..., Captions], stage: ScriptedService
) -> None:
    captions = run(source="system")
    until(lambda: len(stage.heard(Audio)) > 3)
    assert pitch_hz(stage) == 0
    tone()
    until(lambda: pitch_hz(stage) == pytest.approx(TONE_HZ, abs=5))
    assert recording()
    captions.actions["pause"].trigger()
    until(lambda: captions.overlay.status.text() == "Paused")
    until(lambda: not recording())
    captions.actions["pause"].trigger()
    heard = len(stage.heard(Audio))
    until(lambda: len(stage.heard(Audio)) > heard)
    pulseaudio.terminate()
    until(lambda: captions.overlay.status.text().startswith("The system's sound"))
    assert captions.actions["pause"].isChecked()


@pytest.mark.usefixtures("pulseaudio")
def test_microphone_is_captured(tone: Callable[[], None], run: Callable[..., Captions], stage: ScriptedService) -> None:
    sounddevice._terminate()  # PortAudio lists only devices that existed when it started
    sounddevice._initialize()
    assert "pulse" in microphones()
    captions = run()
    captions.listen(Choice("microphone", "pulse"))
    until(lambda: len(stage.heard(Audio)) > 3)
    tone()
    until(lambda: pitch_hz(stage) == pytest.approx(TONE_HZ, abs=5))
    assert captions.settings.device == "pulse"
    captions.close()


def test_missing_device_is_reported(run: Callable[..., Captions]) -> None:
    captions = run()
    captions.listen(Choice("microphone", "no such thing"))
    until(lambda: captions.overlay.status.text().startswith("No microphone can be opened: "))


def test_missing_capture_program_is_named_in_the_status(
    run: Callable[..., Captions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    captions = run(source="system")
    until(lambda: captions.overlay.status.text().endswith("install pulseaudio-utils."))


async def test_audio_beyond_the_buffer_is_declared_lost_at_its_position() -> None:
    microphone = Microphone()
    for _ in range(CAPTURE_BLOCKS + 5):
        microphone._captured.put(bytes(BLOCK_BYTES))
    assert microphone.waiting_s == pytest.approx(CAPTURE_BLOCKS / 10)
    blocks = microphone._blocks()
    taken = [await anext(blocks) for _ in range(CAPTURE_BLOCKS + 1)]
    assert all(isinstance(block, bytes) for block in taken[:-1])
    assert taken[-1].frames == 5 * RATE // 10  # type: ignore[union-attr]
    assert microphone.waiting_s == 0


async def test_device_without_blocks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("af3stream_clients.captions.sources.NO_AUDIO_TIMEOUT_S", 0.05)
    with pytest.raises(Exception, match="the microphone gives no sound any more"):
        await anext(Microphone()._blocks())
