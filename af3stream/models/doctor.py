"""Report what this machine has and lacks, and how to get what is missing: ``af3stream doctor``."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from af3stream.config import Config, cache_dir
from af3stream.models import manifest, mini
from af3stream.models.mini.assembly import DISK_BYTES

MINI_BYTES = 3_400_000_000  # memory of mini in float32 with its captioner and one session
AF3_BYTES = 17_000_000_000  # memory of the 8B model in bfloat16 with one session

SERVER = 'pip install "af3stream[server]"'

State = Literal["ok", "warn", "missing"]
COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "missing": "red"}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        topic: a word or two.
        state: ``ok``; ``warn``: the service runs without something; ``missing``: the service cannot run.
        sentence: what was found, and how to get what is missing.
    """

    topic: str
    state: State
    sentence: str


def diagnose(config: Config) -> list[Finding]:
    """Check everything that the service uses. Nothing is downloaded, loaded or changed."""
    return [
        Finding("python", "ok", f"Python {platform.python_version()} on {platform.system()} {platform.machine()}."),
        *_torch(),
        _transformers(),
        _package("captioner", "faster_whisper", "faster-whisper"),
        _package("voice detector", "webrtcvad", "webrtcvad-wheels"),
        _files(),
        _microphone(),
        _mini(),
        *_old_minis(),
        _disk(),
        _port(config.server.host, config.server.port),
        _chromium(),
    ]


def render(findings: list[Finding], console: Console) -> int:
    """Print one line per finding, and return the exit code: 1 if something is missing, else 0."""
    width = max((len(finding.topic) for finding in findings), default=0)
    for finding in findings:
        colour = COLOURS[finding.state]
        console.print(f"[{colour}]{finding.state:<7}[/{colour}]  {finding.topic:<{width}}  ", end="", highlight=False)
        console.print(finding.sentence, highlight=False, markup=False, soft_wrap=True)
    return int(any(finding.state == "missing" for finding in findings))


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError:
        yield Finding("torch", "missing", f"torch is not installed: {SERVER}.")
        return
    memory = _memory_bytes()
    fits = "mini fits" if memory is None or memory >= MINI_BYTES else f"mini wants {MINI_BYTES / 1e9:.1f} GB"
    size = "memory unknown" if memory is None else f"{memory / 1e9:.0f} GB memory"
    state: State = "warn" if fits != "mini fits" else "ok"
    yield Finding("torch", state, f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads, {size}: {fits}.")
    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        holds = "the 8B model fits in bfloat16" if gpu.total_memory >= AF3_BYTES else "mini fits; 8B wants 17 GB"
        yield Finding("gpu", "ok", f"cuda:{number} is {gpu.name} with {gpu.total_memory / 1e9:.0f} GB: {holds}.")
    if torch.backends.mps.is_available():
        holds = "the 8B model fits in bfloat16" if (memory or 0) >= 2 * AF3_BYTES else "mini fits"
        yield Finding("gpu", "ok", f"mps shares the machine's memory: {holds}.")
    elif not torch.cuda.device_count():
        yield Finding(
            "gpu", "warn", "no GPU that torch can use: mini runs on the CPU, and the 8B model wants a GPU with 17 GB."
        )


def _memory_bytes() -> int | None:
    """Return the machine's memory in bytes, if the system reports it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _transformers() -> Finding:
    try:
        module = importlib.import_module("transformers.models.audioflamingo3")
        module.AudioFlamingo3ForConditionalGeneration  # noqa: B018  (a lazy module: the attribute is the import)
    except (ImportError, AttributeError):
        return Finding("transformers", "missing", f"no transformers with Audio Flamingo 3: {SERVER}.")
    return Finding("transformers", "ok", f"transformers {_version('transformers')} with Audio Flamingo 3.")


def _package(topic: str, module: str, distribution: str) -> Finding:
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:
        return Finding(topic, "missing", f"{distribution} cannot be imported ({error}): {SERVER}.")
    return Finding(topic, "ok", f"{distribution} {_version(distribution)}.")


def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


def _files() -> Finding:
    try:
        import soundfile
    except (ImportError, OSError):
        return Finding("audio files", "missing", "soundfile or its libsndfile is missing: pip install soundfile.")
    formats = ", ".join(name for name in ("WAV", "FLAC", "OGG", "MP3") if name in soundfile.available_formats())
    more = []
    if importlib.util.find_spec("av"):
        more.append(f"PyAV {_version('av')} reads the rest (MP4, M4A, WebM)")
    if shutil.which("ffmpeg"):
        more.append("ffmpeg is on the path")
    if not more:
        return Finding("audio files", "warn", f"{formats}; for MP4, M4A and WebM: pip install av, or install ffmpeg.")
    return Finding("audio files", "ok", f"{formats}; {'; '.join(more)}.")


def _microphone() -> Finding:
    try:
        import sounddevice
    except ImportError:
        return Finding("microphone", "warn", "for a microphone: pip install 'af3stream[mic]'.")
    except OSError:
        return Finding(
            "microphone",
            "warn",
            "PortAudio is missing, so no microphone: apt-get install libportaudio2, or brew install portaudio.",
        )
    try:
        device = sounddevice.query_devices(kind="input")
    except (sounddevice.PortAudioError, ValueError):
        return Finding(
            "microphone", "warn", "PortAudio finds no input device: plug one in; files and clients still work."
        )
    return Finding("microphone", "ok", f"{device['name']}.")


def _mini() -> Finding:
    folder = mini.folder()
    if not folder.exists():
        return Finding("mini", "warn", "not assembled yet; its first use does it, or `af3stream pull mini` (630 MB).")
    if problem := manifest.problem(folder, hashes=True):
        return Finding("mini", "warn", f"{folder} is damaged: {problem}; `af3stream pull mini` assembles it anew.")
    return Finding("mini", "ok", f"assembled and intact in {folder}.")


def _old_minis() -> Iterator[Finding]:
    """Return the folders of ``mini`` that earlier versions assembled."""
    names = [path.name for path in sorted(cache_dir().glob("mini-*")) if (path / manifest.MANIFEST).is_file()]
    if others := [name for name in names if name != mini.folder().name]:
        yield Finding("mini", "ok", f"nothing uses {', '.join(others)} in {cache_dir()} any more; delete at will.")


def _disk() -> Finding:
    place = cache_dir()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < DISK_BYTES and not mini.folder().exists():
        return Finding("disk", "missing", f"{free / 1e9:.1f} GB free in {place}; mini needs {DISK_BYTES / 1e9:.1f} GB.")
    return Finding("disk", "ok", f"{free / 1e9:.0f} GB free in {place}.")


def _port(host: str, port: int) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sentence = f"{host}:{port} cannot be bound ({error.strerror}): --set server.port=PORT takes another."
            return Finding("port", "warn", sentence)
    return Finding("port", "ok", f"{host}:{port} is free.")


def _chromium() -> Finding:
    browsers = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    found += [str(path) for path in sorted(browsers.glob("chromium*"))]
    if found:
        return Finding("chromium", "ok", f"{found[0]} (for the browser tests).")
    return Finding("chromium", "warn", "only the browser tests want it: playwright install chromium.")
