"""Measure the memory of a long session by part, and whether any part grows once the context window is full.

The recordings are fed to a session as fast as it processes them, with a question a minute. Keys and values are counted
by resident pages (Linux). ``python -m bench.memory [--quick]``
"""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import numpy as np
import torch

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.kv import Slot
from af3stream.engine.factory import load_engine
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import AnswerJob, Job, Result
from af3stream.engine.worker import Worker
from af3stream.metrics import Metrics
from af3stream.models.registry import resolve
from af3stream.protocol import messages as m
from af3stream.server.load import resident_bytes
from af3stream.session.session import Session
from bench.common import RATE, config, quick, report, speech

QUESTION: Final = "What was said about the young man?"
BLOCK: Final = RATE
PAUSE_S: Final = 0.8
LIBC: Final = ctypes.CDLL(None, use_errno=True)
PARTS: Final = ("kv", "embeddings", "audio", "rest", "all")


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench in seconds of audio: the session, the part after it, and the interval between questions."""

    session_s: float = 600.0
    after_s: float = 120.0
    asked_every_s: float = 60.0
    tokens: int = 16


QUICK: Final = Size(40.0, 20.0, 20.0, 4)


def main(argv: list[str] | None = None) -> None:
    """Feed ten minutes and more to a session, and measure the memory at each second of audio."""
    size = QUICK if quick(__doc__, argv) else Size()
    listening = Listening(size)
    seconds = listening.measured
    before = [at for at in seconds if at < size.session_s]
    peaks = {part: max(seconds[at][part] for at in before) for part in PARTS}
    full = [at for at in before if at >= size.session_s - size.after_s]
    after = [at for at in seconds if at >= size.session_s]
    growth = {part: max(seconds[at][part] for at in after) - max(seconds[at][part] for at in full) for part in PARTS}
    report(
        "memory",
        minutes=size.session_s / 60,
        minutes_after=size.after_s / 60,
        windows=listening.windows,
        weights_mb=listening.weights / 1e6,
        peak_mb={part: bytes_ / 1e6 for part, bytes_ in peaks.items()},
        grown_after_mb={part: bytes_ / 1e6 for part, bytes_ in growth.items()},
        kv_over_arithmetic=listening.kv_over_arithmetic,
        all_mb_by_minute=[max(seconds[at]["all"] for at in group) / 1e6 for group in minutes(seconds)],
        ttft_s_by_age_s=listening.first_token_s,
    )


def minutes(seconds: dict[float, Any]) -> list[list[float]]:
    """Group the measured times by minute."""
    last = int(max(seconds) // 60)
    return [[at for at in seconds if at // 60 == minute] for minute in range(last + 1)]


class Listening:
    """A session over the engine, measured as it receives audio.

    Attributes:
        measured: bytes by part without the weights, by seconds of audio.
        weights: bytes of the weights of model and captioner.
        kv_over_arithmetic: resident bytes of keys and values over those of the written positions, at the peak.
        first_token_s: time to first token of each question, by the session's age in seconds of audio.
        windows: number of closed windows.
    """

    def __init__(self, size: Size) -> None:
        loaded = load_engine(config())
        assert isinstance(loaded.engine, Af3Engine)
        self._engine = loaded.engine
        self._slots = watch(self._engine)
        self._worker = Worker(self._engine)
        self._session = Session(
            "bench",
            m.Start(interims=False),
            config=config(),
            facts=facts_of(self._engine, loaded.notes),
            metrics=Metrics(),
        )
        self._worker.open("bench", self._session.audio_source, self._session.note_resident)
        self.weights = weight_bytes(self._engine)
        self.measured: dict[float, dict[str, float]] = {}
        self.first_token_s: dict[str, float] = {}
        self.windows = 0
        self._most = self._arithmetic = 0
        self._asked: dict[Job, tuple[str, float]] = {}
        self._hear(size)

    @property
    def kv_over_arithmetic(self) -> float:
        """Ratio of resident to written keys and values; see the class."""
        return self._most / self._arithmetic

    def _hear(self, size: Size) -> None:
        pcm = (speech(size.session_s + size.after_s, PAUSE_S) * 32_767).astype("<i2")
        next_ask = size.asked_every_s
        for at in range(0, len(pcm), BLOCK):
            now = min(at + BLOCK, len(pcm)) / RATE
            self._session.receive(m.Audio(at, pcm[at : at + BLOCK].tobytes()), now)
            self._work(now)
            if now >= next_ask:
                self._session.receive(m.Ask(f"q{now:g}", QUESTION, max_tokens=size.tokens), now)
                self._work(now)
                next_ask += size.asked_every_s
            self._measure(now)

    def _work(self, now: float) -> None:
        def done(job: Job, result: Result, ended: bool) -> None:
            if job in self._asked and isinstance(result, str) and result:
                age, asked = self._asked.pop(job)
                self.first_token_s[age] = time.perf_counter() - asked
            self._session.complete(job, result, ended, now)

        while jobs := self._session.take_jobs():
            for job in jobs:
                if isinstance(job, AnswerJob):
                    self._asked[job] = (f"{now:g}", time.perf_counter())
                self._worker.submit("bench", job, done)
            self._run()
        self.windows += sum(isinstance(message, m.Window) for message in self._session.take_messages())

    def _run(self) -> None:
        """Run all jobs, and measure the slots after each step, because a rebuild holds two at a time."""
        while self._worker.step():
            kv = sum(resident(tensor) for slot in self._slots for tensor in tensors(slot))
            if kv > self._most:
                self._most = kv
                self._arithmetic = sum(slot.written * slot.nbytes // slot.capacity for slot in self._slots)

    def _measure(self, now: float) -> None:
        parts: dict[str, float] = {
            "kv": sum(resident(tensor) for slot in self._slots for tensor in tensors(slot)),
            "embeddings": self._worker.embedding_bytes,
            "audio": self._session._pipeline._segmenter._samples._data.nbytes,
            "all": resident_bytes(),
        }
        parts["rest"] = parts["all"] - self.weights - parts["kv"] - parts["embeddings"] - parts["audio"]
        self.measured[now] = parts


def watch(engine: Af3Engine) -> WeakSet[Slot]:
    """Record all slots that the engine creates from now on."""
    slots = WeakSet[Slot]()
    new_slot = engine._decoder.new_slot

    def noted_slot(capacity: int) -> Slot:
        slot = new_slot(capacity)
        slots.add(slot)
        return slot

    engine._decoder.new_slot = noted_slot  # type: ignore[method-assign]  # records new slots
    return slots


def weight_bytes(engine: Af3Engine) -> int:
    """Return the bytes of the weights of the model, and of the captioner if it has its own."""
    held = chain(engine._loaded.model.parameters(), engine._loaded.model.buffers())
    model: dict[int, int] = {id(tensor): tensor.nbytes for tensor in held}
    captioner = resolve(config().model.name).captioner
    folder = Path(captioner) if captioner and engine.captioner.name != "af3" else None
    return sum(model.values()) + ((folder / "model.bin").stat().st_size if folder else 0)


def tensors(slot: Slot) -> Iterator[torch.Tensor]:
    """Yield the keys and values of a slot."""
    for layer in slot.layers:
        yield layer.keys
        yield layer.values


def resident(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor whose pages are resident."""
    begin, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    first = begin - begin % mmap.PAGESIZE
    pages = (ctypes.c_ubyte * -(-(end - first) // mmap.PAGESIZE))()
    if LIBC.mincore(ctypes.c_void_p(first), ctypes.c_size_t(end - first), pages):
        raise OSError(ctypes.get_errno(), "mincore")
    return min(tensor.nbytes, int(np.frombuffer(bytes(pages), np.uint8).astype(np.int64).sum() * mmap.PAGESIZE))


if __name__ == "__main__":
    main()
