"""The plugin for Pipecat, in its released framework, against a real server."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.proxy import Proxy
from tests.conftest import RECORDINGS
from tests.integrations.conftest import RunPlugin
from tests.server.peers import serving


async def test_finals_have_speakers_and_word_times_and_come_before_the_end(run_plugin: RunPlugin) -> None:
    async with serving(tokens=("secret",)) as service:
        told = await run_plugin(service.port, "pipecat_plugin", "transcribe")
    assert told["after_end"] == [] and len(told["finals"]) >= 2
    for said in told["finals"]:
        assert " ".join(word for word, *_ in said["words"]) == said["text"]
        assert said["user_id"] == str(said["speaker"])
    starts = [said["words"][0][1] for said in told["finals"]]
    assert starts == sorted(starts) and starts[-1] > 3


async def test_no_words_are_lost_or_told_twice_if_the_connection_is_cut(run_plugin: RunPlugin, tmp_path: Path) -> None:
    async with (
        serving(tokens=("secret",), journal=tmp_path) as service,
        Proxy(lambda: service.port).listening() as proxy,
    ):
        whole = await run_plugin(service.port, "pipecat_plugin", "transcribe")
        proxy.cut_after("up", 60_000)
        assert await run_plugin(proxy.port, "pipecat_plugin", "transcribe") == whole


async def test_processor_answers_about_the_audio_of_the_service(run_plugin: RunPlugin) -> None:
    async with serving(tokens=("secret",)) as service:
        told = await run_plugin(service.port, "pipecat_plugin", "converse")
    first, second = told["answers"]
    assert first.startswith("Who is this? <- ")
    assert second.startswith("And why? <- ") and second.endswith(f"(Who is this? {first})")
    assert [question for question, _ in told["reach"]] == ["Who is this?", "And why?"]


async def test_a_first_connection_that_fails_is_tried_again(run_plugin: RunPlugin) -> None:
    async with serving(tokens=("secret",)) as service:
        ports = iter([None])
        async with Proxy(lambda: next(ports, service.port)).listening() as proxy:
            told = await run_plugin(proxy.port, "pipecat_plugin", "transcribe")
    assert len([said["text"] for said in told["finals"]]) >= 2


async def test_a_wrong_token_makes_the_service_unusable(run_plugin: RunPlugin) -> None:
    async with serving(tokens=("secret",)) as service:
        told = await run_plugin(service.port, "pipecat_plugin", "refuse")
    (error,) = told["errors"]
    assert "401" in error and not told["usable"]


async def test_example_prints_captions_and_an_answer(run_example: RunPlugin) -> None:
    (file,) = RECORDINGS.glob("*0880.wav")
    async with serving(tokens=("secret",)) as service:
        lines = await run_example(service.port, "pipecat", file, "Who is this?")
    assert "speaker 1, 0.0-2.5 s: word1 word2 word3 word4 word5." in lines
    assert [line for line in lines if line.startswith("answer: Who is this? <- ")]
