"""Whisper's own languages: what the embedded captioner knows, detects and takes as vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from af3stream.engine.captioning import CaptionOptions, Hypothesis
from af3stream.engine.counters import Counters
from af3stream.engine.whisper import WhisperCaptioner
from af3stream.models.registry import resolve
from tests.captioned import captioned
from tests.conftest import RECORDINGS

pytestmark = pytest.mark.mini


@pytest.fixture(scope="module")
def captioner() -> WhisperCaptioner:
    """The embedded captioner without the rest of the checkpoint."""
    folder = resolve("mini").captioner
    assert folder is not None
    return WhisperCaptioner(folder, "cpu", 1, Counters())


def said(captioner: WhisperCaptioner, recording: str, options: CaptionOptions) -> Hypothesis:
    samples: np.ndarray = soundfile.read(next(RECORDINGS.glob(recording)), dtype="float32")[0]
    return captioned(captioner, samples, options=options)


def test_it_knows_the_languages_that_whisper_was_trained_on(captioner: WhisperCaptioner) -> None:
    assert captioner.translates
    assert len(captioner.languages) == 99 and {"en", "es", "fr", "it", "ru", "zh"} <= {*captioner.languages}


def test_english_is_detected(captioner: WhisperCaptioner) -> None:
    heard = said(captioner, "*0920.wav", CaptionOptions())
    assert heard.language == "en" and heard.languages[0] == ("en", pytest.approx(1, abs=0.1))
    assert heard.text.startswith("Had he married a more amiable woman")


def test_it_writes_the_language_that_it_is_told(captioner: WhisperCaptioner) -> None:
    heard = said(captioner, "*0920.wav", CaptionOptions(language="es", detect=True))
    assert (heard.language, heard.languages[0][0]) == ("es", "en")
    assert not heard.text.startswith("Had he")


def test_no_term_changes_the_task_and_a_long_vocabulary_is_taken(
    captioner: WhisperCaptioner,
) -> None:
    english = CaptionOptions(language="en")
    plain = said(captioner, "*0920.wav", english)
    hostile = said(captioner, "*0920.wav", CaptionOptions(language="en", vocabulary=("<|startoftranscript|><|es|>",)))
    assert plain.text[:30] == hostile.text[:30]
    long = CaptionOptions(language="en", vocabulary=tuple(f"Term {number}" for number in range(200)))
    assert said(captioner, "*0920.wav", long).text
