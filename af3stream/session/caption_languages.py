"""In which language each utterance is captioned, and which utterances are captioned once more in another one."""

from __future__ import annotations

from dataclasses import replace

from af3stream.audio.events import Utterance
from af3stream.engine.captioning import CaptionOptions, Hypothesis
from af3stream.session.language_tracker import LanguageTracker
from af3stream.session.ledger import seconds


class CaptionLanguages:
    """The languages of a session's captions.

    An utterance is captioned in the language that is held, or in the one that its own audio says. Its final hypothesis
    says how probable each language is, and then the tracker decides. If the hypothesis is in another language, or the
    detector is in doubt before any language is held, the utterance is captioned once more. If a decision makes earlier
    ones wrong, their utterances are captioned once more, too.

    Attributes:
        correcting: utterances whose captions were told in another language, and are on their way in the right one.

    Args:
        tracker: decides.
        options: of every job, except for the language.
    """

    def __init__(self, tracker: LanguageTracker, options: CaptionOptions) -> None:
        self.correcting: set[int] = set()
        self._tracker = tracker
        self._options = options
        self._told: dict[int, Utterance] = {}  # with a final caption, and a language that is still open
        self._compared = self._repeated = -1  # the newest utterances that were captioned once more, for each reason

    @property
    def partial(self) -> CaptionOptions:
        """How the open utterance is captioned."""
        return replace(self._options, language=self._tracker.held)

    @property
    def final(self) -> CaptionOptions:
        """How a closed utterance is captioned at first."""
        return replace(self._options, language=self._tracker.held, detect=self._tracker.detects)

    def review(self, utterance: Utterance, hypothesis: Hypothesis) -> CaptionOptions | None:
        """Decide the language of an utterance by its final hypothesis. Utterances come in order.

        Returns:
            How it is to be captioned once more; ``None`` if the hypothesis is in its language.
        """
        if utterance.index in self.correcting:
            return None
        probable = dict(hypothesis.languages)
        if utterance.index > self._compared and len(doubts := self._tracker.doubts(probable)) > 1:
            self._compared = utterance.index
            return replace(self._options, compare=doubts)
        language = self._tracker.decide(utterance.index, probable, seconds(utterance.end - utterance.start))
        if hypothesis.language in (None, language) or language is None or utterance.index <= self._repeated:
            return None
        self._repeated = utterance.index
        return replace(self._options, language=language)

    def wrong(self) -> list[tuple[Utterance, CaptionOptions]]:
        """Return the utterances that the newest decision makes wrong, and how they are to be captioned once more."""
        options = replace(self._options, language=self._tracker.language)
        found = [utterance for index in self._tracker.take_wrong() if (utterance := self._told.get(index))]
        self.correcting |= {utterance.index for utterance in found}
        return [(utterance, options) for utterance in found]

    def told(self, utterance: Utterance) -> None:
        """Note that the client has the final caption of an utterance."""
        told = {**self._told, utterance.index: utterance}
        self._told = {index: told[index] for index in told.keys() & self._tracker.open}

    def restore(self, utterance: Utterance, language: str | None) -> None:
        """Note the language of an utterance that was captioned before a restart."""
        if language:
            self._tracker.restore(language, seconds(utterance.end - utterance.start))
