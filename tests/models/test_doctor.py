"""The doctor looks at everything, says how to get what is missing, and changes nothing."""

from __future__ import annotations

import builtins
import importlib
import shutil
import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from af3stream.config import Config, ServerConfig
from af3stream.models import doctor, mini
from af3stream.models.doctor import Finding, diagnose, render
from af3stream.models.manifest import build_once

FREE_PORT = Config(server=ServerConfig(port=0))


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("AF3STREAM_CACHE", str(cache))
    return cache


def about(topic: str, config: Config = FREE_PORT) -> Finding:
    return next(finding for finding in diagnose(config) if finding.topic == topic)


def test_everything_is_looked_at_and_nothing_is_created(empty_cache: Path) -> None:
    topics = {finding.topic for finding in diagnose(FREE_PORT)}
    assert topics == {
        "python",
        "torch",
        "gpu",
        "transformers",
        "captioner",
        "voice detector",
        "audio files",
        "microphone",
        "mini",
        "disk",
        "port",
        "chromium",
    }
    assert not empty_cache.exists()


def test_sentences_are_sentences() -> None:
    assert all(finding.sentence.endswith(".") for finding in diagnose(FREE_PORT))


def test_mini_goes_from_absent_to_intact_to_damaged() -> None:
    assert (about("mini").state, "pull mini" in about("mini").sentence) == ("warn", True)
    build_once(mini.folder(), lambda folder: (folder / "weights").touch(), print)
    assert about("mini") == Finding("mini", "ok", f"assembled and intact in {mini.folder()}.")
    build_once(mini.folder().with_name("mini-0123456789ab"), lambda folder: (folder / "weights").touch(), print)
    (older,) = (finding for finding in doctor._old_minis())
    assert (older.state, "mini-0123456789ab" in older.sentence) == ("ok", True)
    assert mini.folder().name not in older.sentence
    (mini.folder() / "weights").unlink()
    assert "damaged: weights is missing" in about("mini").sentence


def test_a_port_in_use_is_a_warning() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        finding = about("port", Config(server=ServerConfig(port=listener.getsockname()[1])))
    assert finding.state == "warn"
    assert "--set server.port=PORT" in finding.sentence


@pytest.mark.parametrize(
    ("module", "topic", "state", "remedy"),
    [
        ("torch", "torch", "missing", 'pip install "af3stream[server]"'),
        ("transformers.models.audioflamingo3", "transformers", "missing", 'pip install "af3stream[server]"'),
        ("faster_whisper", "captioner", "missing", 'pip install "af3stream[server]"'),
        ("webrtcvad", "voice detector", "missing", 'pip install "af3stream[server]"'),
        ("soundfile", "audio files", "missing", "pip install soundfile"),
        ("sounddevice", "microphone", "warn", "pip install 'af3stream[mic]'"),
    ],
)
def test_a_missing_package_says_how_to_get_it(
    module: str, topic: str, state: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    finding = about(topic)
    assert (finding.state, remedy in finding.sentence) == (state, True)


def test_missing_portaudio_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_portaudio(name: str, *rest: object, **more: object) -> object:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", no_portaudio)
    assert "apt-get install libportaudio2" in doctor._microphone().sentence


def test_a_full_disk_is_missing_room(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**8))
    assert about("disk").state == "missing"


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory_bytes", lambda: 10**9)
    assert "mini wants 3.4 GB" in about("torch").sentence


@pytest.mark.parametrize(("states", "code"), [(["ok"], 0), (["ok", "warn"], 0), (["missing", "ok"], 1), ([], 0)])
def test_the_exit_code_tells_whether_the_service_can_run(states: list[doctor.State], code: int) -> None:
    console = Console(record=True, width=200)
    assert render([Finding("torch", state, f"a [{state}] one.") for state in states], console) == code
    assert console.export_text().splitlines() == [f"{state:<7}  torch  a [{state}] one." for state in states]


def test_importing_the_doctor_imports_nothing_heavy() -> None:
    import subprocess

    code = "import sys; import af3stream.models.doctor, af3stream.models.registry; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert importlib.util.find_spec("torch")
