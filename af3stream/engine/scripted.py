"""An engine without a model, for tests of the rest of the package: its words are a function of its input."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from af3stream.engine.captioning import (
    Captioner,
    CaptionRequest,
    Hypothesis,
    NamedSound,
    Samples,
    SoundNamer,
    TimedWord,
    VoiceEncoder,
    Voices,
)
from af3stream.engine.contract import (
    Answering,
    Capacity,
    Completion,
    Embeddings,
    Instructions,
    Lookup,
    PromptPart,
    Text,
    TokenCounter,
    Turn,
)
from af3stream.engine.counters import Counters
from af3stream.engine.prompt_parts import shared
from af3stream.engine.token_counter import WordCounter

BYTES_A_PART = 1 << 20  # what a context says that a part takes
VOICES = 64  # loudnesses that are told apart
FRAME_BYTES = 1 << 10  # of one projected frame: 25 KiB a second


class ScriptedEngine:
    """Captions have a word for each half second; answers name the parts that they read, a word a step."""

    name = "scripted"
    frame_bytes = FRAME_BYTES
    encode_together = 4

    def __init__(self, window_s: float = 30.0, windows: int = 10, positions: int = 8_192) -> None:
        self.capacity = Capacity(int(window_s * 16_000), windows, positions)
        self.counters = Counters()
        self.tokens: TokenCounter = WordCounter()
        self.captioner: Captioner = ScriptedCaptioner(self.counters)
        self.sounds: SoundNamer | None = None
        self.voices: VoiceEncoder | None = ScriptedVoices()

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        """A window's length, such as "1.5s"."""
        self.counters.encoder_passes += 1
        self.counters.sounds_encoded += len(windows)
        return [f"{len(samples) / 16_000:g}s" for samples in windows]

    def context(self, embeddings: Lookup) -> ScriptedContext:
        """An empty context."""
        return ScriptedContext(self.counters, embeddings)

    def is_decoding(self, answer: Answering) -> bool:
        """From the first step on."""
        return True

    def decode_batch(self, answers: Sequence[Answering]) -> None:
        """Counts a pass."""
        self.counters.forward_passes += 1


class ScriptedCaptioner:
    """Says "word1 word2 …", one word a half second."""

    name = "scripted"
    revises = False
    languages: tuple[str, ...] = ()
    translates = False
    times_words = True

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def caption(self, request: CaptionRequest) -> Iterator[Hypothesis | None]:
        """What it hears, in one pass."""
        yield self.hear(request)

    def kv_bytes(self, request: CaptionRequest) -> int:
        """None."""
        return 0

    def hear(self, request: CaptionRequest) -> Hypothesis:
        """One word a half second of audio."""
        self._counters.caption_encodes += 1
        words = [f"word{i + 1}" for i in range(min(request.max_tokens, len(request.samples) // 8_000))]
        text = " ".join(words) + ("." if request.final else "")
        timed: tuple[TimedWord, ...] = ()
        if request.final and request.options.words:
            self._counters.alignments += 1
            timed = tuple(TimedWord(word, i * 8_000, (i + 1) * 8_000, 1.0) for i, word in enumerate(text.split()))
        return Hypothesis(text, tuple(range(len(words))), words=timed)


class ScriptedSounds:
    """Hears one sound everywhere.

    Args:
        heard: what it says, and how sure it is.
    """

    sure = 0.5

    def __init__(self, heard: NamedSound) -> None:
        self.heard = heard

    def name(self, embeddings: Embeddings, first: int, last: int) -> Iterator[NamedSound | None]:
        """The sound, in the second step."""
        yield None
        yield self.heard

    def kv_bytes(self, frames: int) -> int:
        """None."""
        return 0


class ScriptedVoices:
    """Tells voices apart by their loudness."""

    name = "scripted"

    def embed(self, pieces: Sequence[Samples]) -> Iterator[Voices | None]:
        """A unit vector for each loudness, in steps of a half; in one pass."""
        rows = np.zeros((len(pieces), VOICES), np.float32)
        for row, piece in zip(rows, pieces, strict=True):
            row[int(np.log(max(float(np.abs(piece).max()), 1e-6)) / np.log(1.5)) % VOICES] = 1
        yield Voices(rows)


class ScriptedContext:
    """Keeps parts, and answers by naming what it reads."""

    def __init__(self, counters: Counters, embeddings: Lookup) -> None:
        self._counters = counters
        self._embeddings = embeddings
        self._kept: list[PromptPart] = []

    @property
    def kept_tokens(self) -> int:
        """Parts kept."""
        return len(self._kept)

    @property
    def kept_bytes(self) -> int:
        """A MiB a part."""
        return len(self._kept) * BYTES_A_PART

    def bytes_for(
        self, parts: Sequence[PromptPart], question: str = "", max_tokens: int = 0, earlier: Sequence[Turn] = ()
    ) -> int:
        """A MiB a part, and one for a question; a prefix that shares no part with the kept one stands beside it."""
        beside = 0 if shared(parts, self._kept) else len(self._kept)
        return (beside + len(parts) + bool(question)) * BYTES_A_PART

    def evict(self) -> None:
        """Forgets what is kept."""
        self._kept = []

    def held(self, parts: Sequence[PromptPart]) -> int:
        """The parts that both share."""
        return shared(parts, self._kept)

    def extend(self, parts: Sequence[PromptPart]) -> Iterator[None]:
        """Keeps the parts, one a step."""
        common = shared(parts, self._kept)
        self._counters.rebuilds += bool(self._kept and not common)
        for _ in parts[common:]:
            self._counters.prefill_tokens += 1
            yield None
        self._kept = list(parts)

    def answer(
        self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
    ) -> Generator[str | Completion, None, None]:
        """Repeats the question and names the parts: the length of audio, the words of a text; then the turns."""
        prefilled = len(parts) - shared(parts, self._kept) + 1
        heard = [self._name(part) for part in parts]
        heard += [f"({turn.question} {turn.answer})" for turn in earlier]
        words = f"{question} <- {' | '.join(heard)}".split()
        for i, word in enumerate(words[:max_tokens]):
            self._counters.decoded_tokens += 1
            yield f"{' ' if i else ''}{word}"
        yield Completion(min(len(words), max_tokens), "stop" if len(words) <= max_tokens else "length", prefilled)

    def _name(self, part: PromptPart) -> str:
        """The words of a text, instructions in brackets, the length of audio."""
        match part:
            case Text(text=text):
                return text.strip()
            case Instructions(text=text):
                return f"[{text}]"
        return str(self._embeddings(part))
