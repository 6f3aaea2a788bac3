"""A job on its way: its steps, its urgency, and where its results go."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

from af3stream.engine.contract import Answering, AudioSegment, Context, Engine, PromptPart, Voices
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    Job,
    PrefixLost,
    Result,
    ReviseJob,
    VoiceJob,
)
from af3stream.engine.kv_cache_manager import CachedSession
from af3stream.engine.scheduler import Priority
from af3stream.errors import ModelError

Report = Callable[[Job, Result, bool], None]  # job, result, whether the job is done

ANSWERS_TOGETHER: Final = 8  # answers, each of another session, that are written in one pass a token


class Request:
    """A job on its way: its steps, and where its results go."""

    def __init__(self, job: Job, report: Report) -> None:
        self.job = job
        self.report = report
        self.steps: Generator[Result, None, None] | None = None
        self.answer: Answering | None = None  # once it is asked
        self.retry_solo = False  # it failed together with others
        self.retried = False  # the device ran out of memory under it once
        self.told = 0  # characters of an answer that were reported
        self.read: tuple[PromptPart, ...] | None = None  # by a job over a context, once it has begun


def steps_of(
    running: Request, job: ExtendJob | AnswerJob, kept: CachedSession, engine: Engine
) -> Generator[Result, None, None]:
    """The steps of a job over a session's context; each yields something that is not ``None``."""
    parts = running.read = parts_of(running, kept.context)
    if parts is not job.parts:
        yield PrefixLost()
    for _ in _warmed(kept.context, parts, engine):
        yield ""
    if isinstance(job, ExtendJob):
        for _ in kept.context.extend(parts):
            yield ""
        return
    running.answer = answer = kept.context.answer(parts, job.question, job.max_tokens, job.earlier)
    try:
        yield from _told_once(running, answer)
    finally:
        answer.close()
        if running.answer is answer:  # where this one hung and was given up, there is another by now
            running.answer = None


def parts_of(running: Request, context: Context) -> tuple[PromptPart, ...]:
    """The parts that a job over a context reads, as things stand; what a job told is never told of other parts."""
    job = running.job
    assert isinstance(job, ExtendJob | AnswerJob)
    if running.told and running.read is not None:
        return running.read
    if isinstance(job, AnswerJob) and context.held(job.parts) < job.prefix:
        return job.instead
    return job.parts


def _told_once(running: Request, answer: Answering) -> Iterator[Result]:
    """The pieces of an answer; a job done once more does not repeat what it has told."""
    again = running.told
    for piece in answer:
        if not isinstance(piece, str):
            yield piece
            continue
        fresh, again = piece[again:], max(0, again - len(piece))
        running.told += len(fresh)
        yield fresh


def encode(sounds: Sequence[AudioSegment], engine: Engine) -> None:
    """Encode the sounds that are not encoded; those whose samples were given up are read again first."""
    for sound in sounds:
        sound.recall()
    engine.encode(sounds)


def hear_voices(job: VoiceJob, engine: Engine) -> Voices:
    """Hear the voices of an utterance.

    Raises:
        ModelError: if the engine has no voice encoder, or its weights cannot be loaded.
    """
    if engine.voices is None:
        raise ModelError("no voices are loaded")
    return engine.voices.embed([job.samples[start:end] for start, end in job.stretches])


def _warmed(context: Context, parts: Sequence[PromptPart], engine: Engine) -> Iterator[None]:
    """Encode what has to be there of a body, a pass a step, until all of it is."""
    yield
    while cold := [
        part for part in parts[context.held(parts) :] if isinstance(part, AudioSegment) and part.embeddings is None
    ]:
        encode(cold[: engine.encode_together], engine)
        yield


def most_together(running: Request, engine: Engine) -> int:
    """How many jobs like this one may be done in one step."""
    if running.retry_solo:
        return 1
    if isinstance(running.job, EncodeJob):
        return engine.encode_together
    return ANSWERS_TOGETHER if running.answer and engine.is_decoding(running.answer) else 1


def priority_of(job: Job) -> Priority:
    """Return how urgent a job is.

    The second pass and the reading of a window's captions take about a second, and every later question gains by them.
    So they are as urgent as answers, and alternate with questions that follow each other without a pause.
    """
    match job:
        case CaptionJob(final=True, late=late) | VoiceJob(late=late):
            return Priority.LATE_FINAL if late else Priority.FINAL
        case CaptionJob(urgent=False):
            return Priority.INTERIM
        case AnswerJob() | CaptionJob() | ReviseJob(late=False) | ExtendJob(captions_only=True):
            return Priority.ANSWER
        case _:
            return Priority.CATCH_UP
