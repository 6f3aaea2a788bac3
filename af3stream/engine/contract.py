"""What the rest of the house knows of an engine. Nothing here imports torch.

A prompt's body is a sequence of **parts**: sounds (windows of audio) and texts (notes). An engine keeps, for each
session, the keys and values of the parts it read last; a question names the whole body again, and the engine reads
only what it has not read yet. What is cached can therefore never change an answer, only its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]  # (n,) mono, 16 kHz, within [-1, 1]


@dataclass(eq=False, slots=True, weakref_slot=True)
class AudioSegment:
    """One piece of audio in a prompt: a window, or what is heard of the open one.

    Attributes:
        samples: float32 (n,), until it is encoded.
        tokens: K, the number of projected frames it becomes.
        embeddings: the engine's own (K, hidden), once it is encoded, for as long as they are kept.
        again: reads the same samples again; without it, embeddings are never dropped.
    """

    samples: Samples | None
    tokens: int
    embeddings: object | None = None
    again: Callable[[], Samples] | None = None

    @property
    def droppable(self) -> bool:
        """Whether there are embeddings that can be made again."""
        return self.embeddings is not None and self.again is not None

    def recall(self) -> None:
        """Have samples to encode, where neither they nor the embeddings are there."""
        if self.samples is None and self.embeddings is None and self.again is not None:
            self.samples = self.again()


@dataclass(frozen=True, slots=True)
class Text:
    """Words in a prompt's body. No spelling of them is ever read as a control token."""

    text: str


PromptPart = AudioSegment | Text


def caption_line(text: str, start_s: float, speaker: str | None = None) -> str:
    """A caption as it stands in a prompt: the time since the session's start, who speaks if that is known, the words.

    ``[1:02] Good morning.``, ``[1:02:03] Anna: Good morning.``
    """
    minutes, seconds = divmod(int(start_s), 60)
    hours, minutes = divmod(minutes, 60)
    time = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"[{time}] {speaker}: {text}" if speaker else f"[{time}] {text}"


def note(lines: Iterable[str]) -> Text:
    """Captions in a prompt, a line each."""
    return Text("".join(f"{line}\n" for line in lines))


@dataclass(frozen=True, slots=True)
class Turn:
    """A question that was answered, as it stands before one that follows it up."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """How an utterance is captioned, beyond its audio.

    Attributes:
        language: a code; ``None``: the captioner detects it.
        languages: those that may be detected; empty: all that the captioner knows.
        translate: whether English stands beside the original.
        words: whether each word has its time.
        vocabulary: names and terms that are likely to be said.
    """

    language: str | None = None
    languages: tuple[str, ...] = ()
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


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a captioner believes an utterance says.

    Attributes:
        text: the words, without framing.
        tokens: the tokens behind them, which a later call may verify instead of repeating.
        silence: the captioner's own probability that nobody speaks, 0 where it has none.
        language: the code of the language that it was heard in; ``None`` where the captioner does not say.
        translation: the words in English, where they were asked for.
        words: the words with their times, where they were asked for.
    """

    text: str
    tokens: tuple[int, ...] = ()
    silence: float = 0.0
    language: str | None = None
    translation: str = ""
    words: tuple[TimedWord, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """How an answer ended.

    Attributes:
        tokens: generated tokens, the end token included.
        finish: ``stop`` at the end token, or where the answer repeats itself; ``length`` at the cap.
        prefilled: positions that had to be read for this question alone.
    """

    tokens: int
    finish: Literal["stop", "length"]
    prefilled: int


@dataclass(slots=True)
class Counters:
    """What an engine has done, in counts; tests compare them where a time would be noise."""

    encoder_passes: int = 0
    sounds_encoded: int = 0
    caption_encodes: int = 0
    forward_passes: int = 0
    prefill_tokens: int = 0
    decoded_tokens: int = 0
    rebuilds: int = 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What fits into one prompt.

    Attributes:
        window_samples: samples of the longest window.
        windows: the horizon.
        positions: positions for a body, its question and the answer; the template's own are taken off.
    """

    window_samples: int
    windows: int
    positions: int


class Answering(Protocol):
    """An answer on its way: an iterator of pieces of text as they come ("" between chunks), then one `Completion`.

    Whoever leaves it before its end closes it; dropping the last reference to it does that, too.
    """

    def __iter__(self) -> Iterator[str | Completion]: ...

    def __next__(self) -> str | Completion: ...

    def close(self) -> None:
        """Leave the kept prefix as it was before."""


class Context(Protocol):
    """One session's persistent prefix."""

    def extend(self, parts: Sequence[PromptPart]) -> Iterator[None]:
        """Make ``parts`` the kept prefix, reading only what follows the parts that both share; yields between chunks.

        Where they share no part, the new prefix is built beside the kept one and replaces it at the end.
        """

    def answer(
        self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
    ) -> Answering:
        """Answer over ``parts``. The kept prefix is as before afterwards, also when the answer is closed early.

        Args:
            earlier: the turns of the chat between the parts and the question, oldest first.
        """

    def evict(self) -> None:
        """Give up the keys and values; the next call builds them again from the embeddings."""

    def held(self, parts: Sequence[PromptPart]) -> int:
        """How many leading parts of a body need not be there to read it, or to answer over it."""

    @property
    def kept_tokens(self) -> int:
        """Positions of the kept prefix, 0 when cool."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of keys and values that the kept prefix takes, 0 when cool."""

    def bytes_for(
        self, parts: Sequence[PromptPart], question: str = "", max_tokens: int = 0, earlier: Sequence[Turn] = ()
    ) -> int:
        """The most bytes that ``extend``, or ``answer``, takes meanwhile; what is kept beside it included."""


@dataclass(frozen=True, eq=False, slots=True)
class Voices:
    """The voices of pieces of speech.

    Attributes:
        vectors: float32 (n, d), a row a piece, each of length 1; the cosine of two rows is large if one person speaks,
            and near 0 otherwise.
    """

    vectors: NDArray[np.float32]


class VoiceEncoder(Protocol):
    """Voices as vectors, by which speakers are told apart."""

    name: str

    def embed(self, pieces: Sequence[Samples]) -> Voices:
        """Return the voices of pieces of speech, each of at least 0.75 s at 16 kHz."""


class Captioner(Protocol):
    """Words of one utterance.

    Attributes:
        revises: whether it hears the utterances of a whole window better at once than one by one.
    """

    name: str
    revises: bool

    def caption(self, samples: Samples, draft: Hypothesis | None, *, final: bool, max_tokens: int) -> Hypothesis:
        """Hear an utterance of at most 30 s. ``draft`` is the last hypothesis about a shorter part of it."""


class Engine(Protocol):
    """A checkpoint that encodes, answers and captions. Called from one thread."""

    name: str
    capacity: Capacity
    captioner: Captioner
    voices: VoiceEncoder | None  # None: it cannot tell speakers apart
    counters: Counters
    frame_bytes: int  # of one projected frame
    encode_together: int  # windows in one encoder pass

    def frames(self, samples: int) -> int:
        """Projected frames K of a window of so many samples."""

    def count(self, text: str) -> int:
        """Positions that a text takes."""

    def count_turn(self, turn: Turn) -> int:
        """Positions that an earlier turn of the chat takes."""

    def encode(self, sounds: Sequence[AudioSegment]) -> None:
        """Encode the sounds that are not encoded yet, together where that is cheaper."""

    def context(self) -> Context:
        """A new, empty context."""

    def is_decoding(self, answer: Answering) -> bool:
        """Whether its question is read, so that its next step writes a token."""

    def decode_batch(self, answers: Sequence[Answering]) -> None:
        """Do at once what the next steps of these answers, each of a context of its own, would do one by one.

        Where it fails, every answer is as it was.
        """


def shared(parts: Sequence[PromptPart], kept: Sequence[PromptPart]) -> int:
    """How many leading parts two bodies share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts, kept, strict=False)))
