"""Cues and caption files, as properties, and as a reader would parse them."""

from __future__ import annotations

import html
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.caption_writer import CaptionWriter
from af3stream.errors import SourceError
from af3stream.listen.screen import PlainLines
from af3stream.protocol.final_captions import FinalCaptions, sound_caption
from af3stream.protocol.messages import Caption, CaptionUpdate, Sound, SpeakerNamed, SpeakerUpdate, Word
from af3stream.subtitles import Cue, cues, to_srt, to_vtt

CASES = json.loads((Path(__file__).parents[1] / "golden" / "cues.json").read_text(encoding="utf-8"))
LETTERS = st.characters(exclude_categories=("Cc", "Cs"))
WORDS = st.text(LETTERS, min_size=1, max_size=12) | st.sampled_from(["end.", "and,", "-->", "&", "<b>", "x" * 100])
TEXTS = st.lists(WORDS, max_size=60).map(" ".join)
TIMES = st.floats(0, 100_000, allow_nan=False)


@st.composite
def captions(draw: st.DrawFn, *, in_order: bool) -> list[Caption]:
    """Final captions; in order: each begins when or after the one before it ended."""
    finals, clock = [], 0.0
    for index in range(draw(st.integers(0, 6))):
        start = clock + draw(st.floats(0, 5)) if in_order else draw(TIMES)
        clock = start + draw(st.floats(0, 40))
        text = draw(TEXTS)
        words = draw(said(text, start, clock)) if draw(st.booleans()) else ()
        finals.append(Caption(index, text, start, clock, final=True, words=words))
    return finals


@st.composite
def said(draw: st.DrawFn, text: str, start: float, end: float) -> tuple[Word, ...]:
    """Times of the words of a text, in order, between these two."""
    texts = text.split()
    bounds = draw(st.lists(st.floats(start, end), min_size=2 * len(texts), max_size=2 * len(texts)).map(sorted))
    return tuple(Word(word, *bounds[2 * i : 2 * i + 2], 0.9) for i, word in enumerate(texts))


def letters(texts: list[str]) -> str:
    return "".join("".join(texts).split())


@given(captions(in_order=False))
def test_no_character_is_lost_and_no_cue_overlaps_or_is_too_large(finals: list[Caption]):
    made = cues(finals)
    assert letters([cue.text for cue in made]) == letters([caption.text for caption in finals])
    for cue in made:
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(0 < len(line) <= 42 for line in lines)
        assert 0 < round((cue.end - cue.start) * 1_000) <= 7_000
    assert all(before.end <= after.start for before, after in pairwise(made))


@given(captions(in_order=True))
def test_a_cue_is_shown_for_a_second_unless_the_next_one_needs_its_place(finals: list[Caption]):
    made = cues(finals)
    for cue, following in pairwise(made):
        assert cue.end - cue.start > 0.9995 or cue.end == following.start
    assert all(cue.end - cue.start > 0.9995 for cue in made[-1:])


@given(st.lists(st.text("abc", min_size=1, max_size=42), min_size=1, max_size=60))
def test_words_that_fit_a_line_stay_whole(words: list[str]):
    made = cues([Caption(0, " ".join(words), 0, 20, final=True)])
    assert [word for cue in made for word in cue.text.split()] == words


@given(captions(in_order=False))
def test_files_read_back_as_the_cues(finals: list[Caption]):
    made = cues(finals)
    assert parse_vtt(to_vtt(made)) == made
    assert parse_srt(to_srt(made)) == made


@settings(deadline=None)  # it waits for the disk
@given(finals=captions(in_order=False))
def test_a_file_is_complete_after_every_caption(finals: list[Caption], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.getbasetemp()
    vtt, srt = folder / "live.vtt", folder / "live.SRT"
    with CaptionWriter(vtt) as vtt_writer, CaptionWriter(srt) as srt_writer:
        for count in range(len(finals) + 1):
            assert vtt.read_bytes().decode() == to_vtt(cues(finals[:count]))
            assert srt.read_bytes().decode() == to_srt(cues(finals[:count]))
            if count < len(finals):
                vtt_writer.add(finals[count])
                srt_writer.add(finals[count])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_files_are_those_that_the_page_makes(case: dict[str, Any]):  # tests/e2e/test_page.py cuts the same captions
    made = cues(msgspec.convert({"type": "caption", "final": True, **caption}, Caption) for caption in case["captions"])
    assert to_vtt(made) == case["vtt"]
    assert to_srt(made) == case["srt"]


def test_a_caption_breaks_where_a_sentence_ends_and_its_time_is_shared_by_characters():
    text = (
        "We begin with the budget, which has grown. After that, we come to the plans for next year, "
        "and whoever has a question may ask it at any time."
    )
    assert cues([Caption(0, text, 10.0, 20.0, final=True)]) == [
        Cue(10.0, 13.028, "We begin with the budget, which has grown."),
        Cue(13.028, 16.408, "After that, we come to\nthe plans for next year,"),
        Cue(16.408, 20.0, "and whoever has a question\nmay ask it at any time."),
    ]


def test_a_short_caption_is_held_for_a_second_and_gives_way_to_the_next():
    finals = [
        Caption(0, "Yes.", 1.0, 1.2, True),
        Caption(1, "No.", 1.5, 1.6, True),
        Caption(2, "Well.", 9.0, 9.1, True),
    ]
    assert cues(finals) == [Cue(1.0, 1.5, "Yes."), Cue(1.5, 2.5, "No."), Cue(9.0, 10.0, "Well.")]


def spoken(*words: tuple[str, float, float]) -> Caption:
    """A caption of half a second more than its words at both ends."""
    timed = tuple(Word(text, start, end, 0.9) for text, start, end in words)
    text = " ".join(word.text for word in timed)
    return Caption(0, text, timed[0].start - 0.5, timed[-1].end + 0.5, final=True, words=timed)


def test_a_caption_is_cut_by_the_times_of_its_words():
    first = [
        ("We", 10.0, 10.5),
        ("begin", 10.5, 11.0),
        ("with", 11.0, 11.25),
        ("the", 11.25, 11.5),
        ("plans.", 11.5, 12.5),
    ]
    second = [("Then", 16.0, 16.25), ("we", 16.25, 16.5), ("vote.", 16.75, 17.5)]
    assert cues([spoken(*first, *second)]) == [
        Cue(10.0, 12.5, "We begin with the plans."),
        Cue(16.0, 17.5, "Then we vote."),
    ]


@pytest.mark.parametrize("pause_at", [7, 8, 9])
def test_a_pause_is_as_good_a_place_to_break_as_a_clause(pause_at: int):
    words = [(f"word{i}", i / 2 + (i >= pause_at), i / 2 + 0.5 + (i >= pause_at)) for i in range(16)]
    assert [len(cue.text.split()) for cue in cues([spoken(*words)])] == [pause_at, 16 - pause_at]


def test_a_cue_stays_until_it_can_be_read_if_there_is_room():
    text = "Everything was said in half a second, as if " + "by somebody who runs."
    assert [cue.end for cue in cues([Caption(0, text, 1.0, 1.5, final=True)])] == [1.0 + (len(text) - 1) / 20]


def test_words_that_are_not_those_of_the_text_are_ignored():
    caption = Caption(0, "So it goes.", 0.5, 3.0, final=True, words=(Word("So", 0.75, 1.0, 0.5),))
    assert cues([caption]) == [Cue(0.5, 3.0, "So it goes.")]


def test_few_words_in_a_long_time_disappear_after_seven_seconds():
    assert cues([Caption(0, "Hmm.", 0.0, 20.0, final=True)]) == [Cue(0.0, 7.0, "Hmm.")]


def test_a_run_longer_than_a_line_is_cut_into_lines():
    [cue] = cues([Caption(0, "字" * 50, 0.0, 5.0, final=True)])
    assert cue.text == "字" * 42 + "\n" + "字" * 8


def test_a_caption_without_words_is_no_cue():
    assert cues([Caption(0, " \n ", 0.0, 5.0, final=True)]) == []


def test_the_formats_to_the_letter():
    made = [Cue(0.5, 2.0, "a < b --> c & d"), Cue(3_723.004, 3_725.0, "two\nlines")]
    assert to_vtt(made) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.000\na &lt; b --&gt; c &amp; d\n\n"
        "01:02:03.004 --> 01:02:05.000\ntwo\nlines\n\n"
    )
    assert to_srt(made) == (
        "1\n00:00:00,500 --> 00:00:02,000\na < b --> c & d\n\n2\n01:02:03,004 --> 01:02:05,000\ntwo\nlines\n\n"
    )


def test_jsonl_holds_one_object_for_each_caption(tmp_path: Path):
    path = tmp_path / "captions.jsonl"
    with CaptionWriter(path) as writer:
        writer.add(Caption(0, "Grüße", 0.5, 1.5, final=True))
        writer.add(Caption(1, "two\nlines", 2.0, 3.0, final=True))
        writer.add(Caption(2, "Hola.", 4.0, 5.0, final=True, language="es", translation="Hello."))
        writer.add(Caption(3, "Yes.", 4.0, 5.0, final=True, words=(Word("Yes.", 4.25, 4.5, 0.75),)))
        written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert written == [
        {"utterance": 0, "start": 0.5, "end": 1.5, "text": "Grüße"},
        {"utterance": 1, "start": 2.0, "end": 3.0, "text": "two\nlines"},
        {"utterance": 2, "start": 4.0, "end": 5.0, "text": "Hola.", "language": "es", "translation": "Hello."},
        {
            "utterance": 3,
            "start": 4.0,
            "end": 5.0,
            "text": "Yes.",
            "words": [{"text": "Yes.", "start": 4.25, "end": 4.5, "probability": 0.75}],
        },
    ]


def test_a_translation_stands_below_the_words_of_a_cue():
    (cue,) = cues([Caption(0, "Buenos días.", 1.0, 3.0, final=True, language="es", translation="Good morning.")])
    assert cue.text == "Buenos días.\nGood morning."


@given(TEXTS.filter(str.strip), TEXTS)
def test_a_translation_is_divided_among_the_cues_of_its_caption_and_stays_in_order(text: str, translation: str):
    made = cues([Caption(0, text, 0.0, 20.0, final=True, translation=translation)])
    plain = cues([Caption(0, text, 0.0, 20.0, final=True)])
    below = [cue.text.removeprefix(bare.text) for cue, bare in zip(made, plain, strict=True)]
    assert letters(below) == letters([translation])
    assert all(len(line) <= 42 for each in below for line in each.split("\n"))


CORRECTED = (
    Caption(0, "Call me Ismael.", 0.0, 2.0, final=True, speaker=1),
    Caption(1, "Uh.", 2.0, 2.5, final=True),
    Caption(2, "Some years ago.", 3.0, 5.0, final=True, speaker=2),
    CaptionUpdate(0, "Call me Ishmael.", 0.0, 2.0),
    CaptionUpdate(1, "", 2.0, 2.5),
    SpeakerUpdate(2, 1),
    Sound("[bell]", 2.0, 3.0),
    SpeakerNamed(1, "Herman"),
)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (
            "talk.vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n<v Herman>Call me Ishmael.\n\n"
            "00:00:02.000 --> 00:00:03.000\n[bell]\n\n00:00:03.000 --> 00:00:05.000\n<v Herman>Some years ago.\n\n",
        ),
        (
            "talk.srt",
            "1\n00:00:00,000 --> 00:00:02,000\nHerman: Call me Ishmael.\n\n"
            "2\n00:00:02,000 --> 00:00:03,000\n[bell]\n\n3\n00:00:03,000 --> 00:00:05,000\nHerman: Some years ago.\n\n",
        ),
        (
            "talk.jsonl",
            '{"utterance":0,"start":0.0,"end":2.0,"text":"Call me Ishmael.","speaker":1,"name":"Herman"}\n'
            '{"utterance":-1,"start":2.0,"end":3.0,"text":"[bell]"}\n'
            '{"utterance":2,"start":3.0,"end":5.0,"text":"Some years ago.","speaker":1,"name":"Herman"}\n',
        ),
    ],
)
def test_a_finished_file_has_the_corrections_and_the_names_of_speakers(name: str, written: str, tmp_path: Path):
    finals = FinalCaptions()
    with CaptionWriter(tmp_path / name) as writer:
        for message in CORRECTED:
            finals.add(message)
            if isinstance(message, Caption):
                writer.add(message)
        writer.finish(finals)
    assert (tmp_path / name).read_text() == written


def test_a_sound_is_a_cue_unless_a_later_caption_is_written_already(tmp_path: Path):
    path = tmp_path / "captions.vtt"
    with CaptionWriter(path) as writer:
        writer.add(Caption(0, "One.", 0.0, 2.0, final=True))
        writer.add(sound_caption(Sound("[bell]", 2.0, 4.0)))
        writer.add(Caption(1, "Two.", 5.0, 7.0, final=True))
        writer.add(sound_caption(Sound("[rain]", 4.0, 5.0)))
        assert path.read_text().splitlines()[3::3] == ["One.", "[bell]", "Two."]


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path):
    with pytest.raises(SourceError, match=r"written as \.vtt, \.srt or \.jsonl"):
        CaptionWriter(tmp_path / "captions.txt")
    with pytest.raises(SourceError, match="No such file or directory"):
        CaptionWriter(tmp_path / "absent" / "captions.vtt")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_sentence(tmp_path: Path):
    path = tmp_path / "captions.srt"
    path.symlink_to("/dev/full")
    writer = CaptionWriter(path)
    with pytest.raises(SourceError, match="No space left on device"):
        writer.add(Caption(0, "x", 0.0, 1.0, final=True))
    with pytest.raises(SourceError, match="No space left on device"):
        writer.close()


def parse_vtt(text: str) -> list[Cue]:
    header, *blocks = text.split("\n\n")
    assert header == "WEBVTT"
    assert all("-->" not in line for block in blocks for line in block.split("\n")[1:])
    return [parse_cue(html.unescape(block), ".") for block in blocks if block]


def parse_srt(text: str) -> list[Cue]:
    blocks = [block.split("\n", 1) for block in text.split("\n\n") if block]
    assert [number for number, _ in blocks] == [str(number) for number in range(1, len(blocks) + 1)]
    return [parse_cue(block, ",") for _, block in blocks]


def parse_cue(block: str, point: str) -> Cue:
    times, text = block.split("\n", 1)
    stamp = rf"(\d\d+):([0-5]\d):([0-5]\d)\{point}(\d\d\d)"
    match = re.fullmatch(f"{stamp} --> {stamp}", times)
    assert match
    hours, minutes, seconds, ms, *end = map(int, match.groups())
    start_ms = ((hours * 60 + minutes) * 60 + seconds) * 1_000 + ms
    end_ms = ((end[0] * 60 + end[1]) * 60 + end[2]) * 1_000 + end[3]
    return Cue(start_ms / 1_000, end_ms / 1_000, text)


def test_a_translation_stands_below_its_caption():
    out = io.StringIO()
    PlainLines(out, io.StringIO()).show(Caption(2, "Hola.", 4.0, 5.0, final=True, translation="Hello."))
    assert out.getvalue() == "0:00:04.0  Hola.\n           Hello.\n"
