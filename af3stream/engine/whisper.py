"""A Whisper checkpoint as captioner, through faster-whisper."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from af3stream.engine.captioning import (
    DEFAULT_OPTIONS,
    CaptionOptions,
    CaptionRequest,
    Hypothesis,
    Passes,
    Samples,
    TimedWord,
)
from af3stream.engine.counters import Counters
from af3stream.engine.memory import trim_heap
from af3stream.engine.whisper_prompt import LONGEST, WhisperPrompt
from af3stream.engine.word_alignment import WordAligner
from af3stream.errors import ModelError

SAMPLING_RATE: Final = 16_000
FULL_S: Final = 30.0  # the longest input; Whisper was trained on 30 s
FINAL_PAD_S, FINAL_LEAST_S = 5.0, 15.0  # silence after an utterance, and the shortest input, of a final caption
INTERIM_PAD_S, INTERIM_LEAST_S = 2.0, 5.0
SILENT_SPEECH, SILENT_SCORE = 0.6, -1.0  # the library's no_speech_threshold and log_prob_threshold
NOISE_SCORE: Final = -1.6  # words that whisper-base invents over noise and hum score below this
SLOWEST_SPEECH: Final = 1.0  # tokens a second; words that it invents over music are unlikely, and fewer than that
LONG_SPEECH_S: Final = (
    10.0  # without a pause; from here on, the number of words and the language tell speech from music
)
UNKNOWN_LANGUAGE: Final = 0.4  # the likeliest language of music has less, of ten seconds of speech more
UNSURE_LANGUAGE: Final = 0.8  # the likeliest language of noise has less; noise is also taken for silence
LOOP_COMPRESSION: Final = 2.4  # the library's compression_ratio_threshold
LOOP_TOKENS: Final = 6  # tokens of a phrase that may not repeat, in an interim caption and after a loop was found
FASTEST_SPEECH: Final = 30.0  # characters a second; nobody speaks faster
USUAL_TOKENS: Final = 15.0  # a second; in scripts with a token or more a word, people say fewer
LONG_S: Final = 20.0  # input from which the encoder's attention takes more memory than anything else
LEAST_LIKELY: Final = 1e-3  # a language less probable than that is not named
# Of languages that are compared: the powers of the detector's probability and of the words' mean probability a token.
# Chosen on clips in a foreign accent (training/languages.json).
DETECTOR_POWER, WORDS_POWER = 0.25, 8.0


@dataclass(frozen=True, slots=True)
class Decoded:
    """The words of one decode.

    Attributes:
        score: their mean log-probability per token.
        silence: the probability that nobody speaks.
        tokens: how many tokens they are.
        ids: the tokens.
    """

    text: str
    score: float
    silence: float
    tokens: int
    ids: tuple[int, ...] = ()

    @classmethod
    def of(cls, result: Any, tokenizer: Any) -> Decoded:
        """Return the likeliest words that CTranslate2 generated for one input."""
        ids = result.sequences_ids[0]
        return cls(tokenizer.decode(ids).strip(), result.scores[0], result.no_speech_prob, len(ids), tuple(ids))

    def hypothesis(self, seconds: float, detected: float = 1.0) -> Hypothesis:
        """Return the caption of an utterance of this length.

        It has no words if these are very unlikely; if they are unlikely, and the model takes the audio for silence or
        they are too few for its length; if the model takes the audio for silence and is not sure of its language; if
        the utterance is long, and they are too few or no language is likely; or if they have no letter and no digit.

        Args:
            detected: the probability of the likeliest language; 1 if it was not detected.
        """
        unlikely, few = self.score < SILENT_SCORE, self.tokens < SLOWEST_SPEECH * seconds
        silent = self.silence > SILENT_SPEECH
        invented = self.score < NOISE_SCORE or (unlikely and (silent or few)) or (silent and detected < UNSURE_LANGUAGE)
        if seconds >= LONG_SPEECH_S:
            invented = invented or few or detected < UNKNOWN_LANGUAGE
        worded = any(letter.isalnum() for letter in self.text)
        return Hypothesis("" if invented or not worded else self.text, silence=self.silence)

    @property
    def looping(self) -> bool:
        """Whether the words repeat themselves more than people do. The score of a loop is high."""
        raw = self.text.encode()
        return len(raw) > LOOP_COMPRESSION * len(zlib.compress(raw))

    def made_up(self, seconds: float) -> bool:
        """Whether the words loop, or are more than anybody can say in this time."""
        return self.looping or len(self.text) > FASTEST_SPEECH * max(seconds, 1.0)


class WhisperCaptioner:
    """Implements `af3stream.engine.contract.Captioner`; each utterance is captioned by itself.

    A final caption is one beam search, an interim caption is greedy. Nothing is sampled, so the same samples have the
    same words. The input is padded to little more than the utterance, so that its cost follows its length. If the words
    of a final loop, they are searched again without repeats; if those of an interim loop, it has no words.

    Args:
        folder: a checkpoint in the CTranslate2 layout of faster-whisper, or a hub id.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads, 0 for the library's choice.
        counters: where encodes are counted.
        beam: beams of a final caption's search; 1: greedy.

    Raises:
        ModelError: if the checkpoint cannot be loaded.

    Attributes:
        languages: codes that it knows; English alone for an English-only checkpoint.
        translates: whether it writes English beside another language.
    """

    revises = True
    times_words = True

    def __init__(self, folder: Path | str, device: str, threads: int, counters: Counters, *, beam: int = 5) -> None:
        from faster_whisper import WhisperModel

        kind = device.partition(":")[0]
        try:
            whisper = WhisperModel(
                str(folder), device=kind, compute_type="int8" if kind == "cpu" else "float16", cpu_threads=threads
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"cannot load the captioner {folder}: {str(error).splitlines()[0]}") from error
        self.name = Path(folder).name if Path(folder).exists() else str(folder)
        self._model: Any = whisper.model
        self._features: Any = whisper.feature_extractor
        self._tokenizer: Any = whisper.hf_tokenizer
        self._aligner = WordAligner(whisper, counters)
        self._counters = counters
        self._beam = beam
        self.translates: bool = whisper.model.is_multilingual
        self._prompt = WhisperPrompt(self._tokenizer, whisper.supported_languages, multilingual=self.translates)
        self.languages = self._prompt.languages

    def caption(self, request: CaptionRequest) -> Iterator[Hypothesis | None]:
        """Transcribe an utterance. Yields after each call of the model.

        These are the encoder, the detection of the language, each search, and the alignment of words. The draft is not
        used: decoding again costs less. The translation of a final caption is a second search over the same encoding.
        """
        yield (yield from self._caption(request))

    def kv_bytes(self, request: CaptionRequest) -> int:
        """Return 0: each call of the model frees its keys and values."""
        return 0

    def _caption(self, request: CaptionRequest) -> Passes[Hypothesis]:
        samples, options, final = request.samples, request.options, request.final
        seconds = len(samples) / SAMPLING_RATE
        pad_s, least_s = (FINAL_PAD_S, FINAL_LEAST_S) if final else (INTERIM_PAD_S, INTERIM_LEAST_S)
        encoded = self._encoded(samples, min(FULL_S, max(least_s, seconds + pad_s)))
        language, probable, detected = yield from self._language(encoded, options)
        if options.compare:
            probable = yield from self._compared(encoded, dict(probable), options.compare, seconds, request.max_tokens)
            language = probable[0][0]
        heard = yield from self._search(encoded, language, request)
        said = Hypothesis("") if heard.made_up(seconds) else heard.hypothesis(seconds, detected)
        if not said.text and (detected < UNSURE_LANGUAGE or language == next(iter(probable), (language,))[0]):
            probable = ()  # nobody speaks: no other language would give words
        said = replace(said, language=language, languages=probable)
        if final and options.words and said.text:
            yield None
            said = replace(said, words=self._aligner.align(encoded, heard.ids, language, samples))
        if not (final and said.text and options.translate and self.translates) or language == "en":
            return said
        yield None
        prompt = self._prompt.ids(language, "translate")
        english = self._write(encoded, prompt, request.max_tokens, beam_size=self._beam)
        return said if english.made_up(seconds) else replace(said, translation=english.hypothesis(seconds).text)

    def _search(self, encoded: Any, language: str, request: CaptionRequest) -> Passes[Decoded]:
        """Search the words of an utterance in a language; the words of a final that loop are searched once more.

        Those of an interim are searched up to as many tokens as people usually say, and further only if they are not
        made up: a decode that loops goes on to its limit.
        """
        prompt = self._prompt.ids(language, "transcribe", request.options.vocabulary)
        yield None
        seconds = len(request.samples) / SAMPLING_RATE
        if not request.final:
            few = min(request.max_tokens, round(USUAL_TOKENS * max(seconds, 1.0)))
            heard = self._write(encoded, prompt, few, beam_size=1, no_repeat_ngram_size=LOOP_TOKENS)
            if heard.tokens < few or few == request.max_tokens or heard.made_up(seconds):
                return heard
            yield None  # a script with few letters a token
            return self._write(encoded, prompt, request.max_tokens, beam_size=1, no_repeat_ngram_size=LOOP_TOKENS)
        heard = self._write(encoded, prompt, request.max_tokens, beam_size=self._beam)
        if not heard.made_up(seconds):
            return heard
        yield None
        beam, tokens = self._beam, request.max_tokens
        return self._write(encoded, prompt, tokens, beam_size=beam, no_repeat_ngram_size=LOOP_TOKENS)

    def align(self, samples: Samples, text: str) -> Passes[tuple[TimedWord, ...]]:
        """Give the words of a text that somebody else heard in (n,) at 16 kHz, n at most 30 s, their times.

        Yields after each call of the model, and returns the words.
        """
        encoded = self._encoded(samples, min(FULL_S, max(FINAL_LEAST_S, len(samples) / SAMPLING_RATE + FINAL_PAD_S)))
        tokens = self._tokenizer.encode(f" {text}", add_special_tokens=False).ids
        language, _, _ = yield from self._language(encoded, DEFAULT_OPTIONS)
        yield None
        return self._aligner.align(encoded, tokens, language, samples)

    def _encoded(self, samples: Samples, padded_s: float) -> Any:
        """Return the encoder's states of samples that are padded to ``padded_s``, as a CTranslate2 `StorageView`."""
        from ctranslate2 import StorageView

        self._counters.caption_encodes += 1
        wanted = round(padded_s * SAMPLING_RATE)
        padded = np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
        mel = self._features(padded, padding=0)  # (mels, frames) float32
        if padded_s > LONG_S:
            trim_heap()  # the memory of the features, before the encoder takes more
        return self._model.encode(StorageView.from_array(np.ascontiguousarray(mel[None], np.float32)))

    def _write(self, encoded: Any, prompt: list[int], max_tokens: int, **options: Any) -> Decoded:
        """Decode encoder states to words; ``options`` are the library's."""
        result = self._model.generate(
            encoded,
            [prompt],
            max_length=min(LONGEST, len(prompt) + max_tokens),
            return_scores=True,
            return_no_speech_prob=True,
            **options,
        )[0]
        return Decoded.of(result, self._tokenizer)

    def _language(
        self, encoded: Any, options: CaptionOptions
    ) -> Passes[tuple[str, tuple[tuple[str, float], ...], float]]:
        """Return the language to write in, the probability of each one that may occur, and that of the likeliest.

        If the language is not detected, there are no probabilities, and the last is 1.
        """
        if not self.translates:
            return "en", (), 1.0
        told = options.language if options.language in self.languages else None
        if told and not options.detect:
            return told, (), 1.0
        yield None
        found = [(token.strip("<|>"), chance) for token, chance in self._model.detect_language(encoded)[0]]
        allowed = [(code, chance) for code, chance in found if code in (options.languages or self.languages)] or found
        probable = tuple((code, chance) for code, chance in allowed if chance >= LEAST_LIKELY)
        return told or allowed[0][0], probable, found[0][1]

    def _compared(
        self, encoded: Any, probable: dict[str, float], languages: tuple[str, ...], seconds: float, max_tokens: int
    ) -> Passes[tuple[tuple[str, float], ...]]:
        """How probable each of these languages is, the likeliest first, by the detector and by the words in it."""
        scores: dict[str, float] = {}
        for code in languages:
            yield None
            heard = self._write(encoded, self._prompt.ids(code, "transcribe"), max_tokens, beam_size=1)
            words = 0.0 if heard.made_up(seconds) else exp(WORDS_POWER * heard.score)
            scores[code] = max(LEAST_LIKELY, probable.get(code, 0.0)) ** DETECTOR_POWER * max(words, LEAST_LIKELY**2)
        whole = sum(scores.values())
        ranked = sorted(scores, key=lambda code: -scores[code])
        return tuple((code, scores[code] / whole) for code in ranked)
