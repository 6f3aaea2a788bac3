"""A job on its way through the engine: where it stands, how urgent it is, and what it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from af3stream.engine.contract import AudioSegment, Engine, Prefix, PromptPart
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    Job,
    Result,
    ReviseJob,
    SoundJob,
    VoiceJob,
)
from af3stream.engine.scheduler import Priority

Report = Callable[[Job, Result, bool], None]  # job, result, whether the job is done

MAX_DECODE_BATCH: Final = 8  # answers, each of another session, that are decoded in one pass a token


class Status(Enum):
    """Where a request stands."""

    QUEUED = "queued"
    WAITING = "waiting for memory"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


NEXT: Final = {
    Status.QUEUED: (Status.WAITING, Status.RUNNING, Status.FAILED, Status.CANCELLED),
    Status.WAITING: (Status.QUEUED, Status.RUNNING, Status.FAILED, Status.CANCELLED),
    Status.RUNNING: (Status.QUEUED, Status.DONE, Status.FAILED, Status.CANCELLED),
    Status.DONE: (),
    Status.FAILED: (),
    Status.CANCELLED: (),
}


@dataclass(eq=False, slots=True)
class Request:
    """A job on its way.

    Attributes:
        report: called with each result, in order; the last time with ``done``.
        parts: what a job over the KV prefix reads; decided when its memory is reserved.
        decoding: whether its next step writes a token of an answer.
        solo: whether it shares no step with others, because a step that it shared failed.
        retried: whether the device ran out of memory under it once.
        reported: characters of the answer that were reported.
    """

    session: str
    job: Job
    report: Report
    status: Status = Status.QUEUED
    parts: tuple[PromptPart, ...] = ()
    decoding: bool = False
    solo: bool = False
    retried: bool = False
    reported: int = 0

    def move(self, status: Status) -> None:
        """Take another status.

        Raises:
            ValueError: if it does not follow from this one.
        """
        if status is not self.status and status not in NEXT[self.status]:
            raise ValueError(f"a request that is {self.status.value} cannot be {status.value}")
        self.status = status

    def requeue(self) -> None:
        """Begin again; what was reported stays reported."""
        self.move(Status.QUEUED)
        self.decoding = False

    def parts_over(self, prefix: Prefix) -> tuple[PromptPart, ...]:
        """Return what a job over the KV prefix reads, as things stand.

        An answer whose first words were reported stays with the parts that they were about.
        """
        job = self.job
        assert isinstance(job, ExtendJob | AnswerJob)
        if self.reported:
            return self.parts
        if isinstance(job, AnswerJob) and prefix.held(job.parts) < job.prefix:
            return job.instead
        return job.parts


def segments_in(parts: Iterable[PromptPart]) -> list[AudioSegment]:
    """Return the audio segments among parts."""
    return [part for part in parts if isinstance(part, AudioSegment)]


def segments_of(job: Job) -> list[AudioSegment]:
    """Return the audio segments that a job may read."""
    match job:
        case EncodeJob(segment=segment) | SoundJob(segment=segment):
            return [segment]
        case ExtendJob(parts=parts):
            return segments_in(parts)
        case AnswerJob(parts=parts, instead=instead):
            return segments_in([*parts, *instead])
        case _:
            return []


def batch_limit(request: Request, engine: Engine) -> int:
    """Return how many requests like this one may share a step."""
    if request.solo:
        return 1
    if isinstance(request.job, EncodeJob):
        return engine.encode_together
    return MAX_DECODE_BATCH if request.decoding else 1


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
        case AnswerJob() | CaptionJob() | ReviseJob(late=False):
            return Priority.ANSWER
        case ExtendJob(captions_only=True) | ExtendJob(urgent=True):
            return Priority.ANSWER
        case _:
            return Priority.CATCH_UP
