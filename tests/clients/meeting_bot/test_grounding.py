"""Grounding keeps only the supported parts of a model's reply."""

from __future__ import annotations

import pytest

from af3stream_clients.meeting_bot.digest import NOTES_CHARS, groups, task
from af3stream_clients.meeting_bot.grounding import best_sentence, ground
from af3stream_clients.meeting_bot.state import FinalCaption

SPOKEN = (
    "Let's start with the mobile release.",
    "Marcus will own that.",
    "The biggest cost was the hosting. Elena suggested a cheaper tier for the image storage.",
    "Then it's decided, Elena will move the image storage before the end of November.",
    "Last topic is hiring.",
    "The first one, Tom, has strong experience with accessibility.",
    "How serious is the open bug, Priya?",
)
CAPTIONS = [FinalCaption(5.0 * index, 5.0 * index + 4, text) for index, text in enumerate(SPOKEN)]


def texts(reply: str, **options: bool) -> list[str]:
    return [item.text for item in ground(reply, CAPTIONS, **options)]


def test_supported_sentence_is_kept_with_its_best_caption() -> None:
    [item] = ground("Elena will move the image storage before the end of November.", CAPTIONS)
    assert item.text == "Elena will move the image storage before the end of November."
    assert item.caption is CAPTIONS[3]


def test_sentence_with_a_wrong_name_is_replaced_by_the_spoken_one() -> None:
    assert texts("Tom will move the image storage before the end of November.") == [SPOKEN[3]]


def test_sentence_with_a_pronoun_is_replaced_by_the_spoken_one() -> None:
    assert texts("They will move the image storage before the end of November.") == [SPOKEN[3]]


def test_only_the_matching_sentence_of_a_caption_is_used() -> None:
    [item] = ground("Priya suggested a cheaper tier for the storage.", CAPTIONS)
    assert item.text == "Elena suggested a cheaper tier for the image storage."
    assert item.caption is CAPTIONS[2]


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "No.",
        "Nothing was decided.",
        "None of the open bugs were decided on.",
        "There was no decision about the image storage.",
        "The recording was decided by the board of directors.",
        "Marcus will do the recording.",
        "Hiring.",
        "How serious is the open bug, Priya?",
        "Elena, Elena, Elena, Elena",
    ],
)
def test_empty_or_invented_reply_gives_no_item(reply: str) -> None:
    assert texts(reply) == []


def test_question_is_an_item_only_if_questions_are_wanted() -> None:
    assert texts(SPOKEN[6], questions=True) == [SPOKEN[6]]


def test_repeated_items_are_merged() -> None:
    once = "Elena will move the image storage before the end of November."
    assert texts(f"{once} {once}\n- Elena moves the image storage.") == [once]


@pytest.mark.parametrize(
    "lead_in",
    [
        "The recording is about ",
        "This part of the meeting was about ",
        'The recording in one short sentence is: "',
        "The sentence that says what was decided is: ",
        "The sentence says that ",
        "The recording was said to be about ",
        "Yes, ",
        "- ",
        "1. ",
    ],
)
def test_lead_in_of_a_sentence_is_removed(lead_in: str) -> None:
    assert texts(f"{lead_in}the image storage and a cheaper tier.") == ["The image storage and a cheaper tier."]


def test_summary_may_use_words_of_all_captions() -> None:
    reply = "The recording was about the mobile release and hiring."
    assert [item.text for item in ground(reply, CAPTIONS, anywhere=True)] == ["The mobile release and hiring."]
    assert ground("It was about the mobile release and fishing in Norway.", CAPTIONS, anywhere=True) == []


def test_best_sentence_shares_most_words_with_the_topic() -> None:
    found = best_sentence("the hosting", CAPTIONS)
    assert found is not None
    assert (found.text, found.caption) == ("The biggest cost was the hosting.", CAPTIONS[2])
    assert best_sentence("the weather", CAPTIONS) is None


@pytest.mark.parametrize(
    ("text", "who", "when"),
    [
        ("Ben will sign the contract by Friday.", "Ben", "by Friday"),
        ("Anna and Ben will meet on the 3rd of May.", "Anna and Ben", "on the 3rd of May"),
        ("I will call the electrician tomorrow, and the kiln is ready.", "Carla", "tomorrow"),
        ("Elena will move the storage before the end of November.", "Elena", "before the end of November"),
        ("Marcus will own that.", "Marcus", None),
        ("The piano is tuned.", None, None),
    ],
)
def test_task_names_who_and_when_if_sentence_or_speaker_is_known(text: str, who: str | None, when: str | None) -> None:
    assert task(text, ["Carla"]) == {"who": who, "when": when}


def test_notes_of_a_long_meeting_are_split_into_bounded_prompts() -> None:
    notes = ["word " * length for length in (20, 30, 500, 10, 10, 200, 40)] * 5
    grouped = groups(notes)
    assert all(sum(map(len, group)) <= NOTES_CHARS for group in grouped)
    assert all(len(group) > 1 for group in grouped[:-1])
    assert sum(map(len, grouped)) == len(notes)
