"""A recorded conversation, as it went over a real socket, replays through a session message by message.

``AF3STREAM_RECORD_TRACES=1 pytest tests/protocol/test_trace.py`` records it anew.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import soundfile
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from af3stream.errors import Refusal
from af3stream.protocol import messages as m
from af3stream.protocol.codec import JSON, client_codec, server_codec
from af3stream.protocol.features import FEATURES, restrict
from tests.conftest import RECORDINGS
from tests.server.peers import serving, stream_url
from tests.session.conversation import Conversation

TRACE = Path(__file__).parents[1] / "traces" / "conversation.jsonl"
SPEECH = soundfile.read(RECORDINGS / "sense_and_sensibility_01_austen_64kb-0880.wav", dtype="int16")[0]
BLOCK = 3_200  # sample frames: 200 ms
CLIENT, SERVER = client_codec(JSON), server_codec(JSON)


def script() -> list[m.ClientMessage]:
    """What the client of the trace says."""
    total = len(SPEECH)
    blocks = [m.Audio(at, SPEECH[at : at + BLOCK].tobytes()) for at in range(0, total, BLOCK)]
    return [
        m.Start(features=FEATURES),
        m.Watch("w1", "Is anyone speaking?"),
        *blocks[:8],
        m.Ask("q1", "What was said?"),
        m.Audio(10**6, b"\0\0"),
        *blocks[8:],
        m.Flush("f1"),
        m.Gap(total, 8_000),
        m.Ask("q2", "And then?", m.Scope(2.0), max_tokens=2, after="q1"),
        m.End(total + 8_000),
    ]


async def record() -> bytes:
    """Have the conversation with a real server, paced so that each message is dealt with before the next."""
    lines: list[bytes] = []
    began = time.monotonic()

    def note(who: str, frame: str | bytes) -> None:
        line = {"at": round(time.monotonic() - began, 3), "from": who, "message": msgspec.json.decode(frame)}
        lines.append(msgspec.json.encode(line))

    async with serving() as service, connect(stream_url(service), subprotocols=[JSON]) as socket:

        async def listen() -> None:
            try:
                while True:
                    note("server", await socket.recv())
            except ConnectionClosed:
                pass

        listener = asyncio.create_task(listen())
        for message in script():
            note("client", frame := CLIENT.encode(message))
            await socket.send(frame)
            await asyncio.sleep(0.05)
        await listener
    return b"\n".join(lines) + b"\n"


@pytest.fixture(scope="module")
def trace() -> list[dict[str, Any]]:
    """The recorded lines."""
    if os.environ.get("AF3STREAM_RECORD_TRACES"):
        TRACE.write_bytes(asyncio.run(record()))
    return [msgspec.json.decode(line) for line in TRACE.read_bytes().splitlines()]


def said(trace: list[dict[str, Any]], who: str) -> list[Any]:
    codec = SERVER if who == "client" else CLIENT
    return [codec.decode(msgspec.json.encode(line["message"]).decode()) for line in trace if line["from"] == who]


def without_clocks(messages: list[m.ServerMessage]) -> list[m.ServerMessage]:
    """Without what depends on the clock or on chance: acknowledgements, the session's id, the time of a first token."""
    clocks: dict[type, dict[str, Any]] = {m.Ready: {"session": ""}, m.Answer: {"ttft_ms": None}}
    return [
        msgspec.structs.replace(message, **clocks.get(type(message), {}))
        for message in messages
        if not isinstance(message, m.Ack)
    ]


def replay(messages: list[m.ClientMessage]) -> list[m.ServerMessage]:
    """The same conversation, in this thread."""
    start, *rest = messages
    assert isinstance(start, m.Start)
    talk = Conversation(start, scenes=False)
    for message in rest:
        talk.now += 0.05
        try:
            talk.tell(message)
        except Refusal as refusal:
            talk.said.append(m.error(refusal))
    return [restrict(message, start.features) for message in talk.said]


def test_the_trace_is_of_this_script(trace: list[dict[str, Any]]) -> None:
    assert said(trace, "client") == script()


def test_the_trace_replays(trace: list[dict[str, Any]]) -> None:
    assert without_clocks(replay(said(trace, "client"))) == without_clocks(said(trace, "server"))


def test_the_trace_shows_most_of_the_protocol(trace: list[dict[str, Any]]) -> None:
    kinds = {line["message"]["type"] for line in trace if line["from"] == "server"}
    every = {cls.__struct_config__.tag for cls in m.ServerMessage.__args__}
    assert every - kinds == {"degraded", "caption_update", "sound", "speaker_update", "speaker_named"}


def test_acknowledgements_in_the_trace_only_grow_and_reach_the_end(trace: list[dict[str, Any]]) -> None:
    acks = [message for message in said(trace, "server") if isinstance(message, m.Ack)]
    assert acks == sorted(acks, key=lambda ack: (ack.received, ack.processed))
    assert all(ack.processed <= ack.received for ack in acks)
    assert acks[-1] == m.Ack(len(SPEECH) + 8_000, len(SPEECH) + 8_000)
