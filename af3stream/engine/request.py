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
    DECODING = "decoding"  # its next step writes a token of an answer, and may be shared
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_ENDED: Final = (Status.FAILED, Status.CANCELLED)

NEXT: Final = {
    Status.QUEUED: (Status.WAITING, Status.RUNNING, *_ENDED),
    Status.WAITING: (Status.QUEUED, Status.RUNNING, *_ENDED),
    Status.RUNNING: (Status.QUEUED, Status.DECODING, Status.DONE, *_ENDED),
    Status.DECODING: (Status.QUEUED, Status.RUNNING, Status.DONE, *_ENDED),
    Status.DONE: (),
    Status.FAILED: (),
    Status.CANCELLED: (),
}


class Attempt(Enum):
    """What was tried before."""

    FIRST = "nothing failed"
    ALONE = "a step failed that it shared"  # so it shares no other one
    LAST = "the device ran out of memory"  # nor does it begin once more


@dataclass(eq=False, slots=True)
class Request:
    """A job on its way.

    Attributes:
        report: called with each result, in order; the last time with ``done``.
        parts: what a job over the KV prefix reads; decided when its memory is reserved.
        reported: characters of the answer that were reported.
    """

    session: str
    job: Job
    report: Report
    status: Status = Status.QUEUED
    attempt: Attempt = Attempt.FIRST
    parts: tuple[PromptPart, ...] = ()
    reported: int = 0

    @property
    def runs(self) -> bool:
        """Whether it has its memory, and may have begun."""
        return self.status in (Status.RUNNING, Status.DECODING)

    def move(self, status: Status) -> None:
        """Take another status.

        Raises:
            ValueError: if it does not follow from this one.
        """
        if status is not self.status and status not in NEXT[self.status]:
            raise ValueError(f"a request that is {self.status.value} cannot be {status.value}")
        self.status = status

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
    if request.attempt is not Attempt.FIRST:
        return 1
    if isinstance(request.job, EncodeJob):
        return engine.encode_together
    return MAX_DECODE_BATCH if request.status is Status.DECODING else 1


def kv_apart(job: Job, engine: Engine) -> int:
    """Return the most bytes of keys and values that a job takes beside its session's KV prefix."""
    match job:
        case CaptionJob() | ReviseJob():
            return engine.captioner.kv_bytes(job.request)
        case SoundJob(frames=(first, last)) if engine.sounds:
            return engine.sounds.kv_bytes(last - first)
        case _:
            return 0


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
