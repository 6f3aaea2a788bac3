"""Write the minutes, the transcript and the recording from the state of the bot."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from af3stream.protocol.messages import Caption
from af3stream.subtitles import cues, to_srt, to_vtt
from af3stream_clients.meeting_bot import digest
from af3stream_clients.meeting_bot.digest import RECORDING, span
from af3stream_clients.meeting_bot.recording import RATE, Recording
from af3stream_clients.meeting_bot.rules import RulesFile
from af3stream_clients.meeting_bot.state import FinalCaption, State

HEADINGS: Final = {"Decisions": "decisions", "Action items": "actions", "Open questions": "open"}
FILES: Final = ("minutes.md", "minutes.json", "transcript.vtt", "transcript.srt", "transcript.jsonl", RECORDING)


def clock(seconds: float) -> str:
    """Format a position in the recording as ``h:mm:ss``."""
    whole = int(seconds)
    return f"{whole // 3_600}:{whole // 60 % 60:02}:{whole % 60:02}"


def build(state: State, rules: RulesFile) -> dict[str, Any]:
    """Build the minutes for JSON: speakers, summary, decisions, actions, open questions and transcript."""
    names = named(state, rules)
    return {
        "title": rules.minutes.title,
        "begun": state.fact("begun"),
        "duration_s": round(int(state.fact("frames", "0")) / RATE, 3),
        "lost_s": round(state.lost_frames() / RATE, 3),
        "recording": RECORDING,
        "speakers": [
            {"id": who, "name": names.get(who, who), "spoke_s": round(seconds, 1)}
            for who, seconds in state.speaking_s(RATE).items()
        ],
        **digest.build(state, rules.minutes, names),
        "transcript": [_line(said, names) for said in state.captions()],
    }


def named(state: State, rules: RulesFile) -> dict[str, str]:
    """Return names by participant id; the rules file overrides the source."""
    return {**state.names(), **rules.speakers}


def to_markdown(minutes: dict[str, Any]) -> str:
    """Format the minutes as Markdown."""
    lines = [f"# {_text(minutes['title'])}", ""]
    facts = [_date(minutes["begun"]), clock(minutes["duration_s"])]
    if minutes["lost_s"]:
        facts.append(f"{minutes['lost_s']:g} s never arrived")
    lines += [" · ".join(fact for fact in facts if fact), ""]
    if minutes["speakers"]:
        lines += ["## Who", ""]
        lines += [f"- {_text(who['name'])}, {clock(who['spoke_s'])}" for who in minutes["speakers"]] + [""]
    if minutes["summary"]:
        lines += ["## Summary", "", _text(minutes["summary"]), ""]
    for heading, key in HEADINGS.items():
        if minutes[key]:
            lines += [f"## {heading}", "", *(_item(item) for item in minutes[key]), ""]
    for section in minutes["sections"]:
        lines += [f"## {clock(section['begin'])} to {clock(section['end'])}", ""]
        lines += [*(_item(item) for item in section["summary"]), ""] if section["summary"] else []
        for item in section["answers"]:
            answer = _text(item["answer"] or f"No answer: {item['problem']}")
            lines += [f"**{_text(item['question'])}** {answer} {_link(item, to=True)}", ""]
    lines += ["## Transcript", ""]
    for line in minutes["transcript"]:
        who = f"**{_text(', '.join(line['speakers']))}:** " if line["speakers"] else ""
        lines += [f"{_link(line)} {who}{_text(line['text'])}", ""]
    return "\n".join(lines)


def write(folder: Path, state: State, rules: RulesFile, recording: Recording) -> dict[str, Any]:
    """Write ``FILES`` into a folder, and return the minutes.

    Raises:
        OSError, SourceError: if the disk cannot be written.
    """
    minutes = build(state, rules)
    recording.to_flac(folder / RECORDING)
    names = named(state, rules)
    shown = cues(_captions(state.captions(), names))
    transcript = "".join(msgspec.json.encode(line).decode() + "\n" for line in minutes["transcript"])
    contents = (
        to_markdown(minutes),
        msgspec.json.format(msgspec.json.encode(minutes), indent=2).decode() + "\n",
        to_vtt(shown),
        to_srt(shown),
        transcript,
    )
    for name, content in zip(FILES, contents, strict=False):
        new = folder / f".{name}.new"
        new.write_text(content, encoding="utf-8")
        new.replace(folder / name)
    return minutes


def _captions(all_said: Iterable[FinalCaption], names: dict[str, str]) -> Iterable[Caption]:
    for index, said in enumerate(all_said):
        who = ", ".join(names.get(speaker, speaker) for speaker in said.speakers)
        yield Caption(index, f"{who}: {said.text}" if who else said.text, said.begin, said.end, final=True)


def _line(said: FinalCaption, names: dict[str, str]) -> dict[str, Any]:
    speakers = [names.get(speaker, speaker) for speaker in said.speakers]
    return {**span(said.begin, said.end), "speakers": speakers, "text": said.text}


def _item(item: dict[str, Any]) -> str:
    who = item.get("who")
    lead = f"**{_text(who)}:** " if who and not item["text"].startswith(who) else ""
    return f"- {lead}{_text(item['text'])} {_link(item)}"


def _link(item: dict[str, Any], *, to: bool = False) -> str:
    end = f" to {clock(item['end'])}" if to else ""
    return f"[{clock(item['begin'])}{end}]({item['link']})"


def _date(begun: str) -> str:
    """Format a time as ``24 November 2026, 04:14 UTC``."""
    if not begun:
        return ""
    at = datetime.fromisoformat(begun)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def _text(words: str) -> str:
    """Escape text for Markdown."""
    words = " ".join(words.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in words)
