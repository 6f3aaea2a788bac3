"""A Whisper checkpoint as captioner, through faster-whisper."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import soxr

from af3stream.engine.contract import Counters, Hypothesis, Samples
from af3stream.engine.memory import give_back
from af3stream.errors import ModelError, quoted

SAMPLING_RATE: Final = 16_000
FULL_S: Final = 30.0  # what Whisper was trained on
FINAL_PAD_S, FINAL_LEAST_S = 5.0, 15.0  # silence after an utterance, and the shortest input, of a final caption
INTERIM_PAD_S, INTERIM_LEAST_S = 2.0, 5.0
SILENT_SPEECH, SILENT_SCORE = 0.6, -1.0  # openai-whisper's no_speech_threshold and logprob_threshold
NOISE_SCORE: Final = -1.6  # what whisper-base writes over noise, hum and music scores below -1.8
DOUBTFUL_SCORE: Final = -0.8  # mean log-probability below which a shortened input is not trusted
SURE_SCORE: Final = -0.3  # above which a beam changes no word in a hundred on validation: greedy words stand
UNSURE_SCORE: Final = -0.5  # below which an utterance is heard slower, too: three fifths of those a beam is tried on
SLOWER: Final = (0.92, 0.78)  # the speeds, and the pitches, at which it is
SECOND_WEIGHT: Final = 0.3  # of the second opinion, beside Whisper's own likelihood
LOOP_COMPRESSION: Final = 2.4  # openai-whisper's compression_ratio_threshold
LONG_S: Final = 20.0  # of input, from which on the encoder's attention takes the most memory of all that is done
PROMPT_TOKENS: Final = 4
OPENING_TOKENS: Final = 10
LOOP_TOKENS: Final = 6  # a phrase of so many tokens is not written twice where a loop was heard
FASTEST_SPEECH: Final = 30.0  # characters a second that nobody speaks


@dataclass(frozen=True, slots=True)
class Heard:
    """One pass's words.

    Attributes:
        score: their mean log-probability a token.
        silence: the probability that nobody speaks.
        tokens: how many.
        speech: somebody speaks, by who else hears it.
    """

    text: str
    score: float
    silence: float
    tokens: int
    speech: bool = False

    @property
    def likelihood(self) -> float:
        """The log-probability of all of it, with its end."""
        return self.score * (self.tokens + 1)

    @property
    def doubtful(self) -> bool:
        """Whether the words may be wrong for want of the silence that Whisper was trained on."""
        return NOISE_SCORE <= self.score < DOUBTFUL_SCORE

    @property
    def nobody_speaks(self) -> bool:
        """Whether the words are made up over noise or silence."""
        if self.speech:
            return False
        return self.score < NOISE_SCORE or (self.silence > SILENT_SPEECH and self.score < SILENT_SCORE)

    @property
    def hypothesis(self) -> Hypothesis:
        """What is said of it: no words where nobody speaks, nor where there are none."""
        worded = any(letter.isalnum() for letter in self.text)
        return Hypothesis("" if self.nobody_speaks or not worded else self.text, silence=self.silence)

    @property
    def looping(self) -> bool:
        """Whether the words repeat themselves more than people do; a loop's own score is high."""
        raw = self.text.encode()
        return len(raw) > LOOP_COMPRESSION * len(zlib.compress(raw))

    def made_up(self, seconds: float) -> bool:
        """Whether nobody says so in the time: the words loop, or are more than can be said."""
        return self.looping or len(self.text) > FASTEST_SPEECH * max(seconds, 1.0)


class Ears(Protocol):
    """What else is heard of one utterance."""

    @property
    def speech(self) -> bool:
        """Whether anybody speaks."""

    def likelihoods(self, texts: Sequence[str]) -> Sequence[float]:
        """The log-probability of each of these texts."""


@dataclass(frozen=True, slots=True)
class Second:
    """Who else hears an utterance.

    Attributes:
        hear: listens to samples (n,) at 16 kHz.
        language: a code such as ``en``, the only language that they understand; ``None``: any.
    """

    hear: Callable[[Samples], Ears]
    language: str | None = None


def hypotheses(result: Any, tokenizer: Any) -> list[Heard]:
    """What CTranslate2 generated for one input, the likeliest a token first."""
    return [
        Heard(tokenizer.decode(ids).strip(), score, result.no_speech_prob, len(ids))
        for ids, score in zip(result.sequences_ids, result.scores, strict=True)
    ]


def _padded_s(seconds: float, pad_s: float, least_s: float) -> float:
    """How long an utterance is with the silence that is put after it."""
    return min(FULL_S, max(least_s, seconds + pad_s))


def _likeliest(found: Sequence[Heard], ears: Ears | None) -> str:
    """The words that Whisper, and who else hears, find likeliest together."""
    texts, scores = [heard.text for heard in found], [heard.likelihood for heard in found]
    if ears:
        others = ears.likelihoods(texts)
        scores = [own + SECOND_WEIGHT * other for own, other in zip(scores, others, strict=True)]
    return texts[scores.index(max(scores))]


class WhisperCaptioner:
    """Implements `af3stream.engine.contract.Captioner`, each utterance by itself.

    The input is padded to little more than the utterance, so that its cost follows its length. Where greedy decoding is
    not sure of a final's words, a beam finds others; where it is still less sure, in slower utterances. Where they
    are doubtful, all 30 s that Whisper was trained on are heard before; where words loop, they are written without
    repeats. An interim repeats nothing, and where it would, it has no words: another comes in a second.

    Which of the hypotheses is right, who else hears may say, too: joint CTC and attention scores, as in
    doi.org/10.1109/JSTSP.2017.2763455. And whether anybody speaks: words that Whisper finds as unlikely as those that
    it makes up over noise may be those of a voice that is strange to it.

    Args:
        folder: a checkpoint in the CTranslate2 layout of faster-whisper, or a hub id.
        language: a code such as ``en``, or ``auto``.
        threads: CPU threads, 0 for the library's choice.
        beam: hypotheses that are followed at once for a final caption that greedy decoding is not sure of; 1: greedy.
        second: who else hears the utterance; ``None``: nobody.

    Raises:
        ModelError: where the checkpoint cannot be loaded.
    """

    def __init__(
        self,
        folder: Path | str,
        language: str,
        device: str,
        threads: int,
        counters: Counters,
        *,
        beam: int = 1,
        second: Second | None = None,
    ) -> None:
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
        self._language = language
        self._counters = counters
        self._beam = beam
        self._second = second
        if self._prompt_ids("en")[1] is None and language != "en":
            raise ModelError(
                f"the captioner {self.name} hears English only, and captions.language is {quoted(language)}"
            )

    def caption(self, samples: Samples, draft: Hypothesis | None, *, final: bool, max_tokens: int) -> Hypothesis:
        """Transcribe (n,) at 16 kHz, n at most 30 s. The draft is not used: hearing again costs less than verifying."""
        seconds = len(samples) / SAMPLING_RATE
        if not final:
            encoded = self._encoded(samples, _padded_s(seconds, INTERIM_PAD_S, INTERIM_LEAST_S))
            (heard,) = self._write(encoded, self._prompt(encoded), max_tokens, no_repeat_ngram_size=LOOP_TOKENS)
            if heard.made_up(seconds):
                return Hypothesis("")
            return heard.hypothesis
        heard = self._searched(samples, max_tokens)
        if heard.made_up(seconds):
            encoded = self._encoded(samples, FULL_S)
            prompt = self._prompt(encoded)
            (opening,) = self._write(encoded, prompt, OPENING_TOKENS)  # before the loop makes itself likely
            (heard,) = self._write(encoded, prompt, max_tokens, no_repeat_ngram_size=LOOP_TOKENS)
            heard = replace(heard, score=min(heard.score, opening.score))
        return heard.hypothesis

    def _encoded(self, samples: Samples, padded_s: float) -> Any:
        """The encoder's states of samples that are padded to ``padded_s``."""
        from ctranslate2 import StorageView

        self._counters.caption_encodes += 1
        wanted = round(padded_s * SAMPLING_RATE)
        padded = np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
        mel = self._features(padded, padding=0)  # (mels, frames) float32
        if padded_s > LONG_S:
            give_back()  # what the features took, before the encoder takes more
        return self._model.encode(StorageView.from_array(np.ascontiguousarray(mel[None], np.float32)))

    def _searched(self, samples: Samples, max_tokens: int) -> Heard:
        """The likeliest words of an utterance.

        Whether anybody speaks is judged by greedy decoding, which loops over noise: a beam finds likelier words for it.
        Where it thinks that nobody does, who else hears may know better. A beam is searched by the mean of its tokens,
        or it would end early, and chosen from by the likelihood of the whole, which is right more often.
        """
        seconds = len(samples) / SAMPLING_RATE
        padded_s = _padded_s(seconds, FINAL_PAD_S, FINAL_LEAST_S)
        encoded = self._encoded(samples, padded_s)
        prompt = self._prompt(encoded)
        (heard,) = self._write(encoded, prompt, max_tokens)
        if padded_s < FULL_S and heard.doubtful and not heard.looping:
            padded_s, encoded = FULL_S, self._encoded(samples, FULL_S)
            prompt = self._prompt(encoded)
            (heard,) = self._write(encoded, prompt, max_tokens)
        if self._beam == 1 or heard.score > SURE_SCORE or heard.looping:
            return heard
        ears = self._ears(samples, prompt)
        if heard.nobody_speaks:
            if ears is None or not ears.speech:
                return heard
            heard = replace(heard, speech=True)
        found = self._write(encoded, prompt, max_tokens, self._beam)
        for speed in SLOWER:
            slower_s = seconds / speed
            if heard.score < UNSURE_SCORE and slower_s < FULL_S:
                slower = soxr.resample(samples, speed * SAMPLING_RATE, SAMPLING_RATE)
                encoded = self._encoded(slower, max(padded_s, _padded_s(slower_s, FINAL_PAD_S, FINAL_LEAST_S)))
                found += self._write(encoded, prompt, max_tokens, self._beam)
        least = 0 if heard.made_up(seconds) else heard.tokens / 2
        whole = [other for other in found if other.tokens >= least and not other.made_up(seconds)]
        return replace(heard, text=_likeliest(whole or [heard], ears))

    def _ears(self, samples: Samples, prompt: list[int]) -> Ears | None:
        """What else is heard, by who understands the language of the prompt."""
        second = self._second
        if second and (second.language is None or prompt == self._prompt_of(second.language)):
            return second.hear(samples)
        return None

    def _write(self, encoded: Any, prompt: list[int], max_tokens: int, beam: int = 1, **options: Any) -> list[Heard]:
        """As many hypotheses as the beam is wide; 1: greedy."""
        result = self._model.generate(
            encoded,
            [prompt],
            beam_size=beam,
            num_hypotheses=beam,
            max_length=PROMPT_TOKENS + max_tokens,
            return_scores=True,
            return_no_speech_prob=True,
            **options,
        )[0]
        return hypotheses(result, self._tokenizer)

    def _prompt(self, encoded: Any) -> list[int]:
        language = self._language
        if language == "auto":
            language = self._model.detect_language(encoded)[0][0][0].strip("<|>")
        return self._prompt_of(language)

    def _prompt_of(self, language: str) -> list[int]:
        return [token for token in self._prompt_ids(language) if token is not None]

    def _prompt_ids(self, language: str) -> list[int | None]:
        names = ("<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>")
        return [self._tokenizer.token_to_id(name) for name in names]
