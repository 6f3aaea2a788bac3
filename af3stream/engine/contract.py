"""The interface between an engine and the rest of the package. Nothing here imports torch.

A prompt's body is a sequence of **parts**: instructions, audio segments and texts (captions). For each session the
engine keeps the keys and values of the parts that it read last, the KV prefix. A question names the whole body again,
and the engine reads only the parts that are not in the prefix. So a cache changes the cost of an answer, and never the
answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from msgspec import Struct

from af3stream.engine.captioning import Captioner, Samples, SoundNamer, VoiceEncoder
from af3stream.engine.counters import Counters


class AudioSegment(Struct, frozen=True, tag=True):
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

    def fetch(self, segments: Sequence[AudioSegment]) -> int:
        """Begin to bring segments here, if they are elsewhere, and return at once.

        Returns:
            How many of the first can be read without waiting. If it is none, the source wakes the worker later.
        """

    def read(self, segment: AudioSegment) -> Samples:
        """Return the samples of a closed window, float32 (end - start,).

        Raises:
            DataLoss: if they are gone.
        """


class Text(Struct, frozen=True, tag=True):
    """Words in a prompt's body. A control token that they spell is read as plain characters."""

    text: str


class Instructions(Struct, frozen=True, tag=True):
    """The words of the system turn, in place of the checkpoint's own. Only the first part of a body may be this.

    A control token that they spell is read as plain characters.
    """

    text: str


PromptPart = AudioSegment | Text | Instructions


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question and its answer, which stand in the prompt before a question that follows them up."""

    question: str
    answer: str


class Completion(Struct, frozen=True, tag=True):
    """How an answer ended.

    Attributes:
        tokens: generated tokens, the end token included.
        finish: ``stop`` at the end token, or if the answer repeats itself; ``length`` at the limit of tokens.
        prefilled: positions that were read for this question alone.
    """

    tokens: int
    finish: Literal["stop", "length"]
    prefilled: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What fits into one prompt.

    Attributes:
        window_samples: samples of the longest window.
        windows: longest windows that fit at once.
        positions: positions for a body, its question and the answer, without those of the chat template.
    """

    window_samples: int
    windows: int
    positions: int


class Answering(Protocol):
    """A running answer: an iterator of pieces of text, then one `Completion`. A pass without text gives "".

    A caller that stops before the end closes it. Dropping the last reference closes it, too.
    """

    def __iter__(self) -> Iterator[str | Completion]: ...

    def __next__(self) -> str | Completion: ...

    def close(self) -> None:
        """Restore the kept prefix to what it was before the answer."""


class Prefix(Protocol):
    """The size of a session's KV prefix. Its keys and values are read and written through `Context`."""

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
        """Make ``parts`` the kept prefix, and read only what follows the parts that both share. Yields after a pass.

        If they share no part, or the instructions alone, the new prefix is built beside the kept one, and replaces it
        at the end.

        Raises:
            ContextFull: if the parts do not fit the language model.
        """

    def answer(
        self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
    ) -> Answering:
        """Answer over ``parts``, and restore the kept prefix afterwards, also if the answer is closed early.

        Args:
            max_tokens: tokens of the answer at most.
            earlier: the turns of the chat between the parts and the question, oldest first.

        Raises:
            ContextFull: while the answer runs, if the prompt does not fit the language model.
        """


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

    Attributes:
        name: of the checkpoint, as users call it.
        frame_bytes: bytes of one projected frame.
        encode_together: windows in one encoder pass.
    """

    name: str
    capacity: Capacity
    tokens: TokenCounter
    captioner: Captioner
    sounds: SoundNamer | None  # None: it names no sounds
    voices: VoiceEncoder | None  # None: it cannot tell speakers apart
    counters: Counters
    frame_bytes: int
    encode_together: int

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        """Encode windows, float32 (n_i,) at 16 kHz each, ``encode_together`` in a pass; returns (K_i, hidden) each."""

    def context(self, embeddings: Lookup) -> Context:
        """Return a new, empty context.

        Args:
            embeddings: returns those of a segment that the context reads.
        """

    def is_decoding(self, answer: Answering) -> bool:
        """Return whether the question is read, so that the next step writes a token."""

    def decode_batch(self, answers: Sequence[Answering]) -> None:
        """Do in one pass what the next steps of these answers, each of a context of its own, would do one by one.

        If it raises, every answer is as it was.
        """
