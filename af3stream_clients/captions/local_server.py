"""Run a local server process for this program, and restart it if it crashes."""

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

START_TIMEOUT_S: Final = 900.0  # the first start downloads the model
DOWNLOAD_NOTICE: Final = "the first start fetches its model, 630 MB"
POLL_S: Final = 0.2
STOP_TIMEOUT_S: Final = 10.0
STABLE_AFTER_S: Final = 60.0
MAX_CRASHES: Final = 3  # in a row, each within STABLE_AFTER_S of its start; then it is not restarted


@dataclass(frozen=True, slots=True)
class Address:
    """URL of a server, and its token."""

    url: str
    token: str | None = None


class LocalServer:
    """A server process on a free local port, protected by a random token.

    Its journal is in a temporary folder, so that a session survives a restart of the process but not of the program.
    """

    def __init__(self, options: tuple[str, ...] = ()) -> None:
        self._options = options
        self._address = Address(f"ws://127.0.0.1:{free_port()}", secrets.token_urlsafe(16))
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the server, or ``None``."""
        return self._process.pid if self._process else None

    async def address(self, on_start: Callable[[str], None]) -> Address:
        """Start the server if needed, and return its address once it can be reached.

        Args:
            on_start: called before a start, with the reason why it takes long, or an empty string.

        Raises:
            SourceError: if it does not start, with the last line of its log.
        """
        async with self._starting:
            if self._supervisor is None or self._supervisor.done():
                on_start("" if recipe.folder().exists() else DOWNLOAD_NOTICE)
                await self._start()
                self._supervisor = asyncio.create_task(self._supervise())
        return self._address

    async def stop(self) -> None:
        """Stop the server."""
        if self._supervisor:
            self._supervisor.cancel()
        if self._process and self._process.returncode is None:
            assert self._process.stdin
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._folder:
            self._folder.cleanup()

    async def _supervise(self) -> None:
        """Restart the server when it exits; its sessions continue."""
        clock = asyncio.get_running_loop().time
        crashes = 0
        while self._process and crashes < MAX_CRASHES:
            began = clock()
            await self._process.wait()
            crashes = crashes + 1 if clock() - began < STABLE_AFTER_S else 1
            with suppress(SourceError):
                await self._start()

    async def _start(self) -> None:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="af3stream-captions-")
        port = self._address.url.rpartition(":")[2]
        folder = Path(self._folder.name)
        log_path = folder / "server.log"
        with log_path.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "af3stream_clients.captions.local_server", "serve", "--port", port),
                *("--set", f"journal.folder={folder / 'journal'}", *self._options),
                env={
                    **os.environ,
                    "AF3STREAM_TOKEN": self._address.token or "",
                    "PYTHONPATH": os.pathsep.join(sys.path),
                },
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await asyncio.to_thread(self._healthy):
                    if self._process.returncode is not None:
                        raise SourceError(f"the local server did not start: {_last_line(log_path)}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise SourceError(f"the local server did not start within {START_TIMEOUT_S:.0f} s") from None

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


def serve_until_stdin_closes(arguments: list[str]) -> int:
    """Run the ``af3stream`` command until standard input closes, which happens when the parent process ends."""
    from af3stream.cli import main

    def wait() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="captions-wanted", daemon=True).start()
    return main(arguments)


if __name__ == "__main__":
    sys.exit(serve_until_stdin_closes(sys.argv[1:]))
