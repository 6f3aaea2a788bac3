"""The plugin for LiveKit Agents, in its released framework, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.proxy import Proxy
from tests.conftest import RECORDINGS
from tests.integrations.conftest import RunPlugin
from tests.server.peers import serving

SPEECH = ["start_of_speech", "end_of_speech"]


async def test_finals_have_speakers_and_word_times(run_plugin: RunPlugin) -> None:
    async with serving(tokens=("secret",)) as service:
        told = await run_plugin(service.port, "livekit_plugin", "transcribe")
    kinds = [kind for kind, _ in told["events"]]
    assert [kind for kind in kinds if kind in SPEECH] == SPEECH * 2
    assert kinds.index("final_transcript") > kinds.index("end_of_speech")
    finals = [said for _, said in told["events"] if said]
    for said in finals:
        assert " ".join(word for word, *_ in said["words"]) == said["text"]
        assert said["words"][0][1] == pytest.approx(said["start"], abs=0.5)
        assert {speaker for *_, speaker in said["words"]} == {said["speaker"]} <= {"1", "2"}
    assert finals[0]["start"] < finals[1]["start"]
    assert told["usage_s"] > finals[1]["start"]


async def test_no_words_are_lost_or_told_twice_if_the_connection_is_cut(run_plugin: RunPlugin, tmp_path: Path) -> None:
    async with (
        serving(tokens=("secret",), journal=tmp_path) as service,
        Proxy(lambda: service.port).listening() as proxy,
    ):
        whole = await run_plugin(service.port, "livekit_plugin", "transcribe")
        proxy.cut_after("up", 60_000)
        cut = await run_plugin(proxy.port, "livekit_plugin", "transcribe")
    assert [said for _, said in cut["events"] if said] == [said for _, said in whole["events"] if said]


async def test_llm_answers_about_the_audio_of_the_stt(run_plugin: RunPlugin) -> None:
    async with serving(tokens=("secret",)) as service:
        told = await run_plugin(service.port, "livekit_plugin", "converse")
    first, second, third = told["answers"]
    assert first.startswith("Who is this? <- ")
    assert second.startswith("And why? <- ") and second.endswith(f"(Who is this? {first})")
    assert third.startswith("And this? <- ") and "(" not in third
    assert len(told["reach"]) == 3 and told["reach"][2] > told["reach"][0] > 0
    assert "no stream of the STT is open" in told["refused"]


async def test_a_first_connection_that_fails_is_tried_again(run_plugin: RunPlugin) -> None:
    async with serving(tokens=("secret",)) as service:
        ports = iter([None])
        async with Proxy(lambda: next(ports, service.port)).listening() as proxy:
            told = await run_plugin(proxy.port, "livekit_plugin", "transcribe")
    assert len([said["text"] for _, said in told["events"] if said]) >= 2


async def test_a_wrong_token_is_not_tried_again(run_plugin: RunPlugin) -> None:
    async with serving(tokens=("secret",)) as service:
        ((error, recoverable),) = await run_plugin(service.port, "livekit_plugin", "refuse")
    assert "401" in error and not recoverable


async def test_example_prints_captions_and_an_answer(run_example: RunPlugin) -> None:
    (file,) = RECORDINGS.glob("*0880.wav")
    async with serving(tokens=("secret",)) as service:
        lines = await run_example(service.port, "livekit", file, "Who is this?")
    caption, answer = lines
    assert caption == "speaker 1, 0.0-2.5 s: word1 word2 word3 word4 word5."
    assert answer.startswith("answer: Who is this? <- ")
