"""Divide closed utterances among their speakers, before they are captioned."""

from __future__ import annotations

from collections.abc import Sequence

from af3stream.audio.events import Span, Utterance
from af3stream.audio.pcm import Samples
from af3stream.engine.captioning import Voices
from af3stream.engine.jobs import Result, VoiceJob
from af3stream.protocol import messages as m
from af3stream.session.caption_track import CaptionTrack
from af3stream.session.event_log import Divided
from af3stream.session.ledger import Ledger
from af3stream.session.speaker_track import SpeakerTrack
from af3stream.session.stored_results import StoredResults


class SpeakerDivision:
    """The way of a closed utterance from its voices to the captions of its parts.

    Args:
        speakers: who speaks.
        track: has the parts captioned.
        ledger: counts them.
        hears: whether voices are heard. If not, only what the journal has divided is divided.
    """

    def __init__(self, speakers: SpeakerTrack, track: CaptionTrack, ledger: Ledger, *, hears: bool) -> None:
        self._speakers = speakers
        self._track = track
        self._ledger = ledger
        self._hears = hears
        self._divided: list[Divided] = []
        self._stored: StoredResults | None = None  # while the journal is replayed

    def begun(self, span: Span) -> bool:
        """Return whether the voices of the open utterance are heard, or on their way, as it will be if it ends here."""
        return self._speakers.begun(span)

    def begin(self, span: Span, samples: Samples) -> None:
        """Have the voices of the open utterance heard in its pause, as it will be if the pause holds."""
        self._speakers.begin(span, samples)

    def is_whole(self, span: Span) -> bool:
        """Return whether the open utterance is not to be divided if it ends here; false if that is not known yet."""
        return not self._hears or self._speakers.is_whole(span)

    def abandon(self) -> None:
        """Forget the voices that were begun in a pause: the voice goes on."""
        self._speakers.abandon()

    def close(self, utterance: Utterance, position: int) -> list[m.ServerMessage]:
        """Have the voices of a closed utterance heard, or divide it if that was done in the pause.

        Args:
            position: samples received, at 16 kHz.
        """
        self._track.hold(utterance)
        if self._stored is not None and self._divide_as_stored(utterance, self._stored, position):
            return []
        if not self._hears:
            return [*self._divide([(utterance, None)], position)]
        self._speakers.close(utterance, position, late=self._track.are_late(position))
        return self._divide_heard(position)

    def complete(self, job: VoiceJob, result: Result, position: int) -> list[m.ServerMessage]:
        """Divide utterances by their voices; if these could not be heard, nobody knows who speaks."""
        self._speakers.heard(job, result if isinstance(result, Voices) else None)
        return self._divide_heard(position)

    def _divide_heard(self, position: int) -> list[m.ServerMessage]:
        """Divide the utterances whose voices are heard, the oldest first."""
        messages: list[m.ServerMessage] = []
        while found := self._speakers.next_divided(self._track.oldest_held):
            divided, parts = found
            self._divided.append(divided)
            messages += self._divide(parts, position)
            corrected = self._speakers.correct().items()
            messages += [m.SpeakerUpdate(*update) for update in corrected if self._track.correct_speaker(*update)]
            messages += [m.SpeakerNamed(speaker, name) for speaker, name in self._speakers.inherit_names().items()]
        return messages

    def begin_replay(self, stored: StoredResults) -> None:
        """Divide the utterances that close from now on as the journal has it."""
        self._stored = stored

    def end_replay(self) -> None:
        """Let the journal decide no more. Speakers that were told stay, whatever is decided of their voices today."""
        stored, self._stored = self._stored, None
        for utterance, speaker in stored.told.items() if stored else ():
            self._speakers.move(utterance, speaker)

    def _divide_as_stored(self, utterance: Utterance, stored: StoredResults, position: int) -> bool:
        """Divide the utterance that closed last, if the journal knows of it; returns whether it does."""
        number = self._track.oldest_held
        if stored.divided and stored.divided[0].utterance == number:
            parts = self._speakers.restore(utterance, stored.divided.popleft(), stored.told)
            self._divide(parts, position)
            for corrected, speaker in self._speakers.correct().items():
                if corrected not in stored.told:
                    self._track.correct_speaker(corrected, speaker)
            return True
        if number <= stored.finals_to:
            self._divide([(utterance, None)], position)
            return True
        return False

    def take_divided(self) -> list[Divided]:
        """Return how utterances were divided, for the journal, and empty the list."""
        divided, self._divided = self._divided, []
        return divided

    def _divide(
        self, parts: Sequence[tuple[Utterance, int | None]], position: int
    ) -> Sequence[m.Caption | m.CaptionUpdate]:
        self._ledger.utterances += len(parts) - 1
        return self._track.divide(parts, position)
