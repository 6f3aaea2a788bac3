"""The clients' own environments, and how a program of it is run against a service."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from af3stream.server.service import Service

HERE = Path(__file__).parent
LOCK = HERE / "requirements.lock"
FOLDER = HERE.parents[1] / ".venv-clients"
NODE = FOLDER / "node"
RUN_S = 60
ENVIRONMENT = {"HOME": "/nonexistent", "LOGURU_LEVEL": "ERROR", "DO_NOT_TRACK": "1"}

RunClient = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="session")
def clients_python() -> Path:
    """The interpreter of an environment that has what the lock names; it is made on first use."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / "installed"
    with FileLock(FOLDER.with_suffix(".lock")):
        if not stamp.exists() or stamp.read_text() != LOCK.read_text():
            if not python.exists():
                subprocess.run([sys.executable, "-m", "venv", FOLDER], check=True)
            quiet = ["--quiet", "--disable-pip-version-check"]
            subprocess.run([python, "-m", "pip", "install", *quiet, "-r", LOCK], check=True)
            stamp.write_text(LOCK.read_text())
    return python


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder of the npm packages that the lock names, with the sources of `browser/` beside it."""
    with FileLock(FOLDER.with_suffix(".lock")):
        NODE.mkdir(parents=True, exist_ok=True)
        stamp, lock = NODE / "installed", (HERE / "browser" / "package-lock.json").read_text()
        for source in (HERE / "browser").iterdir():
            shutil.copy(source, NODE)
        if not stamp.exists() or stamp.read_text() != lock:
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=NODE, check=True)
            stamp.write_text(lock)
    return NODE / "node_modules"


async def run_program(python: Path, *command: str | Path, **environment: str) -> str:
    """Run a client's program to its end, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        python,
        *map(str, command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, **environment},
    )
    try:
        out, failed = await asyncio.wait_for(process.communicate(), RUN_S)
    except TimeoutError:
        process.kill()
        _, failed = await process.communicate()
        raise AssertionError(f"the client hangs: {failed.decode()[-4_000:]}") from None
    assert process.returncode == 0, failed.decode()[-4_000:]
    return out.decode()


@pytest.fixture
def run_client(clients_python: Path) -> RunClient:
    """`run_client(service, program, function)`: what a function of a program in `clients/` prints as JSON."""

    async def run(service: Service, program: str, function: str, *arguments: str) -> Any:
        url = f"http://127.0.0.1:{service.port}/v1"
        return json.loads(
            await run_program(clients_python, HERE / "clients" / f"{program}.py", function, url, *arguments)
        )

    return run
