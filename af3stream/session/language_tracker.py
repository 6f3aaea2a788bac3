"""Decide in which language each utterance is written down, when nobody told it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FULL_S: Final = 5.0  # so much speech counts once; less or more counts in proportion
MOST: Final = 2.0  # what one utterance counts at most
SHORT_S: Final = 2.0  # a shorter utterance says nothing against a language that is held
SWITCH: Final = 1e-3  # how likely each other language is for the next utterance, before it is heard
OPEN: Final = 4  # so many utterances back, a decision may turn out wrong
LEAST: Final = 1e-3  # a detector that gives less is not believed
HELD: Final = 0.9  # a language is held from this belief on
SURE: Final = 0.9  # a detector that gives the likeliest language less is in doubt
COMPARED, COMPARED_LEAST = 4, 0.02  # so many languages at most, and none less probable, may be meant in doubt


@dataclass(frozen=True, slots=True)
class _Open:
    """A decision that may turn out wrong: no language was held, or the utterance's own audio says another one."""

    utterance: int
    decided: str | None
    own: str
    held: bool


class LanguageTracker:
    """Follows the language of a session over the detector's probabilities of its utterances.

    It is the forward pass of a hidden Markov model, whose state is the language spoken. Each utterance multiplies the
    belief in a language by its probability, to the power of what the utterance counts. So the first seconds of speech
    decide. One short or doubtful utterance changes nothing. Several utterances in another language, or a long one, do.

    The language of an utterance depends on the audio up to its end alone, not on when it is decided.

    Args:
        told: the language, if somebody told it; it is then never another one.
        candidates: those that may occur; empty: all.
    """

    def __init__(self, told: str | None = None, candidates: tuple[str, ...] = ()) -> None:
        self._told = candidates[0] if told is None and len(candidates) == 1 else told
        self._candidates = frozenset(candidates)
        self._belief: dict[str, float] = {}  # of the languages that were probable once
        self._unseen = 1.0  # the belief in each other language; with it, the belief sums to 1
        self._decided: dict[int, str | None] = {}  # by utterance; the newest alone
        self._open: list[_Open] = []
        self._wrong: tuple[int, ...] = ()

    @property
    def detects(self) -> bool:
        """Whether the captioner is to say how probable each language is."""
        return self._told is None

    @property
    def language(self) -> str | None:
        """The language that the session is in; ``None`` before any speech."""
        return self._told or max(self._belief, key=lambda code: self._belief[code], default=None)

    @property
    def held(self) -> str | None:
        """The language that the next utterance is heard in at first; ``None``: in the one that its own audio says."""
        if self._told or max(self._belief.values(), default=0.0) >= HELD:
            return self.language
        return None

    def doubts(self, probable: Mapping[str, float]) -> tuple[str, ...]:
        """Return the languages that the next utterance may be in, if that is in doubt and no language is held yet."""
        if self.held or not probable or max(probable.values()) >= SURE:
            return ()
        ranked = sorted(probable, key=lambda code: -probable[code])[:COMPARED]
        return tuple(code for code in ranked if probable[code] >= COMPARED_LEAST)

    def decide(self, utterance: int, probable: Mapping[str, float], seconds: float) -> str | None:
        """Take in an utterance, and return the language that it is in. Utterances come in order.

        A second call with the same utterance returns the same language, and takes in nothing.
        """
        if utterance not in self._decided:
            self._update(probable, seconds)
            self._decided = {utterance: self.language}
            self._review(utterance, probable)
        return self._decided[utterance]

    def take_wrong(self) -> tuple[int, ...]:
        """Return the utterances before the newest that are in its language, and were decided to be in another one."""
        wrong, self._wrong = self._wrong, ()
        return wrong

    @property
    def open(self) -> frozenset[int]:
        """The utterances whose language may still turn out to be another one."""
        return frozenset(each.utterance for each in self._open)

    def restore(self, language: str, seconds: float) -> None:
        """Take in an utterance whose language was decided before a restart."""
        if not self._told and (self.held is None or seconds >= SHORT_S):
            self._belief, self._unseen = {language: 1.0 - SWITCH}, SWITCH

    def _review(self, utterance: int, probable: Mapping[str, float]) -> None:
        """See which earlier decisions were wrong, now that there is one more."""
        if self._told or not probable:
            return
        own = max(probable, key=lambda code: probable[code])
        if self.held and own == self.held:
            wrong = [each for each in self._open if each.decided != self.held]
            self._wrong = tuple(each.utterance for each in wrong if not each.held or each.own == self.held)
            self._open = []
        else:
            self._open = [*self._open[1 - OPEN :], _Open(utterance, self.language, own, held=self.held is not None)]

    def _update(self, probable: Mapping[str, float], seconds: float) -> None:
        heard = {code: chance for code, chance in probable.items() if not self._candidates or code in self._candidates}
        if self._told or not heard or (self.held and seconds < SHORT_S):
            return
        counts = min(MOST, seconds / FULL_S)
        belief = {
            code: (self._belief.get(code, self._unseen) + SWITCH) * max(LEAST, heard.get(code, 0.0)) ** counts
            for code in (*self._belief, *(code for code in heard if code not in self._belief))
        }
        unseen = (self._unseen + SWITCH) * LEAST**counts
        whole = sum(belief.values()) + unseen
        self._belief = {code: share / whole for code, share in belief.items()}
        self._unseen = unseen / whole
