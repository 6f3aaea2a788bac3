"""The Whisper captioner over scripted decodes; `tests/e2e/test_silence.py` has the real model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from af3stream.engine.captioning import DEFAULT_OPTIONS, CaptionOptions, CaptionRequest, Hypothesis, Samples
from af3stream.engine.whisper import LOOP_TOKENS, Decoded, WhisperCaptioner
from af3stream.engine.whisper_prompt import WhisperPrompt
from tests.captioned import captioned

RATE = 16_000
RAIN = Decoded("Rain on the roof.", score=-0.3, silence=0.1, tokens=5)
LOOP = Decoded("rain on the roof, " * 20, score=-0.1, silence=0.1, tokens=100)
FAST = Decoded("Rain on the roof, and on the street as well.", score=-0.3, silence=0.1, tokens=12)


ENGLISH = CaptionOptions(language="en")
CODES = ("en", "es", "fr")
SPANISH = (("es", 0.9), ("en", 0.08), ("fr", 0.0005))  # what the detector says


def tokenizer() -> Tokenizer:
    """A tokenizer of bytes, with the control tokens of a multilingual Whisper checkpoint."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({byte: number for number, byte in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    names = ("startoftranscript", *CODES, "translate", "transcribe", "startofprev", "notimestamps")
    made.add_special_tokens([f"<|{name}|>" for name in names])
    return made


class Scripted(WhisperCaptioner):
    """A captioner whose decodes give these words, one after another.

    Attributes:
        padded_s: seconds of each input that was encoded.
        options: the library's options of each decode.
        limits: the most tokens of each decode.
        prompts: the prompt of each decode, as text.
        calls: what the model was called for.

    Args:
        probable: what the detector says of any input.
        multilingual: whether it knows other languages than English.
    """

    def __init__(
        self, *decodes: Decoded, probable: Sequence[tuple[str, float]] = SPANISH, multilingual: bool = True
    ) -> None:
        self._decodes, self._beam = iter(decodes), 5
        self._tokenizer = tokenizer()
        self.translates = multilingual
        self._prompt = WhisperPrompt(self._tokenizer, [*CODES, "yue"], multilingual=multilingual)
        self.languages = self._prompt.languages
        self.detected = 0
        self._model = SimpleNamespace(detect_language=self._detect)
        self._said = [(f"<|{code}|>", chance) for code, chance in probable]
        self.padded_s: list[float] = []
        self.options: list[dict[str, Any]] = []
        self.limits: list[int] = []
        self.prompts: list[str] = []
        self.calls: list[str] = []

    def final(self, seconds: float = 5.0, options: CaptionOptions = DEFAULT_OPTIONS) -> Hypothesis:
        """The final caption of an utterance of this length."""
        samples = np.zeros(round(seconds * RATE), np.float32)
        return captioned(self, samples, options=options)

    def interim(self, seconds: float = 5.0, options: CaptionOptions = DEFAULT_OPTIONS) -> Hypothesis:
        """The interim caption of an utterance of this length."""
        samples = np.zeros(round(seconds * RATE), np.float32)
        return captioned(self, samples, final=False, options=options)

    def _detect(self, encoded: None) -> list[list[tuple[str, float]]]:
        self.calls.append("detect")
        self.detected += 1
        return [self._said]

    def _encoded(self, samples: Samples, padded_s: float) -> None:
        self.calls.append("encode")
        self.padded_s.append(padded_s)

    def _write(self, encoded: None, prompt: list[int], max_tokens: int, **options: Any) -> Decoded:
        self.calls.append("search")
        self.options.append(options)
        self.limits.append(max_tokens)
        self.prompts.append(self._tokenizer.decode(prompt, skip_special_tokens=False))
        return next(self._decodes)


def test_a_final_caption_is_one_beam_search() -> None:
    captioner = Scripted(RAIN)
    assert captioner.final(options=ENGLISH) == Hypothesis(RAIN.text, silence=RAIN.silence, language="en")
    assert captioner.options == [{"beam_size": 5}]


def test_an_interim_caption_is_one_greedy_decode_that_repeats_no_phrase() -> None:
    captioner = Scripted(RAIN)
    assert captioner.interim().text == RAIN.text
    assert captioner.options == [{"beam_size": 1, "no_repeat_ngram_size": LOOP_TOKENS}]


@pytest.mark.parametrize(
    ("decodes", "options", "final", "passes"),
    [
        pytest.param([RAIN], ENGLISH, True, ["encode", "search"], id="the language is told"),
        pytest.param([RAIN], CaptionOptions(), True, ["encode", "detect", "search"], id="it is detected"),
        pytest.param([LOOP, RAIN], ENGLISH, True, ["encode", "search", "search"], id="the words loop"),
        pytest.param([LOOP], ENGLISH, False, ["encode", "search"], id="those of an interim"),
        pytest.param(
            [RAIN, RAIN],
            CaptionOptions(language="es", translate=True),
            True,
            ["encode", "search", "search"],
            id="a translation",
        ),
        pytest.param(
            [RAIN, RAIN, RAIN],
            CaptionOptions(detect=True, language="en", compare=("en", "es")),
            True,
            ["encode", "detect", "search", "search", "search"],
            id="languages are compared",
        ),
    ],
)
def test_each_call_of_the_model_is_a_pass(
    decodes: list[Decoded], options: CaptionOptions, final: bool, passes: list[str]
) -> None:
    captioner = Scripted(*decodes)
    steps = captioner.caption(CaptionRequest(np.zeros(RATE, np.float32), 99, final, None, options))
    assert [len(captioner.calls) for _ in steps] == [*range(1, len(passes) + 1)]
    assert captioner.calls == passes


@pytest.mark.parametrize(("seconds", "padded_s"), [(1, 15), (9, 15), (12, 17), (28, 30)])
def test_a_final_is_padded_to_little_more_than_its_utterance(seconds: float, padded_s: float) -> None:
    captioner = Scripted(RAIN)
    captioner.final(seconds)
    assert captioner.padded_s == [padded_s]


@pytest.mark.parametrize(("seconds", "padded_s"), [(1, 5), (8, 10), (29, 30)])
def test_an_interim_is_padded_less(seconds: float, padded_s: float) -> None:
    captioner = Scripted(RAIN)
    captioner.interim(seconds)
    assert captioner.padded_s == [padded_s]


@pytest.mark.parametrize("kind", ["final", "interim"])
@pytest.mark.parametrize(
    ("score", "silence", "seconds", "said"),
    [
        pytest.param(-0.9, 0.9, 5, RAIN.text, id="likely words, though the model takes them for silence"),
        pytest.param(-1.1, 0.5, 5, RAIN.text, id="unlikely words of somebody who speaks"),
        pytest.param(-1.1, 0.7, 5, "", id="unlikely words over silence"),
        pytest.param(-1.1, 0.5, 6, "", id="unlikely words, and fewer than anybody says in the time"),
        pytest.param(-0.9, 0.5, 6, RAIN.text, id="likely words, as few"),
        pytest.param(-1.7, 0.0, 5, "", id="words as unlikely as over noise"),
        pytest.param(-0.5, 0.0, 12, "", id="likely words, but few for a long utterance"),
    ],
)
def test_a_caption_has_no_words_if_nobody_speaks(
    kind: str, score: float, silence: float, seconds: float, said: str
) -> None:
    captioner = Scripted(Decoded(RAIN.text, score, silence, tokens=5))
    caption = captioner.final(seconds, ENGLISH) if kind == "final" else captioner.interim(seconds, ENGLISH)
    assert caption == Hypothesis(said, silence=silence, language="en")


@pytest.mark.parametrize(("seconds", "likeliest", "said"), [(12, 0.3, ""), (12, 0.5, RAIN.text), (9, 0.3, RAIN.text)])
def test_a_long_utterance_in_no_likely_language_has_no_words(seconds: float, likeliest: float, said: str) -> None:
    captioner = Scripted(Decoded(RAIN.text, -0.4, 0.0, tokens=40), probable=[("es", likeliest), ("en", 0.1)])
    assert captioner.final(seconds).text == said


@pytest.mark.parametrize(
    ("silence", "likeliest", "said"), [(0.7, 0.6, ""), (0.7, 0.9, RAIN.text), (0.3, 0.6, RAIN.text)]
)
def test_silence_in_a_language_that_is_not_sure_has_no_words(silence: float, likeliest: float, said: str) -> None:
    captioner = Scripted(Decoded(RAIN.text, -0.4, silence, tokens=5), probable=[("es", likeliest), ("en", 0.1)])
    assert captioner.final().text == said


@pytest.mark.parametrize(("written", "said"), [(". .", ""), ("♪♪", ""), ("…", ""), ("7.", "7."), ("雨。", "雨。")])
def test_a_caption_has_a_letter_or_a_digit(written: str, said: str) -> None:
    assert Scripted(Decoded(written, -0.2, 0.0, 2)).final().text == said


def test_a_final_that_loops_is_searched_once_more_without_repeats_over_the_same_encoding() -> None:
    captioner = Scripted(LOOP, RAIN)
    assert captioner.final().text == RAIN.text
    assert captioner.options == [{"beam_size": 5}, {"beam_size": 5, "no_repeat_ngram_size": LOOP_TOKENS}]
    assert len(captioner.padded_s) == 1


def test_a_final_that_loops_again_has_no_words() -> None:
    assert Scripted(LOOP, LOOP).final(options=ENGLISH) == Hypothesis("", language="en")


def test_an_interim_that_loops_has_no_words_and_is_not_decoded_again() -> None:
    captioner = Scripted(LOOP, RAIN)
    assert captioner.interim(options=ENGLISH) == Hypothesis("", language="en")
    assert len(captioner.options) == 1


def test_an_interim_is_decoded_to_as_many_tokens_as_people_usually_say() -> None:
    captioner = Scripted(RAIN)
    captioner.interim(5.0)
    assert captioner.limits == [75]


def test_an_interim_that_reaches_this_limit_is_decoded_further_unless_it_is_made_up() -> None:
    cut, whole = replace(RAIN, tokens=75), replace(RAIN, text=f"{RAIN.text} And then more.", tokens=90)
    captioner = Scripted(cut, whole)
    assert captioner.interim(5.0).text == whole.text
    assert captioner.limits == [75, 99]
    captioner = Scripted(replace(FAST, text=FAST.text * 9, tokens=75), whole)
    assert captioner.interim(5.0, ENGLISH) == Hypothesis("", language="en")
    assert captioner.limits == [75]


def test_more_words_than_anybody_can_say_in_the_time_are_a_loop() -> None:
    assert Scripted(FAST).final(2.0).text == FAST.text
    assert Scripted(FAST, RAIN).final(1.0).text == RAIN.text
    assert Scripted(FAST).interim(1.0, ENGLISH) == Hypothesis("", language="en")


# ---- languages -------------------------------------------------------------------------------------------------------


def test_an_utterance_is_written_in_the_language_that_was_told() -> None:
    captioner = Scripted(RAIN)
    assert captioner.final(options=ENGLISH).language == "en"
    assert captioner.prompts == ["<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"]
    assert captioner.detected == 0


def test_an_utterance_is_written_in_the_likeliest_language_if_none_was_told() -> None:
    captioner = Scripted(RAIN)
    heard = captioner.final()
    assert heard.language == "es"
    assert heard.languages == SPANISH[:2]  # the third is less than one in a thousand
    assert captioner.prompts == ["<|startoftranscript|><|es|><|transcribe|><|notimestamps|>"]


def test_only_languages_that_may_occur_are_detected() -> None:
    heard = Scripted(RAIN).final(options=CaptionOptions(languages=("fr", "en")))
    assert (heard.language, heard.languages) == ("en", (("en", 0.08),))


def test_languages_are_detected_beside_one_that_is_told() -> None:
    heard = Scripted(RAIN).final(options=replace(ENGLISH, detect=True))
    assert (heard.language, heard.languages) == ("en", SPANISH[:2])


def test_of_languages_that_are_compared_the_one_with_the_likeliest_words_is_chosen() -> None:
    looping, unlikely, likely = replace(LOOP, score=0.0), replace(RAIN, score=-1.2), replace(RAIN, score=-0.2)
    captioner = Scripted(looping, unlikely, likely, likely, probable=(("en", 0.5), ("es", 0.4), ("fr", 0.1)))
    heard = captioner.final(options=CaptionOptions(compare=("en", "es", "fr")))
    assert heard.language == "fr"
    assert [code for code, _ in heard.languages] == ["fr", "es", "en"]
    assert sum(chance for _, chance in heard.languages) == pytest.approx(1)
    assert captioner.options == [{"beam_size": 1}] * 3 + [{"beam_size": 5}]
    assert len(captioner.padded_s) == 1


def test_where_nobody_speaks_no_language_is_probable() -> None:
    assert Scripted(replace(RAIN, score=-1.7)).final().languages == ()


def test_words_that_are_unlikely_in_another_language_than_the_likeliest_say_nothing_of_silence() -> None:
    assert Scripted(replace(RAIN, score=-1.7)).final(options=replace(ENGLISH, detect=True)).languages == SPANISH[:2]


def test_an_english_checkpoint_hears_english_and_is_asked_for_no_language() -> None:
    captioner = Scripted(RAIN, multilingual=False)
    assert captioner.languages == ("en",) and not captioner.translates
    assert captioner.final().language == "en"
    assert captioner.prompts == ["<|startoftranscript|><|notimestamps|>"]
    assert captioner.detected == 0


def test_a_final_is_translated_by_a_second_search_over_the_same_encoding() -> None:
    captioner = Scripted(Decoded("Lluvia en el tejado.", -0.3, 0.1, 6), RAIN)
    heard = captioner.final(5.0, CaptionOptions(language="es", translate=True))
    assert (heard.text, heard.translation) == ("Lluvia en el tejado.", RAIN.text)
    assert captioner.prompts[1] == "<|startoftranscript|><|es|><|translate|><|notimestamps|>"
    assert len(captioner.padded_s) == 1


@pytest.mark.parametrize("language", ["en", "es"])
def test_neither_english_nor_an_interim_is_translated(language: str) -> None:
    captioner = Scripted(RAIN, RAIN)
    options = CaptionOptions(language=language, translate=True)
    heard = captioner.final(5.0, options) if language == "en" else captioner.interim(5.0, options)
    assert (heard.translation, len(captioner.prompts)) == ("", 1)


# ---- vocabulary ------------------------------------------------------------------------------------------------------


def test_a_vocabulary_stands_where_the_text_before_would_stand() -> None:
    captioner = Scripted(RAIN)
    captioner.final(options=replace(ENGLISH, vocabulary=("Kubernetes", "Frau Özdemir")))
    assert captioner.prompts == [
        "<|startofprev|> Kubernetes, Frau Özdemir<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"
    ]


def test_no_term_of_a_vocabulary_is_a_control_token() -> None:
    prompt = WhisperPrompt(tokenizer(), CODES, multilingual=True)
    control = {*(prompt.ids("en", "transcribe")), *prompt.ids("es", "translate")}
    spelled = prompt.ids("en", "transcribe", ("<|translate|>", "a<|startoftranscript|><|es|>"))
    assert not control & {*spelled[1:-4]}
    assert spelled[-4:] == prompt.ids("en", "transcribe")


def test_of_a_long_vocabulary_the_first_terms_are_used_whole() -> None:
    prompt = WhisperPrompt(tokenizer(), CODES, multilingual=True)
    terms = tuple(f"Term{number:03}" for number in range(200))
    ids = prompt.ids("en", "transcribe", terms)
    assert len(ids) <= 224 + 4
    text = tokenizer().decode(ids, skip_special_tokens=True).strip()
    assert tuple(text.split(", ")) == terms[: text.count(",") + 1]
