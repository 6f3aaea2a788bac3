"""Begin the final decode of an utterance in the pause that may end it, and use the words if the pause holds."""

from __future__ import annotations

from dataclasses import dataclass

from af3stream.audio.events import Span, Utterance
from af3stream.engine.captioning import Hypothesis
from af3stream.engine.jobs import CaptionJob


@dataclass(slots=True)
class _Early:
    """A final decode, and the utterance as it will be if the pause holds."""

    job: CaptionJob
    utterance: Utterance
    hypothesis: Hypothesis | None = None
    failed: bool = False


class EarlyFinal:
    """At most one final decode of the utterance that is still open.

    The decode hears exactly the samples that the closed utterance will have, so its words are those of a decode that
    begins when the utterance closes.
    """

    def __init__(self) -> None:
        self._early: _Early | None = None

    def begin(self, job: CaptionJob, utterance: Utterance) -> None:
        """Remember the decode that was begun for an utterance in its pause."""
        self._early = _Early(job, utterance)

    def begun(self, span: Span) -> bool:
        """Return whether a decode of an utterance of this range was begun."""
        early = self._early
        return early is not None and Span(early.utterance.start, early.utterance.end) == span

    def heard(self, job: CaptionJob, hypothesis: Hypothesis) -> Utterance | None:
        """Keep the words until the utterance closes; returns it, or ``None`` for another job."""
        if self._early is None or self._early.job is not job:
            return None
        self._early.hypothesis = hypothesis
        return self._early.utterance

    def fail(self, job: CaptionJob) -> None:
        """Note that a decode failed: it is not begun again before the utterance closes."""
        if self._early is not None and self._early.job is job:
            self._early.failed = True

    def abandon(self) -> CaptionJob | None:
        """Forget the decode, because the voice goes on.

        Returns:
            Its job if it is still on its way.
        """
        early, self._early = self._early, None
        return early.job if early and early.hypothesis is None and not early.failed else None

    def take(self, utterance: Utterance) -> tuple[CaptionJob, Hypothesis | None] | None:
        """Return the job of an utterance that closes, and its words if they are there.

        ``None`` if none was begun, or if it failed.
        """
        if self._early is None or self._early.utterance != utterance or self._early.failed:
            return None
        early, self._early = self._early, None
        return early.job, early.hypothesis
