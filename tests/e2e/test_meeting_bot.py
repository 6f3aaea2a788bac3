"""A meeting of two voices on a known timeline, from Attendee, with the real model: who said what when, and minutes."""

from __future__ import annotations

import asyncio
import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from af3stream_clients.meeting_bot.bot import Bot, Options
from af3stream_clients.meeting_bot.minutes import FILES
from af3stream_clients.meeting_bot.rules import load_rules
from tests.clients.meeting_bot.environment import RATE, attend, listening
from tests.conftest import RECORDINGS
from tests.e2e.conftest import RunningService
from tests.words import word_error_rate

pytestmark = pytest.mark.mini

PAUSE_S = 2.0
HIGHER = 1.12  # the second voice: the same speech in less time, and so at a higher pitch
TOLERANCE_S = 0.7
RULES = """
[minutes]
title = "Sense and Sensibility"
questions = ["What is said about John Dashwood?"]
[action.log]
append = "{folder}/events.jsonl"
[[rule]]
name = "amiable"
keywords = ["amiable"]
actions = ["log"]
[speakers]
p-ada = "Ada"
p-ben = "Ben"
"""


def spliced() -> list[tuple[str, float, np.ndarray]]:
    """Ada and Ben in turns: who, from which second, and what is heard.  # (n,) float32 at 16 kHz"""
    parts, begin_s = [], 1.0
    for index, path in enumerate(sorted(RECORDINGS.glob("*.wav"))):
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == RATE
        heard = soxr.resample(samples, RATE, RATE / HIGHER) if index % 2 else samples
        parts.append(("p-ben" if index % 2 else "p-ada", begin_s, heard))
        begin_s = round(begin_s + len(heard) / RATE + PAUSE_S, 1)
    return parts


async def test_the_minutes_of_two_voices_keep_times_order_and_speakers(
    service: RunningService, transcript: str, tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text(RULES.format(folder=tmp_path))
    source, out = "attendee://127.0.0.1:0/s3cret", tmp_path / "out"
    options = Options(source, service.http, out, tmp_path / "state", end_after_s=1.0)
    bot = Bot(options, load_rules(tmp_path / "rules.toml"))
    running = asyncio.create_task(bot.run())
    parts = spliced()
    await attend(await listening(bot), [("p-ada", 0.0, np.zeros(RATE, np.float32)), *parts])
    assert await running

    minutes = json.loads((out / "minutes.json").read_text())
    assert {path.name for path in out.iterdir()} >= set(FILES)
    turns = [(who, list(lines)) for who, lines in groupby(minutes["transcript"], key=lambda line: line["speakers"])]
    assert [who for who, _ in turns] == [["Ada"], ["Ben"], ["Ada"], ["Ben"], ["Ada"]]
    for (_, lines), (_, begin_s, heard) in zip(turns, parts, strict=True):
        assert abs(lines[0]["begin"] - begin_s) < TOLERANCE_S
        assert abs(lines[-1]["end"] - (begin_s + len(heard) / RATE)) < TOLERANCE_S
        assert lines[0]["link"] == f"recording.flac#t={lines[0]['begin']:g},{lines[0]['end']:g}"
    assert word_error_rate(transcript, " ".join(line["text"] for line in minutes["transcript"])) < 0.2

    [section] = minutes["sections"]
    [item] = section["answers"]
    assert item["question"] == "What is said about John Dashwood?"
    assert item["answer"] and item["problem"] is None
    assert 0 <= item["begin"] < item["end"] <= minutes["duration_s"]
    assert section["end"] == minutes["duration_s"]
    said = {(line["begin"], line["text"]) for line in minutes["transcript"]}
    for found in (*section["summary"], *minutes["decisions"], *minutes["actions"], *minutes["open"]):
        assert (found["begin"], found["quote"]) in said
    sound, _ = soundfile.read(out / "recording.flac", dtype="float32")
    _, begin_s, heard = parts[3]
    begin = round(begin_s * RATE)
    assert np.corrcoef(sound[begin : begin + len(heard)], heard)[0, 1] > 0.99

    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {(event["rule"], event["kind"], event["keyword"]) for event in events} == {("amiable", "keyword", "amiable")}
    said = {(line["begin"], line["text"]): line["speakers"] for line in minutes["transcript"]}
    assert all(said[event["begin"], event["text"]] == event["speakers"] for event in events)
