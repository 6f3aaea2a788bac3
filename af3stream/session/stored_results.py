"""What the journal has of a session in place of results of the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from af3stream.engine.captioning import Hypothesis
from af3stream.protocol.messages import Caption, CaptionUpdate, Sound, SpeakerUpdate
from af3stream.session.event_log import Divided, KeptMessage, Named, Revised
from af3stream.session.word_times import kept as kept_words


@dataclass(frozen=True, slots=True)
class StoredResults:
    """Results that need not be computed again.

    Attributes:
        finals: final hypotheses, by utterance.
        finals_to: the newest utterance with a final caption. Captions become final in order, so one up to there without
            a hypothesis has no words.
        revised_to: index of the newest window whose captions were revised.
        named: the captions of sounds, each by its start in seconds.
        named_to: the sample up to which all sounds were named.
        divided: how utterances were divided, oldest first; what is used is taken off. An utterance up to ``finals_to``
            that is not there was not divided: at that time voices were not heard.
        told: the speakers of utterances, corrections included.
    """

    finals: Mapping[int, Hypothesis]
    finals_to: int
    revised_to: float
    named: Mapping[float, str]
    named_to: float
    divided: deque[Divided]
    told: Mapping[int, int]

    @classmethod
    def of(cls, kept: Sequence[KeptMessage], *, ended: bool) -> StoredResults:
        """Return what the journal's messages, in order, have; ``ended``: the session ended where its audio does."""
        finals = {event.utterance: _hypothesis(event) for event in kept if isinstance(event, Caption | CaptionUpdate)}
        revised = (event.window for event in kept if isinstance(event, Revised))
        named = (event.until for event in kept if isinstance(event, Named))
        said = [event for event in kept if isinstance(event, Caption | SpeakerUpdate)]
        return cls(
            finals,
            max(finals, default=-1),
            inf if ended else max(revised, default=-1),
            {event.start: event.text for event in kept if isinstance(event, Sound)},
            inf if ended else max(named, default=0),
            deque(event for event in kept if isinstance(event, Divided)),
            {event.utterance: event.speaker for event in said if event.speaker is not None},
        )


def _hypothesis(event: Caption | CaptionUpdate) -> Hypothesis:
    """Return what was heard, as far as the journal has it."""
    return Hypothesis(event.text, language=event.language, translation=event.translation, words=kept_words(event))
