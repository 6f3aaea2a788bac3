"""A caption and its place, and the messages that tell it."""

from __future__ import annotations

from dataclasses import dataclass

from af3stream.audio.events import Utterance
from af3stream.engine.captioning import Hypothesis, TimedWord
from af3stream.protocol.messages import Caption, CaptionUpdate
from af3stream.session.hallucinations import without_loops
from af3stream.session.ledger import seconds
from af3stream.session.word_times import fitted, told


@dataclass(frozen=True, slots=True)
class CaptionLine:
    """A caption and its place. Positions are samples at 16 kHz.

    Attributes:
        language: a code; ``None`` if the captioner does not say.
        translation: in English, if it was asked for.
        words: with their times, if they were asked for; these count from ``start``.
        speaker: 1, 2, ...; ``None`` if it is not known.
    """

    utterance: int
    start: int
    end: int
    text: str
    language: str | None = None
    translation: str = ""
    words: tuple[TimedWord, ...] = ()
    speaker: int | None = None


def caption_line(utterance: Utterance, hypothesis: Hypothesis, speaker: int | None) -> CaptionLine:
    """Return the caption of an utterance by its final hypothesis."""
    text = without_loops(hypothesis.text)
    return CaptionLine(
        utterance.index,
        utterance.start,
        utterance.end,
        text,
        language=hypothesis.language if text else None,
        translation=without_loops(hypothesis.translation),
        words=fitted(hypothesis.words, text, utterance.end - utterance.start),
        speaker=speaker,
    )


def final_caption(line: CaptionLine) -> Caption:
    """Return the message that tells a final caption."""
    return Caption(
        line.utterance,
        line.text,
        seconds(line.start),
        seconds(line.end),
        final=True,
        stable=line.text,
        language=line.language,
        translation=line.translation,
        speaker=line.speaker,
        words=told(line.words, line.start),
    )


def update(line: CaptionLine) -> CaptionUpdate:
    """Return the message that corrects a final caption."""
    return CaptionUpdate(
        line.utterance,
        line.text,
        seconds(line.start),
        seconds(line.end),
        language=line.language,
        translation=line.translation,
        speaker=line.speaker,
        words=told(line.words, line.start),
    )
