"""Any order of events, right and wrong ones, gets answers or errors in the API's shape, and never a mistake."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.openai_wire.realtime_peer import RealtimePeer, realtime, spoken
from tests.server.peers import serving

SPEECH = spoken(pause_s=0.8)
DETECTIONS: list[Any] = [
    None,
    {"type": "server_vad"},
    {"type": "server_vad", "create_response": False, "idle_timeout_ms": 1_000},
    {"type": "semantic_vad", "eagerness": "high"},
    {"type": "other"},
]
ITEM_IDS = st.sampled_from(["a", "b", "root", ""])
PARTS = st.sampled_from(
    [
        {"type": "input_text", "text": "Who is this?"},
        {"type": "input_text", "text": "x" * 3_000},
        {"type": "input_text", "text": "\u0000\u202e"},
        {"type": "input_text", "text": "<|im_end|><sound>"},
        {"type": "input_audio", "audio": base64.b64encode(SPEECH[:48_000]).decode()},
        {"type": "input_audio", "audio": "?"},
        {"type": "input_audio", "audio": ""},
        {"type": "input_image", "image_url": "x"},
        {"type": "output_text", "text": "Somebody."},
    ]
)
ITEMS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["message", "function_call", "item_reference"]),
        "role": st.sampled_from(["user", "assistant", "system", "tool"]),
        "content": st.lists(PARTS, max_size=3),
    },
    optional={"id": ITEM_IDS},
)
EVENTS = st.one_of(
    st.just({"type": "input_audio_buffer.commit"}),
    st.just({"type": "input_audio_buffer.clear"}),
    st.just({"type": "output_audio_buffer.clear"}),
    st.just({"type": "response.cancel"}),
    st.just({"type": "no.such.event"}),
    st.sampled_from([SPEECH, SPEECH[:9_601], bytes(48_000), b""]).map(
        lambda pcm: {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()}
    ),
    st.tuples(st.sampled_from(DETECTIONS), st.sampled_from(["realtime", "transcription"])).map(
        lambda chosen: {
            "type": "session.update",
            "session": {"type": chosen[1], "audio": {"input": {"turn_detection": chosen[0], "transcription": {}}}},
        }
    ),
    st.sampled_from(["audio/pcm", "audio/pcmu", "audio/pcma"]).map(
        lambda kind: {"type": "session.update", "session": {"audio": {"input": {"format": {"type": kind}}}}}
    ),
    st.tuples(ITEMS, ITEM_IDS | st.none()).map(
        lambda chosen: {"type": "conversation.item.create", "item": chosen[0], "previous_item_id": chosen[1]}
    ),
    st.tuples(st.sampled_from(["delete", "retrieve", "truncate"]), ITEM_IDS).map(
        lambda chosen: {"type": f"conversation.item.{chosen[0]}", "item_id": chosen[1]}
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "conversation": st.sampled_from(["auto", "none"]),
            "input": st.lists(ITEMS, max_size=2),
            "max_output_tokens": st.sampled_from([1, "inf", 0]),
            "instructions": st.sampled_from(["Be short.", "x" * 5_000]),
        },
    ).map(lambda response: {"type": "response.create", "response": response}),
)


async def play(peer: RealtimePeer, events: list[dict[str, Any]]) -> None:
    """Send events, then make sure that the connection lives and every response ends."""
    for number, event in enumerate(events):
        await peer.socket.send(json.dumps({**event, "event_id": f"e{number}"}))
    await peer.update(type="realtime", audio={"input": {"turn_detection": None}})
    begun = len(peer.of("response.created"))
    while len(peer.of("response.done")) < begun:
        await peer.until("response.done")
        begun = len(peer.of("response.created"))


def check(told: list[dict[str, Any]]) -> None:
    """The shapes that clients require, and the orders that the API promises."""
    assert len({event["event_id"] for event in told}) == len(told)
    for event in told:
        if event["type"] == "error":
            assert set(event["error"]) == {"type", "code", "message", "param", "event_id"}
            assert event["error"]["type"] == "invalid_request_error", event
    spoken_of = [event["item_id"] for event in told if "input_audio_transcription" in event["type"]]
    ended = [event["item_id"] for event in told if event["type"].endswith("transcription.completed")]
    assert len(ended) == len(set(ended))
    assert [*dict.fromkeys(spoken_of)][: len(ended)] == ended  # an item's transcript ends before the next one's begins
    created = [event["response"]["id"] for event in told if event["type"] == "response.created"]
    done = [event["response"]["id"] for event in told if event["type"] == "response.done"]
    assert sorted(created) == sorted(done)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENTS, max_size=12))
def test_any_events_are_answered(caplog: pytest.LogCaptureFixture, events: list[dict[str, Any]]) -> None:
    async def run() -> list[dict[str, Any]]:
        async with serving() as service, realtime(service) as peer:
            await play(peer, events)
            return peer.told

    caplog.clear()
    check(asyncio.run(run()))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
