"""How a plugin's program is run: in the clients' environment, with the plugins and the client from the checkout."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from af3stream.engine.contract import Completion, Lookup
from af3stream.engine.scripted import ScriptedContext, ScriptedEngine
from tests.openai_wire.conftest import clients_python, run_program

__all__ = ["clients_python"]  # a fixture

ROOT = Path(__file__).parents[2]
PLUGINS = {"livekit": "livekit-plugins-af3stream", "pipecat": "pipecat-af3stream"}
IMPORTED = os.pathsep.join(map(str, (ROOT, *(ROOT / "integrations" / name for name in PLUGINS.values()))))

LONG = 100  # words of the question that the programs interrupt; the scripted engine repeats it
RunPlugin = Callable[..., Awaitable[Any]]


class SlowContext(ScriptedContext):
    """Takes its time for each word of an answer."""

    def answer(self, *prompt: Any) -> Generator[str | Completion, None, None]:
        for piece in super().answer(*prompt):
            time.sleep(0.05)
            yield piece


class SlowEngine(ScriptedEngine):
    """Answers slowly."""

    def context(self, embeddings: Lookup) -> ScriptedContext:
        return SlowContext(self.counters, embeddings)


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
