"""The command line, as people run it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import RECORDINGS
from tests.e2e.conftest import RunningService
from tests.words import word_error_rate

pytestmark = pytest.mark.mini

RECORDING = RECORDINGS / "sense_and_sensibility_01_austen_64kb-0930.wav"
SAID = "he might even have been made amiable himself"


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "af3stream.cli", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)


def test_transcribe_prints_one_json_line_a_file(quick_start: tuple[str, ...]) -> None:
    done = run("transcribe", RECORDING, RECORDING, "--json", *quick_start)
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert set(first) == {"file", "text", "seconds", "rtf", "captions"}
    assert (first["file"], first["text"]) == (second["file"], second["text"])
    assert word_error_rate(SAID, first["text"]) == 0
    assert first["seconds"] == pytest.approx(3.29, abs=0.1)


def test_ask_captions_the_file_and_answers_with_what_it_heard_and_read(quick_start: tuple[str, ...]) -> None:
    done = run("ask", RECORDING, "--question", "What was said?", "--max-tokens", "8", "--json", *quick_start)
    assert done.returncode == 0, done.stderr
    answered = json.loads(done.stdout)
    assert answered["range"] == [0.0, pytest.approx(3.29, abs=0.1)]
    assert answered["heard_until"] == answered["range"][1]
    assert answered["text"]


def test_listen_prints_every_message_as_a_json_line_and_writes_captions(
    service: RunningService, tmp_path: Path
) -> None:
    captions = tmp_path / "out.vtt"
    done = run(
        "listen", RECORDING, "--server", service.http, "--pace", "fast", "--ask", "What was said?", "--json",
        "--captions", captions,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert messages[0]["type"] == "ready"
    assert messages[-1]["type"] == "ended"
    (final,) = [message for message in messages if message["type"] == "caption" and message["final"]]
    assert word_error_rate(SAID, final["text"]) == 0
    assert {"start", "end"} <= set(final)
    assert [message for message in messages if message["type"] == "answer"]
    assert captions.read_text().startswith("WEBVTT")
    assert word_error_rate(SAID, captions.read_text().split("\n\n", 1)[1].split("\n", 1)[1]) == 0


def test_listen_takes_raw_pcm_on_standard_input(service: RunningService) -> None:
    pcm = RECORDING.read_bytes()[44:]
    done = run("listen", "-", "--server", service.http, "--pace", "fast", "--json", stdin=pcm)
    assert done.returncode == 0, done.stderr
    finals = [line for line in map(json.loads, done.stdout.splitlines()) if line.get("final")]
    assert word_error_rate(SAID, " ".join(final["text"] for final in finals)) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["transcribe", "/no/such.wav"], "/no/such.wav"),
        (["transcribe", __file__], "audio"),
        (["ask", "/", "--question", "What?"], "folder"),
        (["transcribe", RECORDING, "--model", "minni"], "minni"),
        (["serve", "--model", "no/such"], "no/such"),
        (["serve", "--set", "server.prot=1"], "server.port"),
        (["serve", "--set", "audio.vad_level=9"], "vad_level"),
        (["serve", "--config", "/no/such.toml"], "/no/such.toml"),
        (["listen", RECORDING, "--server", "http://127.0.0.1:9"], "127.0.0.1:9"),
        (["listen", "/no/such.wav"], "/no/such.wav"),
        (["pull", "minni"], "minni"),
    ],
)
def test_what_a_person_gets_wrong_is_one_sentence_and_exit_code_2(arguments: list[str | Path], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.decode().splitlines()
    assert all(line.startswith("af3stream: ") for line in lines)
    assert sentence in lines[-1]


def test_a_busy_port_is_one_sentence_before_the_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "af3stream: starting a server with mini",
        f"af3stream: cannot listen on 127.0.0.1:{port}: Address already in use",
    ]


@pytest.mark.parametrize(("how", "model"), [(signal.SIGINT, "tiny"), (signal.SIGTERM, "mini")])
def test_serve_ends_cleanly_when_told_to(
    how: signal.Signals, model: str, quick_start: tuple[str, ...], tmp_path: Path
) -> None:
    options = () if model == "mini" else quick_start
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (tmp_path / "log").open("w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "af3stream.cli", "serve", "--port", str(port), *options],
            stderr=log,
            env={**os.environ, "AF3STREAM_STATE": str(tmp_path)},
        )
        for _ in range(3_000):  # five minutes, on a loaded machine
            time.sleep(0.1)
            if f"listens at http://127.0.0.1:{port}" in (tmp_path / "log").read_text():
                break
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as response:
            health = json.load(response)
        assert health["status"] == "ok"
        assert health["model"].startswith(model)
        server.send_signal(how)
        assert server.wait(120) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_doctor_speaks_of_everything_it_needs() -> None:
    done = run("doctor")
    assert done.returncode in (0, 1)
    told = done.stdout.decode()
    for topic in ("Python", "torch", "mini", "microphone"):
        assert topic.casefold() in told.casefold()
