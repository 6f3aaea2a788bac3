"""What a whole session costs, in counts: nothing is encoded or read twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3stream.config import Config, ModelConfig
from af3stream.engine.af3.checkpoint import LoadedCheckpoint, load_checkpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.facts import facts_of
from af3stream.engine.worker import Worker
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.session import Session
from tests.conftest import RECORDINGS
from tests.engine import reference

QUESTION = "What was said?"


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedCheckpoint:
    return load_checkpoint(tiny_folder, ModelConfig())


@pytest.fixture(scope="module")
def speech() -> bytes:
    """The sample recordings, one after the other with pauses: s16le, 16 kHz, half a minute."""
    pieces = []
    for path in sorted(RECORDINGS.glob("*.wav")):
        pieces += [soundfile.read(path, dtype="int16")[0], np.zeros(12_800, np.int16)]
    return np.concatenate(pieces).tobytes()


class Conversation:
    """A session and its engine, in one thread; everything it ever said."""

    def __init__(self, loaded: LoadedCheckpoint, *, interims: bool = False) -> None:
        self.engine = Af3Engine(loaded, "tiny")
        self.said: list[m.ServerMessage] = []
        self._worker = Worker(self.engine)
        self._now = 0.0
        self._session = Session(
            "s", m.Start(interims=interims), config=Config(), facts=facts_of(self.engine), metrics=Metrics()
        )
        self._worker.open("s", self._session.audio_source, self._session.note_resident)

    def send(self, message: m.ClientMessage, *, seconds: float = 0.0) -> None:
        self._now += seconds
        self._session.receive(message, self._now)
        while jobs := self._session.take_jobs():
            for job in jobs:
                self._worker.submit("s", job, lambda job, result, done: self._session.complete(job, result, done, 0.0))
            self._worker.run_all()
        self.said += self._session.take_messages()

    def stream(self, pcm: bytes, block: int = 3_200) -> None:
        for start in range(0, len(pcm), block):
            self.send(m.Audio(start // 2, pcm[start : start + block]), seconds=block / 32_000)

    def of(self, kind: type[m.ServerMessage]) -> list[m.ServerMessage]:
        return [message for message in self.said if isinstance(message, kind)]


def test_one_encoder_pass_a_window_and_one_an_utterance(tiny: LoadedCheckpoint, speech: bytes) -> None:
    talk = Conversation(tiny)
    talk.stream(speech)
    talk.send(m.End(len(speech) // 2))
    (ended,) = talk.of(m.Ended)
    assert isinstance(ended, m.Ended)
    assert (ended.windows, ended.utterances) == (2, 5)
    assert talk.engine.counters.sounds_encoded == ended.windows
    assert talk.engine.counters.caption_encodes == ended.utterances
    assert talk.engine.counters.encoder_passes == ended.windows + ended.utterances
    window_tokens = sum(w.tokens for w in talk.of(m.Window) if isinstance(w, m.Window))
    assert talk.engine.counters.rebuilds == 0
    assert ended.heard_s == pytest.approx(window_tokens / 25, abs=0.1)


def test_a_question_costs_its_tail_and_itself(tiny: LoadedCheckpoint, speech: bytes) -> None:
    talk = Conversation(tiny)
    talk.stream(speech[: 22 * 32_000])  # one window is closed, and another one open
    before = talk.engine.counters.encoder_passes, talk.engine.counters.prefill_tokens
    talk.send(m.Ask("q", QUESTION, max_tokens=8))
    (answer,) = talk.of(m.Answer)
    (window,) = talk.of(m.Window)
    assert isinstance(answer, m.Answer)
    assert isinstance(window, m.Window)
    tail = talk.engine.tokens.frames(round((answer.end - window.end) * 16_000))
    question = len(talk.engine._fusion.question(QUESTION))
    assert talk.engine.counters.encoder_passes - before[0] == 1
    assert abs(talk.engine.counters.prefill_tokens - before[1] - question - tail) <= 25  # the pause between them


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(2, id="a sample", marks=pytest.mark.slow),
        pytest.param(640, id="20 ms"),
        pytest.param(7_002, id="odd"),
        pytest.param(96_000, id="3 s"),
    ],
)
def test_any_chunking_gives_the_same_words_and_windows(tiny: LoadedCheckpoint, speech: bytes, block: int) -> None:
    part = speech[: 4 * 32_000] if block == 2 else speech  # a message a sample takes long
    whole, pieces = Conversation(tiny), Conversation(tiny)
    whole.stream(part, 160_000)
    pieces.stream(part, block)
    for talk in (whole, pieces):
        talk.send(m.End(len(part) // 2))
    kinds: list[type[m.ServerMessage]] = [m.Caption, m.Window, m.Ended]
    for kind in kinds:
        assert pieces.of(kind) == whole.of(kind)


def test_a_sessions_answer_is_what_generate_gives_on_its_windows(tiny: LoadedCheckpoint, speech: bytes) -> None:
    talk = Conversation(tiny)
    talk.stream(speech[: 24 * 32_000])
    talk.send(m.Ask("q", QUESTION, max_tokens=16))
    (answer,) = talk.of(m.Answer)
    (window,) = talk.of(m.Window)
    assert isinstance(answer, m.Answer)
    assert isinstance(window, m.Window)
    samples = np.frombuffer(speech, "<i2").astype(np.float32) / 32_768
    *_, started = (s.at for s in talk.of(m.Speech) if isinstance(s, m.Speech) and s.state == "started")
    ranges = [(window.start, window.end), (started, answer.end)]
    body = [samples[round(start * 16_000) : round(end * 16_000)] for start, end in ranges]
    assert answer.text == talk.engine.text(reference.reply(tiny, body, QUESTION, 16))
