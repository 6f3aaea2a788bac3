"""The engine's spans of captions and answers that are traced."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from af3stream.engine.jobs import AnswerJob, CaptionJob
from af3stream.engine.request import Request, Status
from af3stream.tracing import Tracing


@dataclass(slots=True)
class _Times:
    """When things happened to a request, in clock seconds."""

    submitted: float
    began: float | None = None
    first_text: float | None = None


class RequestTraces:
    """Adds spans to the traces of jobs: `queue`, until the first step, and `decode`, until the last.

    Of an answer, `prefill` is before `decode`: it ends with the first piece of text.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._times: dict[Request, _Times] = {}

    def submitted(self, request: Request) -> None:
        """Note that a request is queued."""
        if isinstance(request.job, CaptionJob | AnswerJob) and request.job.trace:
            self._times[request] = _Times(time.monotonic())

    def began(self, requests: Iterable[Request]) -> None:
        """Note that a step of these requests begins."""
        for request in requests:
            if (times := self._times.get(request)) and times.began is None:
                times.began = time.monotonic()

    def told(self, request: Request) -> None:
        """Note that a request has reported text."""
        if (times := self._times.get(request)) and times.first_text is None:
            times.first_text = time.monotonic()

    def ended(self, request: Request, status: Status) -> None:
        """Add the spans of a request that has ended."""
        if (times := self._times.pop(request, None)) is None:
            return
        job, now = request.job, time.monotonic()
        assert isinstance(job, CaptionJob | AnswerJob)
        began = times.began or now
        self._tracing.record(job.trace, "queue", times.submitted, began)
        if times.began is None:
            return
        if isinstance(job, AnswerJob):
            self._tracing.record(job.trace, "prefill", began, times.first_text or now)
            began = times.first_text or now
        self._tracing.record(job.trace, "decode", began, now, status=status.value)
