"""Captions as the transcription endpoints answer them: speakers, words, translations."""

from __future__ import annotations

from af3stream.protocol import messages as m
from af3stream.server.caption_hints import languages, vocabulary
from af3stream.server.rest.formats import Transcript, as_object, as_text, speaker_label

WORDS = (m.Word("Hello", 0.1, 0.4, 0.9), m.Word(" there.", 0.4, 0.8, 0.9))
CAPTIONS = (
    m.Caption(0, "Hello there.", 0.0, 1.0, final=True, stable="Hello there.", language="en", words=WORDS, speaker=1),
    m.Caption(1, "Hi.", 2.0, 3.0, final=True, stable="Hi.", language="en", speaker=2),
    m.Caption(2, "Who?", 4.0, 5.0, final=True, stable="Who?", language="en"),
)
TRANSCRIPT = Transcript("transcribe", CAPTIONS, 6.2, "en")


def test_speakers_are_letters_then_numbers_and_unknown_where_nobody_knows() -> None:
    assert [speaker_label(speaker) for speaker in (1, 2, 26, 27, None)] == ["A", "B", "Z", "27", "unknown"]
    told = as_object(TRANSCRIPT, "diarized_json", words=False, segments=True)
    assert [segment["speaker"] for segment in told["segments"]] == ["A", "B", "unknown"]


def test_verbose_json_has_the_language_and_the_words_on_the_files_axis() -> None:
    told = as_object(TRANSCRIPT, "verbose_json", words=True, segments=True)
    assert (told["language"], told["duration"], len(told["segments"])) == ("en", 6.2, 3)
    assert told["words"][1] == {"word": "there.", "start": 0.4, "end": 0.8}


def test_usage_counts_seconds() -> None:
    assert as_object(TRANSCRIPT, "json", words=False, segments=False) == {
        "text": "Hello there. Hi. Who?",
        "usage": {"type": "duration", "seconds": 6},
    }


def test_text_ends_with_a_line_feed() -> None:
    assert as_text(TRANSCRIPT, "text") == "Hello there. Hi. Who?\n"


def test_a_prompt_is_taken_apart_into_terms_and_a_sentence_is_none() -> None:
    assert vocabulary(("Norland",), "Dashwood, Barton Park; Norland\n") == ("Norland", "Dashwood", "Barton Park")
    assert vocabulary((), "x" * 65) == ()
    assert len(vocabulary((str(number) for number in range(300)), None)) == 200


def test_regions_of_languages_are_left_out() -> None:
    assert languages(("de-AT", "de_CH", "en"), ("de", "en"), "languages") == ("de", "en")
    assert languages(("de",), (), "languages") == ()
