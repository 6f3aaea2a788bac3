"""Run WhisperLive in an environment of its own, and stream to it as its own client does.

https://github.com/collabora/WhisperLive, 0.10: the client sends its options as JSON, then samples in float32, and
``END_OF_AUDIO``. The server answers with the last segments of the transcript; the last one may change until it is
``completed``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

from af3stream.config import cache_dir
from af3stream.engine.captioning import Samples
from bench.common import RATE
from bench.screens import Line, Screen

VERSION: Final = "0.10.0"
INSTALLER: Final = Path(__file__).with_name("peers.sh")
LISTENS: Final = r"server listening on (\S+)"
BLOCK: Final = RATE // 10
QUIET_S: Final = 15.0  # its client ends a session after this time without a new text
# The defaults of its client, with the language told.
OPTIONS: Final[dict[str, Any]] = {
    "language": "en",
    "task": "transcribe",
    "model": "base",
    "use_vad": True,
    "send_last_n_segments": 10,
    "no_speech_thresh": 0.45,
    "clip_audio": False,
    "same_output_threshold": 10,
}
# One model for all clients is the default of its own start script.
SERVE: Final = """
import sys
from whisper_live.server import TranscriptionServer
TranscriptionServer().run(
    "127.0.0.1", 0, backend="faster_whisper", faster_whisper_custom_model_path=sys.argv[1], single_model=True
)
"""


def installed() -> Path:
    """Return the interpreter of WhisperLive's environment, and install it if it is missing.

    Raises:
        subprocess.CalledProcessError: if a package cannot be installed.
    """
    folder = cache_dir() / f"whisper-live-{VERSION}"
    environment = os.environ | {"PYTHON": sys.executable}
    subprocess.run([INSTALLER, folder], env=environment, stdout=sys.stderr, check=True)
    return folder / "bin" / "python"


def command(python: Path, weights: Path) -> list[str]:
    """Return the command of a server over a faster-whisper checkpoint."""
    return [str(python), "-c", SERVE, str(weights)]


@dataclass(slots=True)
class Transcript:
    """The transcript of one stream: the server repeats only its last segments.

    Attributes:
        kept: completed segments.
        end: the end of the last one, in seconds.
    """

    kept: list[str] = field(default_factory=list)
    end: float = 0.0

    def screen(self, at: float, segments: Sequence[dict[str, Any]]) -> Screen:
        """Add the segments of a message that arrived at this time, and return what a client shows."""
        partial = ""
        for segment in segments:
            if not segment["completed"]:
                partial = segment["text"]
            elif not self.kept or float(segment["start"]) >= self.end:
                self.kept.append(segment["text"])
                self.end = float(segment["end"])
        lines = [Line(text, final=True) for text in self.kept]
        return Screen(at, (*lines, *([Line(partial, final=False)] if partial else [])))


async def stream(address: str, samples: Samples, *, quiet_s: float = QUIET_S) -> list[Screen]:
    """Stream samples (n,) at 16 kHz in real time, and return all screens until the text stays the same for ``quiet_s``.

    Raises:
        RuntimeError: if the server refuses the stream.
    """
    async with connect(f"ws://{address}", compression=None, max_size=None) as socket:
        await socket.send(json.dumps({"uid": str(id(samples)), **OPTIONS}))
        while (told := json.loads(await socket.recv())).get("message") != "SERVER_READY":
            if "status" in told:
                raise RuntimeError(f"WhisperLive refuses the stream: {told}")
        began = time.monotonic()
        reading = asyncio.create_task(_read(socket, began, began + len(samples) / RATE, quiet_s))
        for at in range(0, len(samples), BLOCK):
            block = samples[at : at + BLOCK]
            await asyncio.sleep(began + (at + len(block)) / RATE - time.monotonic())
            await socket.send(block.astype("<f4").tobytes())
        screens = await reading
        await socket.send(b"END_OF_AUDIO")
    return screens


async def _read(socket: ClientConnection, began: float, ends: float, quiet_s: float) -> list[Screen]:
    """Read until the stream has ended and nothing changes any more."""
    transcript, screens, changed = Transcript(), list[Screen](), ends
    while True:
        try:
            async with asyncio.timeout(changed + quiet_s - time.monotonic()):
                told = json.loads(await socket.recv())
        except TimeoutError:
            return screens
        if segments := told.get("segments"):
            screen = transcript.screen(time.monotonic() - began, segments)
            if not screens or screens[-1].words() != screen.words():
                changed = max(ends, time.monotonic())
            screens.append(screen)
