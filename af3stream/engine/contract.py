"""What the rest of the house knows of an engine. Nothing here imports torch.

A prompt's body is a sequence of **parts**: sounds (windows of audio) and texts (notes). An engine keeps, for each
session, the keys and values of the parts it read last; a question names the whole body again, and the engine reads
only what it has not read yet. What is cached can therefore never change an answer, only its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]  # (n,) mono, 16 kHz, within [-1, 1]


@dataclass(frozen=True, slots=True)
class AudioSegment:
    """A stretch of a session's audio in a prompt: a closed window, or the open one as far as it goes.

    Its sample range identifies it within its session: the same range is the same audio.

    Attributes:
        start, end: samples at 16 kHz.
        tokens: K, the number of projected frames it becomes.
    """

    start: int
    end: int
    tokens: int


Embeddings = object  # the engine's own form of a segment's projected frames, (K, hidden)
Lookup = Callable[[AudioSegment], Embeddings]  # the embeddings of a segment that is resident


class AudioSource(Protocol):
    """Gives the engine a session's audio again. Called from the engine's thread.

    Attributes:
        rereads: whether a segment can be read after it was encoded. If not, its embeddings are never evicted.
    """

    @property
    def rereads(self) -> bool: ...

    def read(self, segment: AudioSegment) -> Samples:
        """Return the samples of a closed window, float32 (end - start,).

        Raises:
            DataLoss: if they are gone.
        """


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
class Hypothesis:
    """What a captioner believes an utterance says.

    Attributes:
        text: the words, without framing.
        tokens: the tokens behind them, which a later call may verify instead of repeating.
        silence: the captioner's own probability that nobody speaks, 0 where it has none.
    """

    text: str
    tokens: tuple[int, ...] = ()
    silence: float = 0.0


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


class Prefix(Protocol):
    """What is known of a session's KV prefix by those that do not read or write it."""

    @property
    def kept_tokens(self) -> int:
        """Positions of the kept prefix, 0 when evicted."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of keys and values that the kept prefix takes, 0 when evicted."""

    def held(self, parts: Sequence[PromptPart]) -> int:
        """Return how many leading parts the kept prefix holds, so that their embeddings are not needed."""

    def bytes_for(
        self, parts: Sequence[PromptPart], question: str = "", max_tokens: int = 0, earlier: Sequence[Turn] = ()
    ) -> int:
        """Return the most bytes that ``extend``, or ``answer``, takes, with what is kept beside it."""

    def evict(self) -> None:
        """Give up the keys and values; the next call makes them again from the embeddings."""


class Context(Prefix, Protocol):
    """One session's KV prefix, and the answers over it."""

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


class Captioner(Protocol):
    """Words of one utterance.

    Attributes:
        revises: whether it hears the utterances of a whole window better at once than one by one.
    """

    name: str
    revises: bool

    def caption(self, samples: Samples, draft: Hypothesis | None, *, final: bool, max_tokens: int) -> Hypothesis:
        """Hear an utterance of at most 30 s. ``draft`` is the last hypothesis about a shorter part of it."""


class TokenCounter(Protocol):
    """Counts the positions of a prompt. Thread-safe: sessions call it while the engine works."""

    def frames(self, samples: int) -> int:
        """Return K, the projected frames of a window of so many samples at 16 kHz."""

    def count(self, text: str) -> int:
        """Return the positions of a text."""

    def count_turn(self, turn: Turn) -> int:
        """Return the positions of an earlier turn of the chat."""


class Engine(Protocol):
    """A checkpoint that encodes, answers and captions. Its methods are called from one thread.

    Its attributes may be read from any thread.
    """

    name: str
    capacity: Capacity
    tokens: TokenCounter
    captioner: Captioner
    counters: Counters
    frame_bytes: int  # of one projected frame
    encode_together: int  # windows in one encoder pass

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        """Encode windows, float32 (n_i,) each, together where that is cheaper; a window's (K_i, hidden) each."""

    def context(self, embeddings: Lookup) -> Context:
        """A new, empty context.

        Args:
            embeddings: where it finds those of the segments that it reads.
        """

    def is_decoding(self, answer: Answering) -> bool:
        """Whether its question is read, so that its next step writes a token."""

    def decode_batch(self, answers: Sequence[Answering]) -> None:
        """Do at once what the next steps of these answers, each of a context of its own, would do one by one.

        Where it fails, every answer is as it was.
        """


def shared(parts: Sequence[PromptPart], kept: Sequence[PromptPart]) -> int:
    """How many leading parts two bodies share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts, kept, strict=False)))
