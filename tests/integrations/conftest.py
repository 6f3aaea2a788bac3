"""How a plugin's program is run: in the clients' environment, with the plugins and the client from the checkout."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.openai_wire.conftest import clients_python, run_program

__all__ = ["clients_python"]  # a fixture

ROOT = Path(__file__).parents[2]
PLUGINS = {"livekit": "livekit-plugins-af3stream", "pipecat": "pipecat-af3stream"}
IMPORTED = os.pathsep.join(map(str, (ROOT, *(ROOT / "integrations" / name for name in PLUGINS.values()))))

RunPlugin = Callable[..., Awaitable[Any]]


@pytest.fixture
def run_plugin(clients_python: Path) -> RunPlugin:
    """`run_plugin(port, program, function)`: what a function of a program in `clients/` prints as JSON."""

    async def run(port: int, program: str, function: str) -> Any:
        path = Path(__file__).parent / "clients" / f"{program}.py"
        return json.loads(
            await run_program(clients_python, path, function, f"ws://127.0.0.1:{port}", PYTHONPATH=IMPORTED)
        )

    return run


@pytest.fixture
def run_example(clients_python: Path) -> RunPlugin:
    """`run_example(port, plugin, file, question)`: the lines that a plugin's example prints."""

    async def run(port: int, plugin: str, file: Path, question: str) -> list[str]:
        path = ROOT / "integrations" / PLUGINS[plugin] / "examples" / "recorded.py"
        url = f"ws://127.0.0.1:{port}"
        told = await run_program(
            clients_python, path, url, file, question, PYTHONPATH=IMPORTED, AF3STREAM_TOKEN="secret"
        )
        return told.splitlines()

    return run
