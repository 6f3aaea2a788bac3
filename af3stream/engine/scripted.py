"""An engine without a model, for the tests of what is not the engine: its words are a function of what it is given."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from af3stream.engine.contract import (
    Answering,
    AudioSegment,
    Capacity,
    Captioner,
    Completion,
    Counters,
    Hypothesis,
    PromptPart,
    Samples,
    Text,
    Turn,
    VoiceEncoder,
    Voices,
    shared,
)

SAMPLES_A_FRAME = 640  # 25 frames a second at 16 kHz
BYTES_A_PART = 1 << 20  # that a context counts
VOICES = 64  # loudnesses that are told apart
FRAME_BYTES = 1 << 10  # of one projected frame: 25 KiB a second


class ScriptedEngine:
    """Captions say how much they heard, a word a half second; answers name the parts they read, a word a step."""

    name = "scripted"
    frame_bytes = FRAME_BYTES
    encode_together = 4

    def __init__(self, window_s: float = 30.0, windows: int = 10, positions: int = 8_192) -> None:
        self.capacity = Capacity(int(window_s * 16_000), windows, positions)
        self.counters = Counters()
        self.captioner: Captioner = ScriptedCaptioner(self.counters)
        self.voices: VoiceEncoder | None = ScriptedVoices()

    def frames(self, samples: int) -> int:
        """One frame a 40 ms."""
        return samples // SAMPLES_A_FRAME

    def count(self, text: str) -> int:
        """One position a word."""
        return len(text.split())

    def count_turn(self, turn: Turn) -> int:
        """One position a word."""
        return self.count(turn.question) + self.count(turn.answer)

    def encode(self, sounds: Sequence[AudioSegment]) -> None:
        """Marks the sounds as encoded."""
        waiting = [sound for sound in sounds if sound.embeddings is None]
        for sound in waiting:
            sound.embeddings = f"{len(sound.samples) / 16_000:g}s" if sound.samples is not None else "?"
            sound.samples = None
        self.counters.encoder_passes += bool(waiting)
        self.counters.sounds_encoded += len(waiting)

    def context(self) -> ScriptedContext:
        """An empty context."""
        return ScriptedContext(self.counters)

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

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def caption(self, samples: Samples, draft: Hypothesis | None, *, final: bool, max_tokens: int) -> Hypothesis:
        """One word a half second of audio."""
        self._counters.caption_encodes += 1
        words = [f"word{i + 1}" for i in range(min(max_tokens, len(samples) // 8_000))]
        return Hypothesis(" ".join(words) + ("." if final else ""), tuple(range(len(words))))


class ScriptedVoices:
    """Tells voices apart by their loudness: a piece that is louder by a half has another voice."""

    name = "scripted"

    def embed(self, pieces: Sequence[Samples]) -> Voices:
        """A unit vector for each loudness, in steps of a half."""
        rows = np.zeros((len(pieces), VOICES), np.float32)
        for row, piece in zip(rows, pieces, strict=True):
            row[int(np.log(max(float(np.abs(piece).max()), 1e-6)) / np.log(1.5)) % VOICES] = 1
        return Voices(rows)


class ScriptedContext:
    """Keeps the parts it was told to keep, and answers by naming what it reads."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
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
        """A MiB a part, a question counting as one; what shares no part with what is kept stands beside it."""
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
        """Says the question back and names the parts, the length of a sound and the words of a text, and the turns."""
        prefilled = len(parts) - shared(parts, self._kept) + 1
        heard = [part.text.strip() if isinstance(part, Text) else str(part.embeddings) for part in parts]
        heard += [f"({turn.question} {turn.answer})" for turn in earlier]
        words = f"{question} <- {' | '.join(heard)}".split()
        for i, word in enumerate(words[:max_tokens]):
            self._counters.decoded_tokens += 1
            yield f"{' ' if i else ''}{word}"
        yield Completion(min(len(words), max_tokens), "stop" if len(words) <= max_tokens else "length", prefilled)
