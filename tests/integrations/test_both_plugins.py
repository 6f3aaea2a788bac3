"""What holds for both plugins: a turn is answered, an interruption cancels, and a closed session continues."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integrations.conftest import LONG, RunPlugin, SlowEngine
from tests.server.peers import serving

pytestmark = pytest.mark.parametrize("plugin", ["livekit_plugin", "pipecat_plugin"])


async def test_an_agent_answers_what_is_said(run_plugin: RunPlugin, plugin: str) -> None:
    async with serving(tokens=("secret",)) as service:
        (user, question), (assistant, answer) = await run_plugin(service.port, plugin, "agent")
    assert (user, assistant) == ("user", "assistant")
    assert question.startswith("word1 word2") and answer.startswith(f"{question} <- [Answer.] | ")


async def test_an_interruption_cancels_the_question(run_plugin: RunPlugin, plugin: str) -> None:
    engine = SlowEngine()
    async with serving(engine, tokens=("secret",)) as service:
        assert await run_plugin(service.port, plugin, "interrupt") == "word"
    assert engine.counters.decoded_tokens < LONG


async def test_another_stream_continues_the_session_of_a_closed_one(
    run_plugin: RunPlugin, plugin: str, tmp_path: Path
) -> None:
    async with serving(tokens=("secret",), journal=tmp_path) as service:
        told = await run_plugin(service.port, plugin, "resume")
    start, end = told["heard"]
    assert start == 0 and end > told["first_s"] + 1
    assert len(set(told["finals"])) == 2
