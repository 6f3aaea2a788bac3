"""Order and shape of events beside those of `@copilotkit/aimock`, an imitation of the API, for the same scripts."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from af3stream.server.ports import free_port
from tests.openai_wire.realtime_peer import TRANSCRIPTION, Event, RealtimePeer, spoken
from tests.server.peers import serving

pytestmark = pytest.mark.slow

FIXTURES = {
    "fixtures": [
        {"match": {"userMessage": "Who"}, "response": {"content": "Somebody."}},
        {"match": {"endpoint": "realtime-transcription"}, "response": {"transcription": {"text": "word1 word2"}}},
    ]
}
Script = Callable[[RealtimePeer], Awaitable[None]]

# What the API's reference and the released clients have, and the imitation has not.
MORE = {
    "conversation.item.done",  # of an item that the client creates, and of committed audio: LiveKit waits for it
    "conversation.item.added",  # of the assistant's item, before its content
    "input_audio_buffer.committed",
}
# Keys of the imitation that its events alone have.
ONLY_THEIRS = {
    "session.created": {"modalities", "temperature", "max_response_output_tokens", "reasoning"},  # of the beta
    "session.updated": {"modalities", "temperature", "max_response_output_tokens", "reasoning"},
    "response.output_item.added": {"phase"},  # of models that comment
    "response.output_item.done": {"phase"},
}


@pytest.fixture(scope="module")
def imitation(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps(FIXTURES))
    port = free_port()
    command = [node_modules / ".bin" / "llmock", "-p", str(port), "-f", fixtures, "--log-level", "info"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        while "listening" not in process.stdout.readline():
            pass
        yield f"ws://127.0.0.1:{port}/v1/realtime"
        process.terminate()


@asynccontextmanager
async def speaking(url: str) -> AsyncIterator[RealtimePeer]:
    async with connect(url, additional_headers={"Authorization": "Bearer any"}) as socket:
        yield RealtimePeer(socket)


async def ask(peer: RealtimePeer) -> None:
    """A written question."""
    detection = {"input": {"turn_detection": None}}
    await peer.say("session.update", session={"type": "realtime", "output_modalities": ["text"], "audio": detection})
    content = [{"type": "input_text", "text": "Who is this?"}]
    await peer.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    await peer.say("response.create")
    await peer.until("response.done")


async def commit(peer: RealtimePeer) -> None:
    """Audio that the client commits."""
    heard = {"transcription": {"model": "gpt-live-transcribe"}, "turn_detection": None}
    await peer.say("session.update", session={"type": "transcription", "audio": {"input": heard}})
    await peer.append(spoken(pause_s=0))
    await peer.say("input_audio_buffer.commit")
    await peer.until("transcription.completed")


async def wrong(peer: RealtimePeer) -> None:
    """An item without a body."""
    await peer.say("session.update", session={"type": "realtime"})
    await peer.say("conversation.item.create")
    await peer.until("error")


def order(told: list[Event]) -> list[str]:
    """The types, with deltas in a row as one, and without those that come while a client still speaks."""
    kinds = [event["type"] for event in told]
    committed = kinds.index("input_audio_buffer.committed") if "input_audio_buffer.committed" in kinds else 0
    late = [kind for at, kind in enumerate(kinds) if at >= committed or not kind.endswith("transcription.delta")]
    return [kind for at, kind in enumerate(late) if not (kind.endswith("delta") and at and late[at - 1] == kind)]


def is_within(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(kind in rest for kind in part)


def keys(event: Event) -> set[str]:
    nested = next((event[name] for name in ("session", "response", "item", "part", "error") if name in event), {})
    return {*event, *nested}


@pytest.mark.parametrize(("script", "query"), [(ask, "?model=gpt-realtime"), (commit, TRANSCRIPTION), (wrong, "")])
async def test_events_have_the_order_and_the_shape_of_the_imitation(imitation: str, script: Script, query: str) -> None:
    async with speaking(imitation + query) as peer:
        await asyncio.wait_for(script(peer), 20)
        theirs = peer.told
    async with serving() as service, speaking(f"ws://127.0.0.1:{service.port}/v1/realtime{query}") as peer:
        await script(peer)
        ours = peer.told
    if script is not commit:  # our words may all be told before the client commits
        assert is_within(order(theirs), order(ours))
    assert {*order(ours)} - {*order(theirs)} <= MORE
    shapes: dict[str, set[str]] = {}
    for event in ours:
        shapes.setdefault(event["type"], keys(event)).intersection_update(keys(event))
    for event in theirs:
        kind = event["type"]
        known: Any = shapes.get(kind)
        if known is not None:
            assert keys(event) - ONLY_THEIRS.get(kind, set()) <= known, kind
