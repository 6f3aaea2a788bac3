"""What the package knows of captions, voices and sounds, and of what makes them. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

T = TypeVar("T")
Passes = Generator[None, None, T]  # a computation that yields between its passes, and returns its result

Samples = NDArray[np.float32]  # (n,) mono, 16 kHz, within [-1, 1]


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """How an utterance is captioned, beyond its audio.

    Attributes:
        language: a code; ``None``: the captioner detects it.
        languages: those that may be detected; empty: all that the captioner knows.
        detect: whether the hypothesis says how probable each language is, although it is heard in ``language``.
        compare: languages to try, if the detector alone is in doubt; the hypothesis is in the one whose words are the
            likeliest.
        translate: whether English stands beside the original.
        words: whether each word has its time.
        vocabulary: names and terms that are likely to be said.
    """

    language: str | None = None
    languages: tuple[str, ...] = ()
    detect: bool = False
    compare: tuple[str, ...] = ()
    translate: bool = False
    words: bool = False
    vocabulary: tuple[str, ...] = ()


DEFAULT_OPTIONS: Final = CaptionOptions()


@dataclass(frozen=True, slots=True)
class TimedWord:
    """One word of a hypothesis.

    Attributes:
        text: as displayed, with its punctuation, without white space around it.
        start, end: samples from the start of the utterance's audio, at 16 kHz.
        probability: the captioner's own.
    """

    text: str
    start: int
    end: int
    probability: float


class Hypothesis(Struct, frozen=True, tag=True):
    """The words that a captioner finds in an utterance.

    Attributes:
        text: the words, without framing.
        tokens: the tokens behind them, which a later call may verify instead of repeating.
        silence: the captioner's probability that nobody speaks; 0 if the captioner gives none.
        language: the code of the language in which it was heard; ``None`` if the captioner does not say.
        translation: the words in English, if they were asked for.
        languages: how probable each language is, the likeliest first, if it was to be detected and somebody speaks.
        words: the words with their times, if they were asked for.
    """

    text: str
    tokens: tuple[int, ...] = ()
    silence: float = 0.0
    language: str | None = None
    languages: tuple[tuple[str, float], ...] = ()
    translation: str = ""
    words: tuple[TimedWord, ...] = ()


class NamedSound(Struct, frozen=True, tag=True):
    """What the model says that it hears in a stretch of audio.

    Attributes:
        text: the words, without framing.
        confidence: the geometric mean of their tokens' probabilities, 0 to 1.
    """

    text: str
    confidence: float


class Voices(Struct, frozen=True, eq=False, tag=True):
    """The voices of pieces of speech.

    Attributes:
        vectors: float32 (n, d), a row a piece, each of length 1; the cosine of two rows is large if one person speaks,
            and near 0 otherwise.
    """

    vectors: NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class CaptionRequest:
    """An utterance to caption, and how.

    Attributes:
        samples: float32 (n,) at 16 kHz, at most 30 s.
        max_tokens: tokens of the caption at most.
        final: whether the utterance is complete.
        draft: the last hypothesis about a shorter part of it; it may save time, and never changes the words.
        options: language, word times and the like.
    """

    samples: Samples
    max_tokens: int
    final: bool = True
    draft: Hypothesis | None = None
    options: CaptionOptions = DEFAULT_OPTIONS


class VoiceEncoder(Protocol):
    """Voices as vectors, by which speakers are told apart."""

    name: str

    def embed(self, pieces: Sequence[Samples]) -> Iterator[Voices | None]:
        """Hear the voices of pieces of speech, each of at least 0.75 s at 16 kHz. Yields after each pass.

        Yields:
            ``None`` while it works, then the voices.
        """


class Captioner(Protocol):
    """Turns an utterance into words.

    Attributes:
        revises: whether it makes fewer mistakes over all utterances of a window at once than over each alone.
        languages: codes of the languages that it can be told; empty: it cannot be told any.
        translates: whether it can write English beside another language.
        times_words: whether it can say when each word of a final caption was said.
    """

    name: str
    revises: bool
    languages: tuple[str, ...]
    translates: bool
    times_words: bool

    def caption(self, request: CaptionRequest) -> Iterator[Hypothesis | None]:
        """Caption an utterance. Yields after each pass. A caller may stop between passes, and drops the iterator then.

        Yields:
            ``None`` while it works, then the hypothesis.
        """

    def kv_bytes(self, request: CaptionRequest) -> int:
        """Return the most bytes of keys and values that a caption takes while it is made, on the engine's device."""


class SoundNamer(Protocol):
    """Names sounds that are no speech, beside any session's KV prefix.

    Attributes:
        sure: the least confidence of a name that may be told.
    """

    sure: float

    def name(self, embeddings: object, first: int, last: int) -> Iterator[NamedSound | None]:
        """Name what is heard in the frames from ``first`` up to ``last`` of a window. Yields after each pass.

        Yields:
            ``None`` while it works, then the name.
        """

    def kv_bytes(self, frames: int) -> int:
        """Return the most bytes of keys and values that it takes to name what is heard in so many frames."""


def result_of(passes: Iterator[T | None]) -> T:
    """Run all passes of a computation, one after another, and return its result."""
    *_, result = passes
    assert result is not None, "the last pass has the result"
    return result
