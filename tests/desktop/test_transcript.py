"""The transcript, its files, and the questions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from af3stream.protocol.messages import Answer, Caption, CaptionUpdate, SpeakerNamed, SpeakerUpdate
from af3stream_clients.captions.formatting import as_sentence, clock, duration
from af3stream_clients.captions.questions import Questions
from af3stream_clients.captions.transcript import Transcript

REACHES = json.loads((Path(__file__).parents[1] / "golden" / "reach.json").read_text(encoding="utf-8"))


def interim(utterance: int, text: str, stable: str = "", start: float = 0.0) -> Caption:
    return Caption(utterance, text, start, start + 1, final=False, stable=stable)


def final(utterance: int, text: str, start: float = 0.0) -> Caption:
    return Caption(utterance, text, start, start + 2, final=True, stable=text)


def test_stable_prefix_is_counted() -> None:
    (line,) = Transcript().receive(interim(0, "He was not an", stable="He was"))
    assert (line.text[: line.stable_chars], line.text[line.stable_chars :]) == ("He was", " not an")


def test_stable_part_that_is_no_prefix_is_ignored() -> None:
    (line,) = Transcript().receive(interim(0, "She was not", stable="He was"))
    assert line.stable_chars == 0


def test_final_caption_does_not_change() -> None:
    transcript = Transcript()
    (line,) = transcript.receive(final(0, "He was not."))
    assert line.stable_chars == len(line.text)
    assert transcript.receive(interim(0, "He was late")) == []
    assert transcript.receive(final(0, "He was late.")) == []
    assert [line.text for line in transcript.lines] == ["He was not."]


def test_corrected_caption_is_shown_and_not_saved_yet() -> None:
    transcript = Transcript()
    transcript.receive(final(0, "He was not."))
    transcript.receive(final(1, "Mm."))
    transcript.saved = True
    (line,) = transcript.receive(CaptionUpdate(0, "She was not.", 0.0, 2.0))
    assert line.final and line.stable_chars == len("She was not.")
    (removed,) = transcript.receive(CaptionUpdate(1, "", 0.0, 2.0))
    assert not removed.text
    assert transcript.receive(CaptionUpdate(7, "?", 0, 1)) == []
    assert [line.text for line in transcript.lines] == ["She was not."]
    assert not transcript.saved


def test_utterances_are_ordered_by_number() -> None:
    transcript = Transcript()
    for caption in (interim(2, "third"), final(0, "First."), final(1, "Second.")):
        transcript.receive(caption)
    assert [line.text for line in transcript.lines] == ["First.", "Second.", "third"]
    assert transcript.index(1) == 1


def test_empty_final_removes_the_utterance() -> None:
    transcript = Transcript()
    transcript.receive(interim(0, "Thank you"))
    (line,) = transcript.receive(final(0, ""))
    assert not line.text
    assert transcript.lines == []


def said_by(speaker: int | None, utterance: int, text: str) -> Caption:
    return replace(final(utterance, text, 4.0 * utterance), speaker=speaker)


def test_a_turn_begins_where_the_speaker_changes() -> None:
    transcript = Transcript()
    for number, speaker in enumerate((1, 1, 2, None, 2)):
        transcript.receive(said_by(speaker, number, "Yes."))
    assert [line.name for line in transcript.lines] == ["Speaker 1", "Speaker 1", "Speaker 2", "", "Speaker 2"]
    assert [line.begins_turn for line in transcript.lines] == [True, False, True, False, True]


def test_corrected_speaker_changes_the_next_turn_too() -> None:
    transcript = Transcript()
    for number, speaker in enumerate((1, 2, 1)):
        transcript.receive(said_by(speaker, number, "Yes."))
    changed = transcript.receive(SpeakerUpdate(1, 1))
    assert [(line.utterance, line.name, line.begins_turn) for line in changed] == [
        (1, "Speaker 1", False),
        (2, "Speaker 1", False),
    ]
    assert transcript.receive(SpeakerUpdate(7, 1)) == []
    changed = transcript.receive(CaptionUpdate(0, "", 0.0, 2.0))
    assert [(line.utterance, line.text, line.begins_turn) for line in changed] == [(0, "", False), (1, "Yes.", True)]


def test_name_replaces_the_number_of_a_speaker_and_can_be_taken_away() -> None:
    transcript = Transcript()
    for number, speaker in enumerate((1, 2)):
        transcript.receive(said_by(speaker, number, "Yes."))
    transcript.saved = True
    (line,) = transcript.receive(SpeakerNamed(2, "Anna"))
    assert (line.utterance, line.name) == (1, "Anna")
    assert not transcript.saved
    (corrected,) = transcript.receive(CaptionUpdate(1, "No.", 4.0, 6.0))
    assert corrected.named_text == "Anna: No."
    (line,) = transcript.receive(SpeakerNamed(2, ""))
    assert line.name == "Speaker 2"


def test_plain_text_has_speakers_and_translations(tmp_path: Path) -> None:
    transcript = Transcript()
    transcript.receive(replace(said_by(1, 0, "Buenos días."), translation="Good morning."))
    transcript.receive(SpeakerNamed(1, "Ana"))
    transcript.save(tmp_path / "talk.txt")
    assert (tmp_path / "talk.txt").read_text() == "0:00  Ana: Buenos días.\n      Good morning.\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("talk.vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n<v Ana>Buenos días.\nGood morning.\n\n"),
        ("talk.srt", "1\n00:00:00,000 --> 00:00:02,000\nAna: Buenos días.\nGood morning.\n\n"),
    ],
)
def test_subtitles_have_speakers_and_translations(name: str, text: str, tmp_path: Path) -> None:
    transcript = Transcript()
    transcript.receive(replace(said_by(1, 0, "Buenos días."), translation="Good morning."))
    transcript.receive(SpeakerNamed(1, "Ana"))
    transcript.save(tmp_path / name)
    assert (tmp_path / name).read_text() == text


def test_translation_is_divided_among_the_cues_of_a_caption(tmp_path: Path) -> None:
    transcript = Transcript()
    words = " ".join(f"palabra{n}" for n in range(20))
    transcript.receive(replace(final(0, words), end=12.0, translation=" ".join(f"word{n}" for n in range(20))))
    transcript.receive(final(1, "Fin.", start=14.0))
    transcript.save(tmp_path / "talk.srt")
    blocks = (tmp_path / "talk.srt").read_text().strip().split("\n\n")
    numbers = [re.findall(r"\bword(\d+)", block) for block in blocks]
    assert [number for part in numbers for number in part] == [str(n) for n in range(20)]
    assert all(numbers[:-1]) and not numbers[-1]
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 42


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "talk.vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nHe &amp; she.\n\n00:00:03.000 --> 00:00:04.000\nand then\n\n",
        ),
        ("talk.SRT", "1\n00:00:00,000 --> 00:00:02,000\nHe & she.\n\n2\n00:00:03,000 --> 00:00:04,000\nand then\n\n"),
        ("talk.txt", "0:00  He & she.\n0:03  and then\n"),
    ],
)
def test_saved_file_has_the_transcript_so_far(name: str, text: str, tmp_path: Path) -> None:
    transcript = Transcript()
    transcript.receive(final(0, "He & she."))
    transcript.receive(interim(1, "and then", start=3.0))
    assert not transcript.saved
    transcript.save(tmp_path / name)
    assert (tmp_path / name).read_text() == text
    assert transcript.saved
    transcript.receive(interim(1, "and then the", start=3.0))
    assert not transcript.saved


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.vtt, \.srt, \.txt, and talk\.doc is none"):
        Transcript().save(tmp_path / "talk.doc")


def test_answer_grows_and_names_its_range() -> None:
    questions = Questions()
    number = questions.ask("Who?").number
    assert questions.asked[number].state == "waiting"
    questions.piece(number, "John")
    assert questions.piece(number, " Dashwood").answer == "John Dashwood"
    whole = Answer("q1", "John Dashwood.", start=0.3, end=61.2, windows=2, tokens=4, finish="length")
    question = questions.answered(number, whole)
    assert (question.state, question.answer) == ("answered", "John Dashwood.")
    assert question.note == "Heard 0:00 to 1:02, cut at the length limit"


@pytest.mark.parametrize("case", REACHES, ids=[case["words"] for case in REACHES])
def test_note_of_an_answer_describes_its_range(case: dict[str, dict[str, float]]) -> None:
    questions = Questions()
    number = questions.ask("Who?").number
    answer = Answer("q1", "John.", windows=1, tokens=1, finish="stop", **case["answer"])
    assert questions.answered(number, answer).note == case["words"]


def test_refused_question_keeps_its_partial_answer() -> None:
    questions = Questions()
    number = questions.ask("Who?").number
    questions.piece(number, "John")
    question = questions.refused(number, "The model stumbled.")
    assert (question.state, question.answer, question.note) == ("refused", "John", "The model stumbled.")


def test_times_and_reasons_are_formatted() -> None:
    assert [clock(s) for s in (0, 59.9, 62, 3_723)] == ["0:00", "0:59", "1:02", "1:02:03"]
    assert [duration(s) for s in (4.4, 125)] == ["4 s", "2 min 5 s"]
    assert as_sentence("no such file") == "No such file."
