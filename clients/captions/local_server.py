"""A server of one's own: started when it is wanted, gone with the program, started again when it dies."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from af3stream.errors import SourceError
from af3stream.models.mini import recipe
from af3stream.server.ports import free_port

START_S: Final = 900.0  # the first start fetches the model
FETCHES: Final = "the first start fetches its model, 630 MB"
POLL_S: Final = 0.2
STOP_S: Final = 10.0
STEADY_S: Final = 60.0
DEATHS: Final = 3  # so many, each after less than STEADY_S, and it is not started again


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and what it wants to hear first."""

    url: str
    token: str | None = None


class LocalServer:
    """One server process on a free port of this computer, for whoever knows its token.

    What it keeps so that a session outlives its death is in a temporary folder, and gone with it.
    """

    def __init__(self, options: tuple[str, ...] = ()) -> None:
        self._options = options
        self._address = Address(f"ws://127.0.0.1:{free_port()}", secrets.token_urlsafe(16))
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process else None

    async def address(self, on_start: Callable[[str], None]) -> Address:
        """Where it is, once it can be reached; ``on_start`` is called where that takes a while, with the reason if any.

        Raises:
            SourceError: when it does not start, with the last thing it said.
        """
        async with self._starting:
            if self._keeping is None or self._keeping.done():
                on_start("" if recipe.folder().exists() else FETCHES)
                await self._start()
                self._keeping = asyncio.create_task(self._keep())
        return self._address

    async def stop(self) -> None:
        """End it."""
        if self._keeping:
            self._keeping.cancel()
        if self._process and self._process.returncode is None:
            assert self._process.stdin
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), STOP_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._folder:
            self._folder.cleanup()

    async def _keep(self) -> None:
        """Start it again when it dies; its sessions go on."""
        clock = asyncio.get_running_loop().time
        deaths = 0
        while self._process and deaths < DEATHS:
            began = clock()
            await self._process.wait()
            deaths = deaths + 1 if clock() - began < STEADY_S else 1
            with suppress(SourceError):
                await self._start()

    async def _start(self) -> None:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="af3stream-captions-")
        port = self._address.url.rpartition(":")[2]
        folder = Path(self._folder.name)
        log_path = folder / "server.log"
        with log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "clients.captions.local_server", "serve", "--port", port),
                *("--set", f"journal.folder={folder / 'journal'}", *self._options),
                env={
                    **os.environ,
                    "AF3STREAM_TOKENS": self._address.token or "",
                    "PYTHONPATH": os.pathsep.join(sys.path),
                },
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        try:
            async with asyncio.timeout(START_S):
                while not await asyncio.to_thread(self._healthy):
                    if self._process.returncode is not None:
                        raise SourceError(f"the local server did not start: {_last_line(log_path)}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise SourceError(f"the local server did not start within {START_S:.0f} s") from None

    def _healthy(self) -> bool:
        address = self._address.url.replace("ws", "http", 1)
        try:
            with urllib.request.urlopen(f"{address}/healthz", timeout=1) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("af3stream: ") if lines else "it said nothing"


def serve_while_wanted(arguments: list[str]) -> int:
    """The ``af3stream`` command, until standard input ends: with whoever started it, however that comes to its end."""
    from af3stream.cli import main

    def wait() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="captions-wanted", daemon=True).start()
    return main(arguments)


if __name__ == "__main__":
    sys.exit(serve_while_wanted(sys.argv[1:]))
