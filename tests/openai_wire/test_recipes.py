"""The recipes of docs/clients.md, run as they stand with the released packages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from af3stream.server.service import Service
from tests.openai_wire.conftest import HERE, run_program
from tests.openai_wire.test_rest import RECORDING
from tests.server.peers import serving

TEXT = (HERE.parents[1] / "docs" / "clients.md").read_text()
PYTHON = re.findall(r"\*\*(.+?)\n\n```python\n(.+?)```", TEXT, re.DOTALL)
CURL = re.search(r"```text\n(curl .+?)```", TEXT, re.DOTALL)


def at(recipe: str, service: Service) -> str:
    return recipe.replace("127.0.0.1:8765", f"127.0.0.1:{service.port}")


def test_every_client_has_a_recipe() -> None:
    assert [title.partition("**")[0].strip("`") for title, _ in PYTHON] == [
        "openai",
        "openai",
        "LiveKit Agents",
        "Pipecat",
    ]


@pytest.mark.parametrize("recipe", [recipe for _, recipe in PYTHON], ids=["files", "live", "livekit", "pipecat"])
async def test_a_python_recipe_runs_as_it_stands(recipe: str, clients_python: Path, tmp_path: Path) -> None:
    shutil.copy(RECORDING, tmp_path / "talk.wav")
    async with serving(tokens=("TOKEN",)) as service:
        program = f"import os\nos.chdir({str(tmp_path)!r})\n{at(recipe, service)}"
        await run_program(clients_python, "-c", program)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
async def test_the_curl_recipe_runs_as_it_stands(tmp_path: Path) -> None:
    assert CURL
    shutil.copy(RECORDING, tmp_path / "talk.wav")
    async with serving(tokens=("TOKEN",)) as service:
        script = f"cd {tmp_path}\n{at(CURL[1], service)}"
        out = await run_program(Path("/bin/sh"), "-c", script)
    assert out.startswith("1\n00:00:0")
