"""Build summary, decisions, action items and open questions from the replies about each section."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from af3stream_clients.meeting_bot.grounding import Item, ground, merge
from af3stream_clients.meeting_bot.recording import RATE
from af3stream_clients.meeting_bot.rules import MinutesOptions
from af3stream_clients.meeting_bot.state import FinalCaption, SectionAnswer, State

RECORDING: Final = "recording.flac"
NOTES: Final = "These are notes of the whole meeting: {} Summarise the notes."
NOTES_CHARS: Final = 1_200  # the most characters of notes in one question
WHO: Final = re.compile(r"^([^\W\d_]\w+(?: (?:and )?[^\W\d_a-z]\w+)*) (?:will|shall|should|must|has to)\b")
FIRST_PERSON: Final = re.compile(r"(?:I|we)\b", re.IGNORECASE)
DAY: Final = (
    r"\d|end|beginning|middle|week|weekend|month|year|\w+day\b|\w+th\b|first|second|january|february|march|april|may\b|"
    "june|july|august|september|october|november|december"
)
WHEN: Final = re.compile(
    rf"\b((?:by|until|before|on|at|next|this|from|in) (?:the )?(?:{DAY})[^.,;]*|tomorrow|today|tonight)", re.IGNORECASE
)


def build(state: State, options: MinutesOptions, names: dict[str, str]) -> dict[str, Any]:
    """Build the part of the minutes that comes from the service's replies."""
    captions = list(state.captions())
    found: dict[str, list[Item]] = {options.decisions: [], options.actions: [], options.open: []}
    sections, begin = [], 0
    for end, group in groupby(state.answers(), key=lambda answered: answered.section_end):
        said = within(captions, begin, end)
        summary: list[Item] = []
        others = []
        for answered in group:
            if answered.question in found:
                is_open = answered.question == options.open
                found[answered.question] += ground(answered.text, said, questions=is_open)
            elif answered.question == options.summary:
                summary = ground(answered.text, said, anywhere=True)
            else:
                others.append(_answer(answered))
        sections.append(
            {**span(begin / RATE, end / RATE), "summary": [_item(item, names) for item in summary], "answers": others}
        )
        begin = end
    return {
        "summary": state.fact("summary") or None,
        "decisions": [_item(item, names) for item in merge(found[options.decisions])],
        "actions": [
            {**shown, **task(shown["text"], shown["speakers"])}
            for shown in (_item(item, names) for item in merge(found[options.actions]))
        ],
        "open": [_item(item, names) for item in merge(found[options.open])],
        "sections": sections,
    }


def summaries(state: State, options: MinutesOptions, begin: int, end: int) -> list[str]:
    """Return the summaries of the sections that end in a range, one text each, in order."""
    captions = list(state.captions())
    texts, since = [], 0
    for answered in (answered for answered in state.answers() if answered.question == options.summary):
        if begin < answered.section_end <= end:
            said = within(captions, since, answered.section_end)
            texts.append(" ".join(item.text for item in ground(answered.text, said, anywhere=True)))
        since = answered.section_end
    return [text for text in texts if text]


def groups(texts: Sequence[str]) -> list[list[str]]:
    """Group texts so that each group fits into one prompt; each text is cut so that at least two fit."""
    grouped: list[list[str]] = []
    for text in (text[: NOTES_CHARS // 2] for text in texts):
        if grouped and sum(map(len, grouped[-1])) + len(text) <= NOTES_CHARS:
            grouped[-1].append(text)
        else:
            grouped.append([text])
    return grouped


def within(captions: Sequence[FinalCaption], begin: int, end: int) -> list[FinalCaption]:
    """Return the captions that overlap a range of sample frames."""
    return [said for said in captions if begin < said.end * RATE and said.begin * RATE < end]


def task(text: str, speakers: Sequence[str] = ()) -> dict[str, str | None]:
    """Find who does a task and until when; the subject of "I will" is the speaker, if known."""
    named, when = WHO.search(text), WHEN.search(text)
    who = named[1] if named else ", ".join(speakers) if FIRST_PERSON.match(text) else ""
    return {"who": who or None, "when": when[1].strip() if when else None}


def link(begin: float, end: float) -> str:
    """Return a link to a range of the recording, as a media fragment (W3C Media Fragments URI 1.0)."""
    return f"{RECORDING}#t={begin:g},{end:g}"


def span(begin: float, end: float) -> dict[str, Any]:
    """Return a range of the recording and its link."""
    begin, end = round(begin, 3), round(end, 3)
    return {"begin": begin, "end": end, "link": link(begin, end)}


def _item(item: Item, names: dict[str, str]) -> dict[str, Any]:
    speakers = [names.get(speaker, speaker) for speaker in item.caption.speakers]
    return {
        "text": item.text,
        **span(item.caption.begin, item.caption.end),
        "speakers": speakers,
        "quote": item.caption.text,
    }


def _answer(answered: SectionAnswer) -> dict[str, Any]:
    return {
        "question": answered.question,
        "answer": answered.text or None,
        "problem": answered.problem or None,
        **span(answered.begin, answered.end),
    }
