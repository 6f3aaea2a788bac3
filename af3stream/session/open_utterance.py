"""The utterance that is still open: captioned so far, and for good in a pause that may end it."""

from __future__ import annotations

from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Span
from af3stream.audio.segmenter import Segmenter
from af3stream.engine.jobs import CaptionJob
from af3stream.session.caption_track import CaptionTrack
from af3stream.session.prompt_body import SampleRange
from af3stream.session.speaker_division import SpeakerDivision

PAUSING: Final = SAMPLE_RATE // 10  # samples without voice from which no partial caption begins


class OpenUtterance:
    """Decides when the open utterance of a session is captioned.

    Args:
        segmenter: has its samples.
        track: has it captioned.
        division: hears its voices in a pause; ``None``: speakers are not told apart.
        early_pause: samples of a pause after which the final caption begins; 0: it begins when the utterance closes.
    """

    def __init__(
        self, segmenter: Segmenter, track: CaptionTrack, division: SpeakerDivision | None, early_pause: int
    ) -> None:
        self._segmenter = segmenter
        self._track = track
        self._division = division
        self._early_pause = early_pause

    @property
    def draft_is_stale(self) -> bool:
        """Whether its partial caption lacks much of it."""
        span = self._segmenter.open_utterance
        return span is not None and self._track.is_stale(span)

    def unfinished(self) -> list[SampleRange]:
        """Return the ranges of the utterances without a final caption, the open one included."""
        span = self._segmenter.open_utterance
        return [(each.start, each.end) for each in (*self._track.waiting, span) if each]

    def draft_if_due(self, now: float) -> None:
        """Have it captioned so far if that is due: for good in a pause that may end it."""
        pausing = self._segmenter.pausing(self._early_pause) if self._early_pause else None
        if pausing is not None:
            if self._track.early_is_due(pausing):
                self._begin_final(pausing)
            return
        self._abandon_final()
        if self._early_pause and self._segmenter.pause >= PAUSING:
            return  # a partial caption would delay the final one, which shows the same words
        span = self._segmenter.open_utterance  # up to its last voice: a pause needs no new caption
        if span is not None and self._track.partial_is_due(span):
            self._track.draft(span, self._segmenter.read(span.start, span.end), now)

    def draft_for_question(self, now: float) -> CaptionJob | None:
        """Have it captioned so far, urgently; returns the job, or ``None`` if no utterance is open."""
        span = self._segmenter.open_utterance
        if span is None:
            return None
        return self._track.draft(span, self._segmenter.read(span.start, span.end), now, urgent=True)

    def _begin_final(self, pausing: Span) -> None:
        """Begin its final caption in its pause, after its voices are heard if speakers are told apart.

        If it is to be divided, it is captioned once it is closed.
        """
        start, end = pausing.start, pausing.end
        if self._division is None or self._division.is_whole(pausing):
            self._track.begin_final(pausing, self._segmenter.read(start, end))
        elif not self._division.begun(pausing):
            self._division.begin(pausing, self._segmenter.read(start, end))

    def _abandon_final(self) -> None:
        """Give up what was begun in a pause: the voice goes on."""
        self._track.abandon_final()
        if self._division is not None:
            self._division.abandon()
