"""Run the demo: start a server, stream a recording in real time, and print captions and answers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from rich.console import Console

from af3stream.listen import ListenOptions, listen
from af3stream.models.pull import pull
from af3stream.server.ports import free_port

CONVERSATION = Path(__file__).parent / "recordings" / "conversation.ogg"  # 51 s
QUESTIONS = (
    "@20 What is broken in the main hall?",
    "@36 Which caterer did they choose, and why?",
    "Who will open the exhibition?",
    "> And at what time?",
    "Which problem is left?",
)
START_TIMEOUT_S = 120
YOURS = """\
The model is `mini`, a small Audio Flamingo 3 that runs on any laptop. Its captions are whisper-base's, and its answers
are about as good as those captions. The same commands take the 8B checkpoint on a GPU, for non-commercial use:
  {bin}/af3stream serve --config configs/gpu.toml --model nvidia/audio-flamingo-3-hf

With a file of your own, in two terminals:
  {bin}/af3stream serve
  {bin}/af3stream listen FILE --ask "What was decided?" --ask "> And who will do it?" --captions out.vtt

`. {bin}/activate` puts `af3stream` on the PATH of a terminal. `af3stream serve` names a page that streams your
microphone, or a file you drop on it.
"""
THE_PAGE = "This server's page is {address}/ until you press Enter. "


def main() -> int:
    """Run the demo, and return the exit code of ``listen``."""
    console = Console(highlight=False)
    console.rule("the model")
    pull("mini", console)
    console.print("Starting a server with it.")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder, _serving(port, Path(folder) / "server.log", address):
        console.rule("a conversation, at the pace of speech")
        console.print("Two people prepare an exhibition. Questions are asked meanwhile, and one follows up another.\n")
        code = asyncio.run(listen(ListenOptions(source=str(CONVERSATION), server=address, asks=QUESTIONS)))
        console.rule("and now yours")
        console.print(YOURS.format(bin=f"{Path(sys.prefix).name}/bin"), soft_wrap=True)
        if sys.stdin.isatty():  # without a terminal nobody can press Enter, and the server stops at once
            console.input(THE_PAGE.format(address=address))
    return code


class _serving:  # noqa: N801 - reads as a verb
    """Run a server process within the context."""

    def __init__(self, port: int, log: Path, address: str) -> None:
        self._port, self._log, self._address = port, log, address

    def __enter__(self) -> None:
        command = [
            sys.executable,
            "-m",
            "af3stream.cli",
            "serve",
            "--port",
            str(self._port),
            "--set",
            "journal.folder=",
        ]
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            while not self._healthy():
                if self._server.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"the server did not start:\n{self._log.read_text()}")
                time.sleep(0.2)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._server.terminate()
        self._server.wait()

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/healthz", timeout=1) as response:
                return bool(response.status == 200)
        except OSError:
            return False


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
