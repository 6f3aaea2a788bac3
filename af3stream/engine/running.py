"""A job on its way: its steps, its urgency, and where its results go."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from af3stream.engine.contract import Engine, Sound
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Job, Result
from af3stream.engine.scheduler import Priority
from af3stream.engine.warmth import Kept

Report = Callable[[Job, Result, bool], None]  # job, result, whether the job is done


class Running:
    """A job on its way: its steps, and where its results go."""

    def __init__(self, job: Job, report: Report) -> None:
        self.job = job
        self.report = report
        self.steps: Iterator[Result] | None = None
        self.alone = False  # it failed together with others
        self.again = False  # the device ran out of memory under it once
        self.told = 0  # characters of an answer that were reported


def steps_of(running: Running, job: ExtendJob | AnswerJob, kept: Kept, engine: Engine) -> Iterator[Result]:
    """The steps of a job over a session's context; each yields something that is not ``None``."""
    engine.encode([part for part in job.parts if isinstance(part, Sound)])
    yield ""
    if isinstance(job, ExtendJob):
        for _ in kept.context.extend(job.parts):
            yield ""
        kept.parts = job.parts
        return
    if lost := kept.lost(job.parts):
        for _ in kept.context.extend(lost):
            yield ""
    again = running.told  # a job done once more says the same again
    for piece in kept.context.answer(job.parts, job.question, job.max_tokens):
        if not isinstance(piece, str):
            yield piece
            continue
        fresh, again = piece[again:], max(0, again - len(piece))
        running.told += len(fresh)
        yield fresh


def joins(running: Running) -> bool:
    """Whether a job may be done together with others."""
    return isinstance(running.job, EncodeJob) and not running.alone


def priority_of(job: Job) -> Priority:
    """How urgent a job is."""
    match job:
        case CaptionJob(final=True):
            return Priority.FINAL
        case CaptionJob():
            return Priority.INTERIM
        case AnswerJob():
            return Priority.ANSWER
        case _:
            return Priority.CATCH_UP
