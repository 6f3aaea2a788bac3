"""A job on its way: its steps, its urgency, and where its results go."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from af3stream.engine.contract import (
    Answering,
    AudioSegment,
    AudioSource,
    Context,
    Embeddings,
    Engine,
    PromptPart,
    Samples,
)
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Job, PrefixLost, Result, ReviseJob
from af3stream.engine.kv_cache_manager import CachedSession
from af3stream.engine.scheduler import Priority
from af3stream.errors import DataLoss

Report = Callable[[Job, Result, bool], None]  # job, result, whether the job is done

ANSWERS_TOGETHER: Final = 8  # answers, each of another session, that are written in one pass a token


@dataclass(frozen=True, slots=True)
class Encoded:
    """Segments that a step encoded, and their embeddings."""

    embeddings: dict[AudioSegment, Embeddings]


Steps = Generator[Result | Encoded, None, None]


class Request:
    """A job on its way: its steps, and where its results go."""

    def __init__(self, job: Job, report: Report) -> None:
        self.job = job
        self.report = report
        self.steps: Steps | None = None
        self.answer: Answering | None = None  # once it is asked
        self.retry_solo = False  # it failed together with others
        self.retried = False  # the device ran out of memory under it once
        self.told = 0  # characters of an answer that were reported
        self.read: tuple[PromptPart, ...] | None = None  # by a job over a context, once it has begun


def steps_of(
    running: Request,
    job: ExtendJob | AnswerJob,
    kept: CachedSession,
    engine: Engine,
    missing: Callable[[Sequence[PromptPart]], list[AudioSegment]],
    source: AudioSource | None,
) -> Steps:
    """The steps of a job over a session's context; each yields something that is not ``None``.

    Args:
        missing: which segments among parts are not resident.
        source: where their samples come from.
    """
    parts = running.read = parts_of(running, kept.context)
    if parts is not job.parts:
        yield PrefixLost()
    yield ""
    own = job.samples if isinstance(job, AnswerJob) else {}
    while segments := missing(parts[kept.context.held(parts) :])[: engine.encode_together]:
        samples = [own[segment] if segment in own else read(segment, source) for segment in segments]
        yield Encoded(dict(zip(segments, engine.encode(samples), strict=True)))
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


def read(segment: AudioSegment, source: AudioSource | None) -> Samples:
    """Return a segment's samples.

    Raises:
        DataLoss: if they are gone.
    """
    if source is None:
        raise DataLoss("samples", segment.start, segment.end)
    return source.read(segment)


def segments_of(job: Job) -> list[AudioSegment]:
    """Return the segments that a job names."""
    match job:
        case EncodeJob(segment=segment):
            return [segment]
        case ExtendJob(parts=parts):
            return segments_in(parts)
        case AnswerJob(parts=parts, instead=instead):
            return segments_in([*parts, *instead])
        case _:
            return []


def segments_in(parts: Sequence[PromptPart]) -> list[AudioSegment]:
    """Return the segments among parts."""
    return [part for part in parts if isinstance(part, AudioSegment)]


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
        case CaptionJob(final=True, late=late):
            return Priority.LATE_FINAL if late else Priority.FINAL
        case CaptionJob(urgent=False):
            return Priority.INTERIM
        case AnswerJob() | CaptionJob() | ReviseJob(late=False) | ExtendJob(captions_only=True):
            return Priority.ANSWER
        case _:
            return Priority.CATCH_UP
