"""When each word of a caption was said: Whisper's cross-attention, aligned with the audio by dynamic time warping."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from af3stream.engine.captioning import Captioner, CaptionRequest, Hypothesis, Passes, Samples, TimedWord
from af3stream.engine.counters import Counters

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

SAMPLING_RATE: Final = 16_000
FRAMES_A_SECOND: Final = 100  # mel frames, as the library counts them
OPENING: Final = frozenset("\"'“‘«„‚¿¡([{<「『（【《")  # punctuation that belongs to the word after it
QUIET_FRAME: Final = SAMPLING_RATE // FRAMES_A_SECOND  # samples; 10 ms, half of what the alignment resolves
UNSPACED: Final = re.compile("[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # Thai to Han
SPEECH_PERCENTILE, NOISE_PERCENTILE = 95, 5  # of the frames' levels: how loud speech and the background are
QUIET_SHARE: Final = 0.25  # a frame is quiet up to here between background (0) and speech (1), in decibels
QUIET_DB: Final = -25.0  # and only so far below speech: the hiss of an "s" is no pause


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text as the library's tokenizer splits it, with the white space before it.

    Attributes:
        start, end: samples at 16 kHz from the beginning of the audio.
        tokens: how many tokens it is.
    """

    text: str
    start: int
    end: int
    probability: float
    tokens: int = 1

    @property
    def is_spoken(self) -> bool:
        """Whether it has a letter or a digit."""
        return any(letter.isalnum() for letter in self.text)


class WordAligner:
    """Finds when each word of a text was said, over encoder states that are there already.

    Args:
        whisper: the checkpoint that encoded the audio.
        counters: where alignments are counted.
    """

    def __init__(self, whisper: WhisperModel, counters: Counters) -> None:
        self._whisper = whisper
        self._counters = counters

    def align(self, encoded: Any, tokens: Sequence[int], language: str, samples: Samples) -> tuple[TimedWord, ...]:
        """Return the words of a text with their times, in order.

        Args:
            encoded: the encoder's states of the audio, a `ctranslate2.StorageView`; padding at its end is ignored.
            tokens: the text's; control tokens among them are left out.
            language: a code that the checkpoint knows; ``en`` if it knows English only.
            samples: (n,) at 16 kHz, without padding.
        """
        from faster_whisper.tokenizer import Tokenizer

        tokenizer = Tokenizer(
            self._whisper.hf_tokenizer, self._whisper.model.is_multilingual, task="transcribe", language=language
        )
        text = [token for token in tokens if token < tokenizer.eot]
        frames = len(samples) * FRAMES_A_SECOND // SAMPLING_RATE
        if not text or not frames:
            return ()
        self._counters.alignments += 1
        [found] = self._whisper.find_alignment(tokenizer, [text], encoded, frames)
        pieces = [
            Piece(
                piece["word"],
                round(piece["start"] * SAMPLING_RATE),
                round(piece["end"] * SAMPLING_RATE),
                float(piece["probability"]),
                len(piece["tokens"]),
            )
            for piece in found
        ]
        return tuple(trimmed(words_of(pieces), samples))


class Aligner(Protocol):
    """Gives words of a text their times."""

    def align(self, samples: Samples, text: str) -> Passes[tuple[TimedWord, ...]]:
        """Return the words of a text that was heard in (n,) at 16 kHz, n at most 30 s."""


class AlignedCaptioner:
    """Implements `Captioner`: another one's words, with times by an aligner beside it.

    Args:
        captioner: gives the words.
        load: loads the aligner, when words are to have times for the first time.
    """

    times_words = True

    def __init__(self, captioner: Captioner, load: Callable[[], Aligner]) -> None:
        self.name = captioner.name
        self.revises = captioner.revises
        self.languages, self.translates = captioner.languages, captioner.translates
        self._captioner = captioner
        self._load = load
        self._aligner: Aligner | None = None

    def caption(self, request: CaptionRequest) -> Iterator[Hypothesis | None]:
        """Hear an utterance as the captioner does; the words of a final caption have times if that is asked for."""
        for heard in self._captioner.caption(request):
            if not (heard and heard.text and request.final and request.options.words):
                yield heard
                continue
            yield None
            if self._aligner is None:
                self._aligner = self._load()
            words = yield from self._aligner.align(request.samples, heard.text)
            yield replace(heard, words=words)

    def kv_bytes(self, request: CaptionRequest) -> int:
        """As of the captioner."""
        return self._captioner.kv_bytes(request)


def words_of(pieces: Sequence[Piece]) -> list[TimedWord]:
    """Join pieces to words: one for each run between white space, or each piece of a script that is written without it.

    Punctuation that stands alone joins the word before it, or after it if it opens something. A text without letters or
    digits has no words.
    """
    groups: list[list[Piece]] = []
    for piece in pieces:
        if groups and _belongs(groups[-1], piece):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    while len(groups) > 1 and not any(piece.is_spoken for piece in groups[-1]):
        closing = groups.pop()  # what it opens does not follow
        groups[-1] += closing
    return [_word(group) for group in groups if any(piece.is_spoken for piece in group)]


def _belongs(group: Sequence[Piece], piece: Piece) -> bool:
    """Whether a piece belongs to the word that the pieces before it are."""
    before, after = group[-1].text, piece.text
    if not any(each.is_spoken for each in group):
        return True  # nothing of the word but punctuation yet
    if not piece.is_spoken:
        return not (after[:1].isspace() and set(after.strip()) <= OPENING)
    return not (after[:1].isspace() or UNSPACED.match(before[-1:]) or UNSPACED.match(after))


def _word(group: Sequence[Piece]) -> TimedWord:
    spoken = [piece for piece in group if piece.is_spoken]
    tokens = sum(piece.tokens for piece in spoken)
    probability = sum(piece.probability * piece.tokens for piece in spoken) / tokens
    text = "".join(piece.text for piece in group).strip()
    return TimedWord(text, spoken[0].start, max(spoken[0].start, group[-1].end), probability)


def trimmed(words: Sequence[TimedWord], samples: Samples) -> Iterator[TimedWord]:
    """Take the pauses at both ends off each word: the alignment shares a pause out to its neighbours.

    Args:
        samples: (n,) at 16 kHz, from where the words' times count.
    """
    loud = np.flatnonzero(_loud(samples)) * QUIET_FRAME  # where frames that are not quiet begin
    for word in words:
        first, last = np.searchsorted(loud, [word.start - QUIET_FRAME + 1, word.end])
        if first < last:
            start, end = max(word.start, int(loud[first])), min(word.end, int(loud[last - 1]) + QUIET_FRAME)
            yield TimedWord(word.text, start, end, word.probability)
        else:
            yield word


def _loud(samples: Samples) -> NDArray[np.bool_]:
    """Which frames of 10 ms are speech or as loud.  # (n // 160,)"""
    frames = samples[: len(samples) // QUIET_FRAME * QUIET_FRAME].reshape(-1, QUIET_FRAME)
    level = 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-10)  # dB; (frames,)
    if not len(level):
        return np.zeros(0, np.bool_)
    speech, noise = np.percentile(level, [SPEECH_PERCENTILE, NOISE_PERCENTILE])
    return np.asarray(level > min(noise + QUIET_SHARE * (speech - noise), speech + QUIET_DB))
