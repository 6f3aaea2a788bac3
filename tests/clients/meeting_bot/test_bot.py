"""Whole meetings from Attendee and from files, with restarts of the service and of the bot."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.contract import Completion
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedContext
from af3stream.protocol.messages import CaptionUpdate, SpeakerNamed, SpeakerUpdate, Start
from af3stream.server.ports import free_port
from af3stream_clients.meeting_bot.bot import Bot, Options
from af3stream_clients.meeting_bot.rules import (
    ACTIONS,
    DECISIONS,
    OPEN,
    SUMMARY,
    CaptionOptions,
    MinutesOptions,
    RulesFile,
    load_rules,
)
from tests.client.scripted_server import Peer, converse, final
from tests.client.scripted_server import serving as scripted_serving
from tests.clients.meeting_bot.environment import RATE, attend, listening, receiving, serving, voice

PAUSE = np.zeros(2 * RATE, np.float32)


def rules_for(tmp_path: Path, url: str) -> RulesFile:
    path = tmp_path / "meeting.toml"
    path.write_text(f"""
[minutes]
title = "Weekly"
section_minutes = 0.1
questions = ["What was said?"]
summary = ""
decisions = ""
actions = ""
open = ""
[action.hook]
webhook = "{url}"
[[rule]]
name = "words"
keywords = ["word1"]
actions = ["hook"]
[[rule]]
name = "sum"
every_minutes = 0.2
ask = "What is new?"
actions = ["hook"]
[[rule]]
name = "end"
at_end = true
actions = ["hook"]
[speakers]
p-ada = "Ada"
""")
    return load_rules(path)


def options_for(tmp_path: Path, server: str, source: str) -> Options:
    return Options(
        source, server, tmp_path / "out", tmp_path / "state", end_after_s=0.5, first_delay_s=0.05, note=lambda _: None
    )


def written(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "minutes.json").read_text())


async def test_minutes_of_an_attendee_meeting_name_speakers_and_times(tmp_path: Path) -> None:
    async with serving(tmp_path / "journal") as server, receiving() as receiver:
        rules = msgspec.structs.replace(rules_for(tmp_path, receiver.url), captions=CaptionOptions(speakers=True))
        bot = Bot(options_for(tmp_path, server, "attendee://127.0.0.1:0/s3cret"), rules)
        running = asyncio.create_task(bot.run())
        parts = [("p-ada", 0.0, voice(4, 120)), ("p-ben", 6.0, voice(4, 210)), ("p-ada", 12.0, voice(3, 120))]
        await attend(await listening(bot), parts)
        assert await running
    minutes = written(tmp_path)
    assert [line["speakers"] for line in minutes["transcript"]] == [["Ada"], ["p-ben"], ["Ada"]]
    for line, begin in zip(minutes["transcript"], (0, 6, 12), strict=True):
        assert abs(line["begin"] - begin) < 0.5
        assert line["link"] == f"recording.flac#t={line['begin']:g},{line['end']:g}"
    assert minutes["lost_s"] == 0
    assert [who["spoke_s"] for who in minutes["speakers"]] == [7.0, 4.0]
    page = (tmp_path / "out" / "minutes.md").read_text()
    assert re.search(r"^\d+ \w+ \d{4}, \d\d:\d\d UTC · 0:00:15$", page, re.MULTILINE)
    assert re.search(r"^\*\*What was said\?\*\* .+ \[0:00:00 to 0:00:1\d\]\(recording\.flac#t=", page, re.MULTILINE)
    assert "**Ada:** word1 word2" in page
    assert "Ada: word1" in (tmp_path / "out" / "transcript.vtt").read_text()
    sound, rate = soundfile.read(tmp_path / "out" / "recording.flac")
    assert rate == RATE and abs(len(sound) / RATE - 15) < 0.2
    assert np.abs(sound[6 * RATE : 10 * RATE] - voice(4, 210)).max() < 1e-3
    events = [r.event for r in receiver.received]
    assert sorted(e["kind"] for e in events) == ["keyword"] * 3 + ["minutes", "summary"]
    assert len({r.headers["idempotency-key"] for r in receiver.received}) == len(events)


async def test_voices_of_a_file_are_numbered_named_and_corrected(tmp_path: Path) -> None:
    async def telling(peer: Peer) -> None:
        await peer.open()
        said = [final(f"Sentence {n}.", float(n), n + 1.0, n) for n in range(1, 5)]
        voices = (1, 2, 1, None)
        spoken = [msgspec.structs.replace(one, speaker=who) for one, who in zip(said, voices, strict=True)]
        await peer.send(*spoken, SpeakerUpdate(3, 3), CaptionUpdate(2, "Sentence two.", 2.0, 3.0))
        await peer.send(SpeakerNamed(3, "Cleo", event=7))
        await converse(peer)

    (tmp_path / "meeting.toml").write_text("""
[captions]
language = "en"
languages = ["en", "es"]
vocabulary = ["Grafana"]
speakers = 4
[speakers]
"Speaker 2" = "Ben"
""")
    async with scripted_serving(telling) as server:
        options = options_for(tmp_path, server.url, str(meeting(tmp_path, 2)))
        assert await Bot(options, load_rules(tmp_path / "meeting.toml")).run()
    start = server.heard[0]
    assert isinstance(start, Start)
    assert (start.language, start.languages, start.vocabulary) == ("en", ("en", "es"), ("Grafana",))
    assert start.speakers == 4
    minutes = written(tmp_path)
    lines = {line["text"]: line["speakers"] for line in minutes["transcript"] if line["text"].startswith("Sentence")}
    assert lines == {
        "Sentence 1.": ["Speaker 1"],
        "Sentence two.": ["Ben"],
        "Sentence 3.": ["Cleo"],
        "Sentence 4.": [],
    }
    assert [(who["id"], who["name"], who["spoke_s"]) for who in minutes["speakers"]] == [
        ("Speaker 1", "Speaker 1", 1.0),
        ("Speaker 2", "Ben", 1.0),
        ("Speaker 3", "Cleo", 1.0),
    ]
    assert "**Ben:** Sentence two." in (tmp_path / "out" / "minutes.md").read_text()


async def test_service_tells_the_voices_of_a_file_apart(tmp_path: Path) -> None:
    loud, quiet = voice(2.5, 120), 0.3 * voice(2.5, 120)
    soundfile.write(
        tmp_path / "two.wav", np.concatenate([loud, PAUSE, quiet, PAUSE, loud, PAUSE]), RATE, subtype="PCM_16"
    )
    rules = RulesFile(
        minutes=MinutesOptions(summary="", decisions="", actions="", open=""), captions=CaptionOptions(speakers=True)
    )
    async with serving(tmp_path / "journal") as server:
        assert await Bot(options_for(tmp_path, server, str(tmp_path / "two.wav")), rules).run()
    assert [line["speakers"] for line in written(tmp_path)["transcript"]] == [
        ["Speaker 1"],
        ["Speaker 2"],
        ["Speaker 1"],
    ]


async def test_attendee_connection_with_a_wrong_path_gets_404(tmp_path: Path) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    async with serving(tmp_path / "journal") as server:
        bot = Bot(options_for(tmp_path, server, "attendee://127.0.0.1:0/s3cret"), RulesFile())
        running = asyncio.create_task(bot.run())
        try:
            async with connect((await listening(bot)).replace("s3cret", "guess"), proxy=None):
                raise AssertionError("let in")
        except InvalidStatus as refused:
            assert refused.response.status_code == 404
        assert await running


def meeting(tmp_path: Path, utterances: int) -> Path:
    pieces = [part for n in range(utterances) for part in (voice(2.5, 110 + 20 * (n % 5)), PAUSE)]
    soundfile.write(tmp_path / "meeting.wav", np.concatenate(pieces), RATE, subtype="PCM_16")
    return tmp_path / "meeting.wav"


def replying(monkeypatch: pytest.MonkeyPatch, replies: dict[str, str]) -> list[str]:
    """Have the scripted engine reply by the beginning of a question; return a list that collects the questions."""
    asked: list[str] = []

    def answer(_: object, parts: object, question: str, *__: object) -> Iterator[str | Completion]:
        asked.append(question)
        yield next((reply for begin, reply in replies.items() if question.startswith(begin)), "No.")
        yield Completion(1, "stop", 1)

    monkeypatch.setattr(ScriptedContext, "answer", answer)
    return asked


def captioning(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Have the scripted captioner return these final captions, and then "Word."."""
    finals = iter(texts)

    def hear(_: ScriptedCaptioner, request: CaptionRequest) -> Hypothesis:
        return Hypothesis(next(finals, "Word.") if request.final else "", ())

    monkeypatch.setattr(ScriptedCaptioner, "hear", hear)


RULES = """
[action.log]
append = "{folder}/events.jsonl"
[[rule]]
name = "budget"
topic = "the budget"
actions = ["log"]
[[rule]]
name = "promise"
watch = "Has anybody promised something?"
actions = ["log"]
"""
SPOKEN = (
    "Good morning, everybody.",
    "Then it is decided, Elena moves the storage in November.",
    "Next, the budget.",
    "Marcus, will you fix the login page?",
    "I will fix the login page by Friday.",
    "Who talks to the bank?",
)


async def test_topics_and_watches_report_a_sentence_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioning(monkeypatch, *SPOKEN)
    replying(
        monkeypatch,
        {
            "Is the budget": "Yes.",
            "Has anybody": "Yes, it was.",
            "Which sentence says so": "He will fix the login page.",
        },
    )
    (tmp_path / "meeting.toml").write_text(RULES.format(folder=tmp_path))
    async with serving(tmp_path / "journal") as server:
        options = options_for(tmp_path, server, str(meeting(tmp_path, 14)))  # two passages and a rest
        assert await Bot(options, load_rules(tmp_path / "meeting.toml")).run()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(e["rule"], e["kind"], e["text"]) for e in events] == [
        ("budget", "topic", SPOKEN[2]),
        ("promise", "watch", SPOKEN[3]),
    ]
    assert events[0]["begin"] == pytest.approx(9, abs=0.5)


async def test_minutes_contain_only_supported_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioning(monkeypatch, *SPOKEN)
    asked = replying(
        monkeypatch,
        {
            SUMMARY: "The recording is about the budget and the login page.",
            DECISIONS: "Tom will move the storage in November.",
            ACTIONS: "Marcus will fix the login page by Friday. Elena will fly to the moon.",
            OPEN: "Who talks to the bank?",
            "These are notes": "The budget and the login page. Everybody is happy.",
        },
    )
    async with serving(tmp_path / "journal") as server:
        options = options_for(tmp_path, server, str(meeting(tmp_path, 14)))
        rules = RulesFile(minutes=MinutesOptions(section_minutes=0.4))
        assert await Bot(options, rules).run()
    minutes = written(tmp_path)
    assert [item["text"] for item in minutes["decisions"]] == [SPOKEN[1]]
    assert [(item["text"], item["who"], item["when"]) for item in minutes["actions"]] == [
        ("Marcus will fix the login page by Friday.", "Marcus", "by Friday")
    ]
    assert [item["text"] for item in minutes["open"]] == [SPOKEN[5]]
    assert minutes["summary"] == "The budget and the login page."
    for item in minutes["decisions"] + minutes["actions"] + minutes["open"]:
        assert item["quote"] in SPOKEN
        assert item["link"] == f"recording.flac#t={item['begin']:g},{item['end']:g}"
    page = (tmp_path / "out" / "minutes.md").read_text()
    headings = re.findall("^## (.*)", page, re.MULTILINE)
    assert headings[:4] == ["Summary", "Decisions", "Action items", "Open questions"]
    assert "moon" not in page and "happy" not in page
    assert max(map(len, asked)) < 1_500


async def test_next_run_delivers_events_that_were_not_taken_in_time(tmp_path: Path) -> None:
    async with serving(tmp_path / "journal") as server, receiving(*[(500, {})] * 1_000) as receiver:
        rules, source = rules_for(tmp_path, receiver.url), str(meeting(tmp_path, 2))
        options = replace(options_for(tmp_path, server, source), drain_s=0.2)
        assert not await Bot(options, rules).run()
        first = {r.headers["idempotency-key"] for r in receiver.received}
        receiver.answers.clear()
        assert await Bot(replace(options, drain_s=60), rules).run()
    taken = [event["kind"] for event in {r.headers["idempotency-key"]: r.event for r in receiver.received}.values()]
    assert sorted(taken) == ["keyword", "keyword", "minutes", "summary"]
    assert first <= {r.headers["idempotency-key"] for r in receiver.received}


async def test_minutes_are_the_same_after_a_service_restart(tmp_path: Path) -> None:
    port = free_port()
    async with receiving() as receiver:
        source = str(meeting(tmp_path, 8))
        async with serving(tmp_path / "journal", port) as server:
            bot = Bot(options_for(tmp_path, server, source), rules_for(tmp_path, receiver.url))
            running = asyncio.create_task(bot.run())
            await receiver.has(lambda received: len(received) >= 3)
        async with serving(tmp_path / "journal", port):
            assert await running
    assert_whole(tmp_path, receiver, 8)


async def test_new_session_gets_the_rest_if_the_service_lost_the_first(tmp_path: Path) -> None:
    port = free_port()
    async with receiving() as receiver:
        source = str(meeting(tmp_path, 8))
        rules = msgspec.structs.replace(rules_for(tmp_path, receiver.url), captions=CaptionOptions(speakers=True))
        async with serving(tmp_path / "journal", port) as server:
            bot = Bot(options_for(tmp_path, server, source), rules)
            running = asyncio.create_task(bot.run())
            await receiver.has(lambda received: len(received) >= 3)
        async with serving(tmp_path / "another journal", port):
            assert await running
    assert_whole(tmp_path, receiver, 8)
    transcript = written(tmp_path)["transcript"]
    cut = [line for line in transcript if not line["speakers"]]
    assert all(line["end"] - line["begin"] < 1.5 for line in cut)  # the restart cuts an utterance; a voice takes longer
    speakers = [line["speakers"] for line in transcript if line["speakers"]]
    assert speakers == sorted(speakers)
    assert (speakers[0], speakers[-1]) == (
        ["Speaker 1"],
        ["Speaker 2"],
    )  # voices of a new session are not taken for known


async def test_bot_killed_repeatedly_loses_and_repeats_nothing(tmp_path: Path) -> None:
    source = str(meeting(tmp_path, 8))
    async with serving(tmp_path / "journal") as server, receiving() as receiver:
        rules_for(tmp_path, receiver.url)
        paths = [
            "--out",
            str(tmp_path / "out"),
            "--state",
            str(tmp_path / "state"),
            "--rules",
            str(tmp_path / "meeting.toml"),
        ]
        command = [
            sys.executable,
            "-m",
            "af3stream_clients.meeting_bot",
            "--source",
            source,
            "--server",
            server,
            *paths,
        ]
        for enough in (2, 5):
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
            await receiver.has(lambda received, enough=enough: len(received) >= enough)
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0
    assert_whole(tmp_path, receiver, 8)


def assert_whole(tmp_path: Path, receiver: object, utterances: int) -> None:
    """Check that each utterance occurs once, in order, and each event once, except repeats under the same key."""
    minutes = written(tmp_path)
    begins = [line["begin"] for line in minutes["transcript"]]
    assert utterances <= len(begins) <= utterances + 1  # a service that stops closes the open utterance
    assert all(any(abs(begin - 4.5 * n) < 0.5 for begin in begins) for n in range(utterances))
    lines = minutes["transcript"]
    assert all(one["end"] <= other["begin"] for one, other in pairwise(lines))
    events = {r.headers["idempotency-key"]: r.event for r in receiver.received}
    words = [event["begin"] for event in events.values() if event["kind"] == "keyword"]
    assert words == [line["begin"] for line in lines if "word1" in line["text"]]  # a rest may be too short for a word
    assert [event["kind"] for event in events.values()].count("minutes") == 1
    ends = [section["end"] for section in minutes["sections"]]
    assert ends == sorted(set(ends)) and ends[-1] == minutes["duration_s"]
    assert all(item["answer"] for section in minutes["sections"] for item in section["answers"])
