"""The demo: a server, a real recording at the pace of speech, captions, and answered questions."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console

from af3stream.listen import ListenOptions, listen
from af3stream.models.pull import pull
from af3stream.server.service import free_port

RECORDINGS = Path(__file__).parent.parent / "tests" / "recordings"
PAUSE_S = 0.8
QUESTIONS = (
    "@9 What is said about John Dashwood?",
    "@20 Is a dog mentioned?",
    "What was said first?",
)
START_TIMEOUT_S = 120
YOURS = """\
The model is `mini`, a small Audio Flamingo 3 that runs on any laptop. Its captions are whisper-base's; its answers are
its own, best about what its captions say. The same commands take the 8B checkpoint on a GPU, for non-commercial use:
  {bin}/af3stream serve --config configs/gpu.toml --model nvidia/audio-flamingo-3-hf

With a file of your own, in two terminals:
  {bin}/af3stream serve
  {bin}/af3stream listen FILE --ask "What is said about ...?" --captions out.vtt

`. {bin}/activate` puts `af3stream` on the PATH of a terminal. `af3stream serve` names a page that streams your
microphone, or a file you drop on it.
"""
THE_PAGE = "This server's page is {address}/ until you press Enter. "


def main() -> int:
    """Run the demo; returns the exit code of listening."""
    console = Console(highlight=False)
    console.rule("the model")
    pull("mini", console)
    console.print("Starting a server with it.")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder, _serving(port, Path(folder) / "server.log", address):
        recording = _joined(Path(folder) / "sense-and-sensibility.wav")
        console.rule("a recording, at the pace of speech")
        console.print("Five sentences of Jane Austen, read for LibriVox. Three questions are asked meanwhile.\n")
        code = asyncio.run(listen(ListenOptions(source=str(recording), server=address, asks=QUESTIONS)))
        console.rule("and now yours")
        console.print(YOURS.format(bin=f"{Path(sys.prefix).name}/bin"), soft_wrap=True)
        if sys.stdin.isatty():  # else nobody can keep the server up, and its address is dead at once
            console.input(THE_PAGE.format(address=address))
    return code


class _serving:  # noqa: N801 - reads as a verb
    """A server of its own while the context lasts."""

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


def _joined(path: Path) -> Path:
    """The sample recordings as one, with pauses between them."""
    pieces: list[np.ndarray] = []
    for file in sorted(RECORDINGS.glob("*.wav")):
        samples, rate = soundfile.read(file, dtype="int16")
        pieces += [samples, np.zeros(int(PAUSE_S * rate), np.int16)]
    soundfile.write(path, np.concatenate(pieces), rate, subtype="PCM_16")
    return path


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
