"""Run a session without a server: caption files and answer questions in the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from math import inf
from pathlib import Path
from typing import Final

import msgspec

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.files import normalise, read_mono_16k, stream_blocks
from af3stream.audio.pcm import AudioFormat
from af3stream.config import Config
from af3stream.engine.captioning import Hypothesis
from af3stream.engine.factory import Loaded
from af3stream.engine.jobs import CaptionJob, EncodeJob, ExtendJob, Job, Result, SoundJob
from af3stream.engine.worker import Worker
from af3stream.errors import EngineError, EngineRestart
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.session.question_text import clean
from af3stream.session.session import Session

BLOCK_MS: Final = 1_000

Progress = Callable[[float], None]  # called with the seconds of a file that are done


@dataclass(frozen=True, slots=True)
class Transcript:
    """The final captions of a file, sounds as captions of utterance -1, and its length in seconds."""

    captions: tuple[m.Caption, ...]
    seconds: float

    @property
    def text(self) -> str:
        """All words."""
        return " ".join(caption.text for caption in self.captions if caption.utterance >= 0)


def transcribe(
    path: Path,
    config: Config,
    loaded: Loaded,
    tell: Callable[[m.Caption], None] = lambda _: None,
    progress: Progress = lambda _: None,
    *,
    speakers: bool | int = False,
    words: bool = False,
) -> Transcript:
    """Caption a file. The final captions equal those of a session that streams it.

    Args:
        words: whether captions say when each word was said, if the captioner can.
        tell: called with each final caption when its words can no longer change.
        speakers: whether captions say who speaks; a number: so many people at most.

    Raises:
        SourceError: if the file cannot be read.
        EngineError: if an utterance cannot be captioned.
    """
    captions, told, closed_to = FinalCaptions(), 0, 0.0

    def hear(message: m.ServerMessage) -> None:
        nonlocal closed_to
        captions.add(message)
        if isinstance(message, m.Window):
            closed_to = message.end

    def tell_settled(until: float) -> None:
        nonlocal told
        for caption in takewhile(lambda caption: caption.end <= until, islice(captions.with_sounds, told, None)):
            tell(caption)
            told += 1

    def sent(seconds: float) -> None:
        tell_settled(closed_to)
        progress(seconds)

    audio_format, blocks = stream_blocks(path, BLOCK_MS)
    naming = config.audio.mode == "everything" and loaded.facts.sure is not None  # in encoded windows alone
    captioned = Loaded(loaded.engine, "all" if naming else "off", loaded.licence, "uncaptioned")
    skipped: tuple[type[Job], ...] = (ExtendJob,) if naming else (EncodeJob, ExtendJob)
    words = words and loaded.facts.captioner.times_words
    session = _Synchronous(audio_format, config, captioned, hear, skipped=skipped, speakers=speakers, words=words)
    session.send(blocks, sent)
    session.receive(m.End(session.sent))
    tell_settled(inf)
    return Transcript(tuple(captions.with_sounds), session.seconds)


class HeardFile:
    """A file that was processed once. Questions about it get the answers of a session that has caught up.

    Args:
        by_ear: put every window into the prompt as audio, without captions.
        normalised: scale the file first, as the model's quickstart does.
        instructions: the system turn of every question; empty: the model's own.
        progress: called with the seconds processed so far.

    Attributes:
        seconds: length of the file.
        windows: the windows that a question can use, or could use before they were evicted.

    Raises:
        SourceError: if the file cannot be read.
        EngineError: if an utterance cannot be captioned, or a window cannot be encoded.
        Refusal: for instructions that are too long.
    """

    def __init__(
        self,
        path: Path,
        config: Config,
        loaded: Loaded,
        *,
        by_ear: bool = False,
        normalised: bool = False,
        instructions: str = "",
        progress: Progress = lambda _: None,
    ) -> None:
        self.windows: list[m.Window] = []
        self._captions = FinalCaptions()
        self._answers: list[m.Answer] = []
        self._piece: Callable[[str], None] = lambda _: None
        if by_ear:
            loaded = Loaded(loaded.engine, "off", loaded.licence)
        audio_format, blocks = _scaled(path) if normalised else stream_blocks(path, BLOCK_MS)
        unhurried = max(config.questions.read_tokens, loaded.facts.capacity.positions)
        questions = msgspec.structs.replace(config.questions, read_tokens=unhurried)
        config = msgspec.structs.replace(config, questions=questions)
        skipped = (CaptionJob, SoundJob) if by_ear else ()
        self._session = _Synchronous(
            audio_format, config, loaded, self._take, skipped=skipped, instructions=instructions
        )
        self._session.send(blocks, progress)
        self._session.receive(m.Flush("end"))
        self.seconds = self._session.seconds

    @property
    def captions(self) -> list[m.Caption]:
        """All final captions."""
        return [*self._captions]

    def ask(self, text: str, *, follows_up: bool = False, piece: Callable[[str], None] = lambda _: None) -> m.Answer:
        """Ask about the whole file.

        Args:
            follows_up: whether the question follows up the one before it, if there is one.
            piece: called with each piece of the answer.

        Raises:
            Refusal: if the question has no words, or is too long.
            EngineError: if it cannot be answered.
        """
        self._piece = piece
        after = self._answers[-1].id if follows_up and self._answers else None
        self._session.receive(m.Ask(f"q{len(self._answers) + 1}", text, after=after))
        return self._answers[-1]

    def captions_alone_until(self, answer: m.Answer) -> float | None:
        """Return where the windows of an answer begin, if the prompt has captions of earlier windows."""
        left = any(window.end <= answer.start for window in self.windows)
        return answer.start if left and _begin(answer) < answer.start else None

    def left_out_until(self, answer: m.Answer) -> float | None:
        """Return the second before which an answer used neither audio nor captions."""
        begin = _begin(answer)
        ends = [window.end for window in self.windows] + [caption.end for caption in self.captions if caption.text]
        return begin if any(end <= begin for end in ends) else None

    def _take(self, message: m.ServerMessage) -> None:
        match message:
            case m.Window():
                self.windows.append(message)
            case m.Caption() | m.CaptionUpdate() | m.SpeakerUpdate():
                self._captions.add(message)
            case m.AnswerDelta():
                self._piece(message.text)
            case m.Answer():
                self._answers.append(message)


def check_question(text: str, config: Config) -> None:
    """Check a question before the file is processed.

    Raises:
        Refusal: if the question has no words, or is too long.
    """
    clean(text, "question", config.questions)


def _begin(answer: m.Answer) -> float:
    """Return where the audio and captions of an answer begin, in seconds."""
    return answer.start if answer.captions_from is None else min(answer.start, answer.captions_from)


class _Synchronous:
    """A session in the caller's thread. All effects of a message are complete before the next message.

    Attributes:
        sent: sample frames.

    Args:
        tell: called with each message of the session.
        skipped: kinds of jobs that are not run, because their results are not needed.
        words: whether captions say when each word was said.
        instructions: the system turn of every question.
    """

    def __init__(
        self,
        audio_format: AudioFormat,
        config: Config,
        loaded: Loaded,
        tell: Callable[[m.ServerMessage], None],
        *,
        skipped: tuple[type[Job], ...] = (),
        speakers: bool | int = False,
        words: bool = False,
        instructions: str = "",
    ) -> None:
        self.sent = 0
        self._format = audio_format
        self._tell = tell
        self._skipped = skipped
        self._worker = Worker(loaded.engine)
        captions = msgspec.structs.replace(config.captions, early_final_ms=0)  # nobody waits for the end of a pause
        config = msgspec.structs.replace(config, captions=captions)
        self._session = Session(
            "offline",
            m.Start(
                audio_format.format,
                audio_format.rate,
                audio_format.channels,
                interims=False,
                speakers=speakers,
                words=words,
                instructions=instructions,
            ),
            config=config,
            facts=loaded.facts,
            metrics=Metrics(),
        )
        self._worker.open(self._session.id, self._session.audio_source, self._session.note_resident)

    @property
    def seconds(self) -> float:
        """Seconds of audio sent."""
        return self.sent / self._format.rate

    def send(self, blocks: Iterable[bytes], progress: Progress) -> None:
        """Send the next audio to the session."""
        for pcm in blocks:
            self.receive(m.Audio(self.sent, pcm))
            self.sent += self._format.frames(pcm)
            progress(self.seconds)

    def receive(self, message: m.ClientMessage) -> None:
        """Pass a message to the session, and run its jobs.

        Raises:
            Refusal: if the session refuses the message.
            EngineError: if a job fails.
        """
        self._session.receive(message, time.monotonic())
        self._hand_on()
        while jobs := self._session.take_jobs():
            for job in jobs:
                if isinstance(job, self._skipped):
                    self._completed(job, Hypothesis("") if isinstance(job, CaptionJob) else None, True)
                else:
                    self._worker.submit(self._session.id, job, self._completed)
            self._worker.run_all()

    def _completed(self, job: Job, result: Result, done: bool) -> None:
        self._session.complete(job, result, done, time.monotonic())
        self._hand_on()

    def _hand_on(self) -> None:
        for message in self._session.take_messages():
            if isinstance(message, m.Error) and message.code != EngineRestart.code:
                raise EngineError(message.message)
            self._tell(message)


def _scaled(path: Path) -> tuple[AudioFormat, Iterator[bytes]]:
    """Yield the samples that the service would decode, scaled to full range, in blocks."""
    samples = normalise(read_mono_16k(path))
    size = SAMPLE_RATE * BLOCK_MS // 1_000
    blocks = (samples[at : at + size].astype("<f4").tobytes() for at in range(0, len(samples), size))
    return AudioFormat("pcm_f32le", SAMPLE_RATE, 1), blocks
