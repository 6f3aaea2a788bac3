"""The same session without a server: files in, captions and answers out, in the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.files import normalise, read_mono_16k, stream_blocks
from af3stream.config import Config
from af3stream.engine.contract import Completion, Engine, Sound
from af3stream.engine.factory import Loaded
from af3stream.engine.worker import Worker
from af3stream.errors import EngineError, TooManyWindows
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.session import Session

BLOCK_MS = 1_000


@dataclass(frozen=True, slots=True)
class Transcript:
    """A whole file's final captions, and its length in seconds."""

    captions: tuple[m.Caption, ...]
    seconds: float

    @property
    def text(self) -> str:
        """All the words."""
        return " ".join(caption.text for caption in self.captions)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer over a whole file.

    Attributes:
        start, end: seconds of audio it heard.
        ttft_s: from the question to the first token, encoding included.
        took_s: to the last token.
    """

    text: str
    start: float
    end: float
    ttft_s: float
    took_s: float


def transcribe(
    path: Path, config: Config, loaded: Loaded, tell: Callable[[m.Caption], None] = lambda _: None
) -> Transcript:
    """The final captions of a file, the same as streaming it gives; ``tell`` hears each as it comes.

    Raises:
        SourceError: where it cannot be read.
    """
    audio_format, blocks = stream_blocks(path, BLOCK_MS)
    worker = Worker(loaded.engine)
    start = m.Start(audio_format.format, audio_format.rate, audio_format.channels, interims=False)
    session = Session("offline", start, config=config, engine=loaded.engine, notes="off", metrics=Metrics())
    captions: list[m.Caption] = []
    offset = 0

    def hear(message: m.ClientMessage) -> None:
        session.receive(message, time.monotonic())
        for caption in _finals(session, worker):
            captions.append(caption)
            tell(caption)

    for pcm in blocks:
        hear(m.Audio(offset, pcm))
        offset += audio_format.frames(pcm)
    hear(m.End(offset))
    return Transcript(tuple(captions), offset / audio_format.rate)


def _finals(session: Session, worker: Worker) -> list[m.Caption]:
    """Run what the session wants done, and return the final captions it tells."""
    while jobs := session.take_jobs():
        for job in jobs:
            worker.submit(session.id, job, lambda job, result, done: session.complete(job, result, done, 0.0))
        worker.run_all()
    messages = session.take_messages()
    for error in (message for message in messages if isinstance(message, m.Error)):
        raise EngineError(error.message)
    return [message for message in messages if isinstance(message, m.Caption) and message.final]


def ask(path: Path, question: str, engine: Engine, max_tokens: int, *, normalised: bool = False) -> Answered:
    """Answer a question over a whole file, cut into full windows as the model's own processor cuts it.

    Args:
        normalised: scale the file first, as the model's quickstart does.

    Raises:
        SourceError: where the file cannot be read.
        TooManyWindows: where it is longer than the horizon; nothing is left out silently.
    """
    samples = read_mono_16k(path)
    if normalised:
        samples = normalise(samples)
    size = engine.capacity.window_samples
    windows = [samples[i : i + size] for i in range(0, len(samples), size)]
    if len(windows) > engine.capacity.windows:
        raise TooManyWindows(len(windows), engine.capacity.windows)
    began = time.perf_counter()
    sounds = [Sound(window, engine.frames(len(window))) for window in windows]
    engine.encode(sounds)
    pieces: list[str] = []
    first: float | None = None
    for piece in engine.context().answer(sounds, question, max_tokens):
        if isinstance(piece, Completion):
            break
        if piece and first is None:
            first = time.perf_counter() - began
        pieces.append(piece)
    took = time.perf_counter() - began
    return Answered("".join(pieces), 0.0, len(samples) / SAMPLE_RATE, first if first is not None else took, took)
