"""Embeddings that were dropped are made again from the very same samples; a session that comes back has them too."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TypeVar
from weakref import ref

import msgspec
import numpy as np
import pytest
import soundfile
import soxr

from af3stream.audio.pcm import AudioFormat
from af3stream.config import Config, ModelConfig
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import Embeddings
from af3stream.engine.facts import facts_of
from af3stream.engine.worker import Worker
from af3stream.errors import DataLoss
from af3stream.journal.facts import Recovered, SessionFacts
from af3stream.journal.records import AudioInput, AudioRecord, EventRecord, Record
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.audio_replay import heard_again
from af3stream.session.session import Session
from tests.conftest import RECORDINGS
from tests.session.hashing import Hashing, named

M = TypeVar("M", bound=m.Message)
RATES = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000]


@cache
def speech(rate: int) -> bytes:
    """The sample recordings, one after the other with pauses, at a rate: 32 s, as 16-bit samples."""
    pieces = []
    for path in sorted(RECORDINGS.glob("*.wav")):
        pieces += [soundfile.read(path, dtype="float32")[0], np.zeros(16_000, np.float32)]
    samples = np.concatenate(pieces)
    if rate != 16_000:
        samples = soxr.resample(samples, 16_000, rate)
    return np.rint(np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()


class Talk:
    """A session whose journal is a list, with an engine that works at once.

    Args:
        journaled: whether there is a journal.
        disk: whether it takes audio, as it takes events.
    """

    def __init__(
        self, rate: int = 16_000, model: ModelConfig | None = None, *, journaled: bool = True, disk: bool = True
    ) -> None:
        self.engine = Hashing()
        self.records: list[Record] = []
        self.said: list[m.ServerMessage] = []
        self.sent = 0
        self._start = m.Start(rate=rate, interims=False)
        self._disk = disk
        config = Config(model=model or ModelConfig())
        self.worker = Worker(self.engine, config.model)
        self.session = Session(
            "s",
            self._start,
            config=config,
            facts=facts_of(self.engine),
            metrics=Metrics(),
            recorded=self.recorded if journaled else None,
        )
        self.worker.open("s", self.session.audio_source, self.session.note_resident)

    def recorded(self, frame: int) -> Iterator[AudioInput]:
        return (record for record in self.records if not isinstance(record, EventRecord) and record.end > frame)

    def tell(self, *messages: m.ClientMessage) -> None:
        for message in messages:
            self.session.receive(message, 0.0)
            self._carry()

    def hear(self, pcm: bytes, block: int, up_to: int | None = None) -> None:
        """Send what follows, so many frames a message."""
        end = len(pcm) // 2 if up_to is None else up_to
        while self.sent < end:
            frames = min(block, end - self.sent)
            self.tell(m.Audio(self.sent, pcm[2 * self.sent : 2 * (self.sent + frames)]))
            self.sent += frames

    def ask(self, number: int) -> str:
        self.tell(m.Ask(f"q{number}", "What?"))
        return self.said_of(m.Answer)[-1].text

    def said_of(self, kind: type[M]) -> list[M]:
        return [message for message in self.said if isinstance(message, kind)]

    def drop(self) -> None:
        """Have the engine give up all that it keeps of the session."""
        self.worker.evict_all()

    def come_back(self) -> Talk:
        """The same session, in a server that was started again."""
        audio = list(self.recorded(0))
        events = [record for record in self.records if isinstance(record, EventRecord)]
        rate = self._start.rate
        facts = SessionFacts("s", "", AudioFormat(rate=rate), msgspec.json.encode(self._start), 0.0, "hashing")
        again = Talk(rate)
        again.records += self.records
        again.session.restore(Recovered(facts, audio[-1].end, events, iter(audio)))
        again.sent = self.sent
        return again

    def _carry(self) -> None:
        while jobs := self.session.take_jobs():
            for job in jobs:
                self.worker.submit("s", job, lambda job, result, done: self.session.complete(job, result, done, 0.0))
            self.worker.run_all()
        self.records += self.session.take_records()
        durable = max((r.end for r in self.records if not isinstance(r, EventRecord)), default=0) if self._disk else 0
        events = sum(isinstance(record, EventRecord) for record in self.records)
        self.session.committed(durable, events, 0.0)
        self.said += self.session.take_messages()


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("block_s", [0.02, 0.73])
def test_what_was_dropped_is_heard_again_as_it_was(rate: int, block_s: float) -> None:
    talk, pcm = Talk(rate), speech(rate)
    talk.hear(pcm, int(block_s * rate), up_to=11 * rate + 123)
    talk.tell(m.Flush("f"))  # somewhere within a word
    talk.hear(pcm, int(block_s * rate))
    before, encoded = talk.ask(1), talk.engine.counters.sounds_encoded
    closed = len(talk.said_of(m.Window))
    tail = before.count("|") + 1 - closed  # the open window, which every question encodes
    assert closed >= 2 and encoded == closed + tail
    talk.drop()
    assert talk.ask(2) == before
    assert talk.engine.counters.sounds_encoded == 2 * (closed + tail)
    assert talk.ask(3) == before
    assert talk.engine.counters.sounds_encoded == 2 * (closed + tail) + tail  # what is warm again is not encoded again


@pytest.mark.parametrize("rate", RATES)
def test_a_session_that_comes_back_has_the_same_windows_and_utterances(rate: int) -> None:
    first, pcm = Talk(rate), speech(rate)
    block = rate // 10
    first.hear(pcm, block, up_to=11 * rate + 123)
    first.tell(m.Flush("f"))
    first.hear(pcm, block, up_to=25 * rate + 77)
    second = first.come_back()
    assert second.engine.counters.sounds_encoded == 0
    answers = [talk.ask(1) for talk in (first, second)]
    assert answers[0] == answers[1]
    for talk in (first, second):
        talk.hear(pcm, 7 * block)
        talk.tell(m.End(talk.sent))
    assert first.said_of(m.Window)[-1:] == second.said_of(m.Window)[-1:]
    assert first.said_of(m.Ended) == second.said_of(m.Ended)
    finals = [message for message in second.session.greet() if isinstance(message, m.Caption)]
    assert finals == first.said_of(m.Caption)  # the words name the samples


@pytest.mark.parametrize("rate", RATES)
def test_the_last_window_is_heard_again_with_what_the_resampler_held_back(rate: int) -> None:
    talk = Talk(rate)
    talk.hear(speech(rate), rate // 10, up_to=5 * rate)
    closed: list[str] = []
    encode = talk.engine.encode

    def noting(windows: Sequence[Samples]) -> list[Embeddings]:
        closed.extend(named(samples) for samples in windows)
        return encode(windows)

    talk.engine.encode = noting  # type: ignore[method-assign]
    talk.tell(m.End(talk.sent))
    (window,) = talk.said_of(m.Window)
    start, end = (round(seconds * 16_000) for seconds in (window.start, window.end))
    samples = heard_again(talk.recorded, AudioFormat(rate=rate), start, end, ended=True)
    assert named(samples) in closed


def test_samples_wait_in_memory_for_the_disk_and_no_longer() -> None:
    talk = Talk(disk=False)
    talk.hear(speech(16_000), 1_600)
    (entry, *_) = talk.session._pipeline._windows.context._windows
    assert entry.sound
    samples = ref(talk.session.audio_source.read(entry.sound))
    before = talk.ask(1)
    talk.drop()
    assert talk.ask(2) == before
    talk.session.committed(talk.sent, 0, 0.0)
    gc.collect()
    assert samples() is None
    talk.drop()
    assert talk.ask(3) == before


def test_without_a_journal_nothing_is_dropped() -> None:
    talk = Talk(journaled=False)
    talk.hear(speech(16_000), 1_600)
    before, encoded = talk.ask(1), talk.engine.counters.sounds_encoded
    talk.drop()
    assert talk.ask(2) == before
    assert talk.engine.counters.sounds_encoded == encoded + 1  # the open window


def test_without_a_journal_and_within_a_budget_samples_are_kept_instead() -> None:
    talk = Talk(journaled=False, model=ModelConfig(embeddings_budget_mb=100))
    talk.hear(speech(16_000), 1_600)
    before, encoded = talk.ask(1), talk.engine.counters.sounds_encoded
    talk.drop()
    assert talk.ask(2) == before
    assert talk.engine.counters.sounds_encoded == 2 * encoded


def test_a_journal_that_does_not_give_the_audio_back_costs_the_question() -> None:
    talk = Talk()
    talk.hear(speech(16_000), 1_600)
    before = talk.ask(1)
    talk.drop()
    whole, talk.records = talk.records, talk.records[:100]
    talk.tell(m.Ask("lost", "What?"))
    assert [(error.code, error.ref) for error in talk.said_of(m.Error)] == [("engine_failed", "lost")]
    talk.records = whole
    assert talk.ask(2) == before


def test_what_is_missing_at_the_end_is_told() -> None:
    record = AudioRecord(0, bytes(200), 100)
    with pytest.raises(DataLoss):
        heard_again(lambda frame: iter([record]), AudioFormat(), 20, 101, ended=False)
    assert len(heard_again(lambda frame: iter([record]), AudioFormat(), 20, 100, ended=False)) == 80
