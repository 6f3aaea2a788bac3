"""The layers: what each package may import. A package that is not listed, or an import that is not, fails."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import af3stream
from af3stream.audio import pcm
from af3stream.audio.segmenter import Mode
from af3stream.protocol import messages

ROOT = Path(af3stream.__file__).parent

LAYERS = {  # top to bottom: a package imports only from below it, and of that only what is named here
    "cli": "arguments serving recordings stored_sessions listen models config extras errors",
    "arguments": "stored_sessions listen errors",
    "serving": "server cluster engine tracing config extras",
    "recordings": "listen offline engine audio caption_writer subtitles protocol config errors",
    "stored_sessions": "server session journal protocol config errors",
    "listen": "client audio caption_writer subtitles protocol errors",
    "client": "protocol errors",
    "server": "cluster session audio journal engine subtitles protocol tracing metrics config errors",
    "cluster": "engine tracing metrics config errors",
    "offline": "session engine audio protocol metrics config errors",
    "session": "journal engine models audio protocol tracing metrics config errors",
    "journal": "subtitles audio protocol config errors",
    "engine": "models tracing config errors",
    "caption_writer": "subtitles protocol errors",
    "subtitles": "protocol errors",
    "models": "config errors",
    "audio": "config errors",
    "protocol": "errors",
    "tracing": "config",
    "metrics": "",
    "config": "errors",
    "extras": "errors",
    "errors": "",
}
QUIET = ("session", "audio", "protocol", "subtitles.py", "config.py", "metrics.py", "errors.py", "models/card.py")
ENGINE_WITHOUT_MODEL = tuple(
    f"engine/{name}.py"
    for name in (
        "contract",
        "facts",
        "jobs",
        "kv_cache_manager",
        "request",
        "scheduler",
        "scripted",
        "serialisation",
        "token_counter",
        "worker",
    )
)
CLOCKS_AND_SOCKETS = {"asyncio", "socket", "threading", "time", "websockets"}
HEAVY = {"torch", "transformers", "faster_whisper"}


def modules(*places: str) -> list[Path]:
    """The files of packages, and single files."""
    found = [
        file for place in places for file in ((ROOT / place).rglob("*.py") if "." not in place else [ROOT / place])
    ]
    assert found
    return sorted(found)


def imported(node: ast.AST) -> Iterator[str]:
    """The full names that a piece of code imports, wherever in it."""
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            yield from (alias.name for alias in part.names)
        elif isinstance(part, ast.ImportFrom):
            assert part.level == 0, "imports are absolute"
            yield from (f"{part.module}.{alias.name}" for alias in part.names)


def at_module_level(file: Path) -> set[str]:
    """The packages that importing a file imports."""
    tree = ast.parse(file.read_text())
    body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom | ast.Try)]
    return {name.partition(".")[0] for node in body for name in imported(node)}


def test_every_package_is_listed() -> None:
    packages = {file.relative_to(ROOT).parts[0].removesuffix(".py") for file in modules("")}
    assert packages - {"__init__"} == set(LAYERS)


def test_imports_point_downward() -> None:
    order = list(LAYERS)
    for package, below in LAYERS.items():
        assert all(order.index(package) < order.index(other) for other in below.split())


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_imports_only_what_is_listed(package: str) -> None:
    files = modules(package if (ROOT / package).is_dir() else f"{package}.py")
    names = {name for file in files for name in imported(ast.parse(file.read_text()))}
    packages = {name.split(".")[1] for name in names if name.startswith("af3stream.")}
    assert packages - {package, "__version__"} <= set(LAYERS[package].split())


@pytest.mark.parametrize("file", modules(*QUIET), ids=lambda file: str(file.relative_to(ROOT)))
def test_below_server_and_engine_there_is_no_clock_socket_thread_or_model(file: Path) -> None:
    assert not at_module_level(file) & (CLOCKS_AND_SOCKETS | HEAVY)


@pytest.mark.parametrize("file", modules(*ENGINE_WITHOUT_MODEL), ids=lambda file: file.name)
def test_the_engine_around_the_model_knows_no_model(file: Path) -> None:
    assert not at_module_level(file) & (HEAVY | {"websockets", "asyncio"})


def test_a_session_and_a_server_run_without_torch() -> None:
    imports = "import sys, af3stream.server.service, af3stream.offline, af3stream.engine.scripted, af3stream.client"
    code = f"{imports}; print(*{HEAVY!r} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_types_defined_twice_are_equal() -> None:
    assert get_args(messages.Format) == get_args(pcm.Encoding)
    assert get_args(messages.Mode) == get_args(Mode)
