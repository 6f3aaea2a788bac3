"""Transcription sessions of the Realtime API, over the scripted engine."""

from __future__ import annotations

import asyncio
import base64
import json
from itertools import groupby

import numpy as np
import pytest

from af3stream.engine.scripted import ScriptedEngine
from af3stream.protocol import messages as m
from tests.openai_wire.realtime_peer import TRANSCRIPTION, RealtimePeer, realtime, spoken
from tests.server.peers import serving, settled, talking

TRANSCRIBED = "input_audio_transcription."


async def test_the_session_is_told_as_it_is_set_up() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        created = peer.told[0]["session"]
        assert (created["type"], created["object"]) == ("transcription", "realtime.transcription_session")
        updated = await peer.update(
            type="transcription",
            audio={
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "transcription": {"model": "gpt-transcribe", "language": "en", "keywords": ["Dashwood"]},
                    "turn_detection": {"type": "server_vad", "threshold": 0.6, "silence_duration_ms": 400},
                    "noise_reduction": {"type": "near_field"},
                }
            },
        )
        assert updated["audio"]["input"] == {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {"model": "gpt-transcribe", "language": "en", "keywords": ["Dashwood"]},
            "turn_detection": {
                "type": "server_vad", "threshold": 0.6, "prefix_padding_ms": 240, "silence_duration_ms": 400,
                "idle_timeout_ms": None,
            },
            "noise_reduction": None,
        }  # fmt: skip


async def test_server_vad_tells_an_item_for_each_stretch_of_speech() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.append(spoken() + spoken())
        for _ in range(2):
            await peer.until("completed")
        assert not peer.of("error")
        for started, stopped, committed, completed in zip(
            *(peer.of(kind) for kind in ("speech_started", "speech_stopped", "committed", "completed")), strict=True
        ):
            item = started["item_id"]
            assert item == stopped["item_id"] == committed["item_id"] == completed["item_id"]
            assert stopped["audio_end_ms"] > started["audio_start_ms"]
            deltas = [event["delta"] for event in peer.of(TRANSCRIBED + "delta") if event["item_id"] == item]
            assert "".join(deltas) == completed["transcript"]
            seconds = (stopped["audio_end_ms"] - started["audio_start_ms"]) / 1_000
            assert completed["usage"] == {"type": "duration", "seconds": pytest.approx(seconds, abs=2e-3)}
        first, second = peer.of("committed")
        assert (first["previous_item_id"], second["previous_item_id"]) == (None, first["item_id"])
        told = [event["item_id"] for event in peer.told if TRANSCRIBED in event["type"]]
        assert [item for item, _ in groupby(told)] == [first["item_id"], second["item_id"]]


async def test_the_words_are_those_of_protocol_v1() -> None:
    pcm = spoken() + spoken()
    async with serving() as service:
        async with realtime(service, TRANSCRIPTION) as peer:
            await peer.append(pcm)
            told = [(await peer.until("completed"))["transcript"] for _ in range(2)]
        async with talking(service, m.Start(rate=24_000)) as other:
            await other.tell(m.Audio(0, pcm), m.End(len(pcm) // 2))
            await other.until(m.Ended)
        assert told == [final.text for final in other.finals]


@pytest.mark.parametrize("fast", [True, False])
async def test_a_client_that_commits_gets_one_item_for_each_commit(fast: bool) -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        assert (await peer.listen(turn_detection=None))["audio"]["input"]["turn_detection"] is None
        for _ in range(2):
            await peer.append(spoken(pause_s=0))
            await peer.say("input_audio_buffer.commit")
            if not fast:
                await peer.until("completed")
        while len(peer.of("completed")) < 2:
            await peer.until("completed")
        kinds = [kind for kind in peer.kinds if "delta" not in kind]
        assert not peer.of("speech_started") and not peer.of("error")
        if not fast:
            assert kinds[2:6] == [
                "input_audio_buffer.committed",
                "conversation.item.added",
                "conversation.item.done",
                "conversation.item.input_audio_transcription.completed",
            ]
        for committed, completed in zip(peer.of("committed"), peer.of("completed"), strict=True):
            assert committed["item_id"] == completed["item_id"] and completed["transcript"]
            deltas = [event["delta"] for event in peer.of("delta") if event["item_id"] == completed["item_id"]]
            assert "".join(deltas) == completed["transcript"]


async def test_deltas_come_while_a_client_that_commits_still_speaks() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.listen(turn_detection=None)
        pcm = spoken(pause_s=0)
        for at in range(0, len(pcm), 24_000):
            await peer.append(pcm[at : at + 24_000])
            await asyncio.sleep(0.05)
        delta = await peer.until("delta")
        await peer.say("input_audio_buffer.commit")
        assert (await peer.until("completed"))["item_id"] == delta["item_id"]


async def test_a_silent_item_is_completed_without_words() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.listen(turn_detection=None)
        await peer.append(bytes(48_000))
        await peer.say("input_audio_buffer.commit")
        completed = await peer.until("completed")
        assert (completed["transcript"], completed["usage"]["seconds"]) == ("", 1.0)


async def test_an_empty_commit_is_refused_by_the_clients_name_and_the_session_goes_on() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.listen(turn_detection=None)
        await peer.say("input_audio_buffer.commit", event_id="mine")
        error = (await peer.until("error"))["error"]
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
        await peer.append(spoken(pause_s=0))
        await peer.say("input_audio_buffer.commit")
        await peer.until("completed")


async def test_cleared_audio_is_not_told() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.listen(turn_detection=None)
        await peer.append(spoken(pause_s=0))
        await peer.say("input_audio_buffer.clear")
        await peer.until("cleared")
        await peer.append(spoken(pause_s=0))
        await peer.say("input_audio_buffer.commit")
        await peer.until("completed")
        assert len(peer.of("completed")) == len(peer.of("committed")) == 1


def mulaw(pcm: bytes) -> bytes:
    """16-bit PCM as mu-law (G.711)."""
    samples = np.frombuffer(pcm, "<i2").astype(np.int32)
    magnitude = np.minimum(np.abs(samples), 32_635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 15
    return (~(((samples < 0) * 128) | (exponent << 4) | mantissa)).astype(np.uint8).tobytes()


def alaw(pcm: bytes) -> bytes:
    """16-bit PCM as A-law (G.711)."""
    samples = np.frombuffer(pcm, "<i2").astype(np.int32)
    magnitude = np.minimum(np.abs(samples), 32_767)
    exponent = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 7, 0)
    mantissa = np.where(exponent == 0, magnitude >> 4, magnitude >> (exponent + 3)) & 15
    return ((((samples >= 0) * 128) | (exponent << 4) | mantissa) ^ 0x55).astype(np.uint8).tobytes()


@pytest.mark.parametrize(("kind", "spelled"), [("audio/pcmu", mulaw), ("audio/pcma", alaw)])
async def test_g711_is_heard(kind: str, spelled: object) -> None:
    assert callable(spelled)
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        assert (await peer.listen(format={"type": kind}))["audio"]["input"]["format"] == {"type": kind}
        await peer.append(spelled(spoken(8_000)))
        completed = await peer.until("completed")
        assert completed["transcript"] == "word1 word2 word3 word4 word5 word6."
        assert completed["usage"]["seconds"] == pytest.approx(3.0, abs=0.4)


async def test_half_a_sample_waits_for_the_rest() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.append(spoken(), chunk=4_801)
        await peer.until("completed")
        assert not peer.of("error")


async def test_audio_far_ahead_of_the_engine_waits_and_nothing_is_lost() -> None:
    async with serving(credit_s=70) as service, realtime(service, TRANSCRIPTION) as peer:
        sending = asyncio.create_task(peer.append(spoken() * 40, chunk=240_000))
        completed = [await peer.until("completed") for _ in range(40)]
        await sending
        assert {event["transcript"] for event in completed} == {completed[0]["transcript"]}
        assert peer.of("speech_started")[-1]["audio_start_ms"] > 120_000


async def test_other_settings_amid_audio_hold_for_what_follows() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.append(spoken())
        await peer.until("completed")
        await peer.listen(
            format={"type": "audio/pcmu"}, turn_detection={"type": "server_vad", "silence_duration_ms": 400}
        )
        await peer.append(mulaw(spoken(8_000)))
        await peer.until("completed")
        first, second = peer.of("completed")
        assert first["transcript"] == second["transcript"]
        started = peer.of("speech_started")
        assert started[1]["audio_start_ms"] - started[0]["audio_start_ms"] == pytest.approx(3_990, abs=100)


async def test_a_socket_is_used_again_for_another_stream() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        for _ in range(2):
            await peer.update(type="transcription", audio={"input": {"turn_detection": {"type": "server_vad"}}})
            await peer.append(spoken())
            await peer.until("completed")
        assert len(peer.of("committed")) == 2 and not peer.of("error")


async def test_conversation_events_are_refused() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.say("response.create", event_id="e1")
        error = (await peer.until("error"))["error"]
        assert (error["code"], error["event_id"]) == ("invalid_session_type", "e1")


# ---- resume, watches -------------------------------------------------------------------------------------------------


async def test_a_session_is_resumed_by_its_token(tmp_path: object) -> None:
    async with serving(journal=tmp_path) as service:  # type: ignore[arg-type]
        async with realtime(service, f"{TRANSCRIPTION}&resume=") as peer:
            await peer.append(spoken())
            opened = await peer.until("session.opened")
            first = await peer.until("completed")
        await settled(service)
        headers = {"X-Af3stream-Resume": opened["resume"]}
        async with realtime(service, TRANSCRIPTION, additional_headers=headers) as peer:
            resumed = await peer.until("session.opened")
            assert resumed["session_id"] == opened["session_id"]
            assert resumed["received_ms"] == pytest.approx(3_990, abs=20)
            assert (await peer.until("completed"))["transcript"] == first["transcript"]
            await peer.append(spoken())
            assert (await peer.until("speech_started"))["audio_start_ms"] > 3_500
            await peer.until("completed")


async def test_a_token_of_nothing_is_refused() -> None:
    async with serving() as service, realtime(service, "?resume=nothing") as peer:
        assert (await peer.until("error"))["error"]["code"] == "no_session"
        assert await peer.until_closed() == 4404


async def test_watches_are_an_extension() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.say("af3stream.watch.create", id="w", text="Is Dashwood named?", every_s=1)
        await peer.append(spoken())
        hit = await peer.until("af3stream.watch.hit")
        assert hit["id"] == "w" and hit["text"].startswith("Is Dashwood named?")
        await peer.say("af3stream.watch.delete", id="w")


# ---- hostile ---------------------------------------------------------------------------------------------------------


async def still_there(peer: RealtimePeer) -> None:
    await peer.update()


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({"type": "no.such"}, "invalid_value", "type"),
        ({}, "invalid_value", "type"),
        ({"type": 5}, "invalid_value", "type"),
        ({"type": "session.update"}, "invalid_value", None),
        ({"type": "session.update", "session": {"type": "x"}}, "invalid_value", "session.type"),
        (
            {"type": "session.update", "session": {"audio": {"input": {"format": {"type": "mp3"}}}}},
            "invalid_value",
            "session.audio.input.format.type",
        ),
        (
            {"type": "session.update", "session": {"audio": {"input": {"format": {"rate": 1_000_000_000}}}}},
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        ({"type": "input_audio_buffer.append", "audio": "?"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": 5}, "invalid_value", "audio"),
        ({"type": "conversation.item.delete", "item_id": "../.."}, "item_delete_invalid_item_id", "item_id"),
        ({"type": "response.cancel"}, "response_cancel_not_active", None),
    ],
)
async def test_a_wrong_event_is_refused_and_costs_nothing_else(event: object, code: str, param: str | None) -> None:
    assert isinstance(event, dict)
    async with serving() as service, realtime(service) as peer:
        for _ in range(5):
            await peer.socket.send(json.dumps({**event, "event_id": "mine"}))
            error = (await peer.until("error"))["error"]
            assert (error["code"], error["param"], error["event_id"]) == (code, param, "mine")
        await still_there(peer)


@pytest.mark.parametrize("frame", ["{", "[]", "null", "[" * 10_000, '"\\ud800"'])
async def test_the_third_frame_that_is_no_event_closes(frame: str) -> None:
    async with serving() as service, realtime(service) as peer:
        for _ in range(3):
            await peer.socket.send(frame)
        assert await peer.until_closed() == 4400
        assert len(peer.of("error")) >= 3


async def test_a_binary_frame_closes() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.socket.send(b"audio")
        assert await peer.until_closed() == 1003


async def test_a_frame_over_the_limit_closes() -> None:
    async with serving(max_frame_bytes=10_000) as service, realtime(service) as peer:
        await peer.say("input_audio_buffer.append", audio=base64.b64encode(bytes(10_000)).decode())
        assert await peer.until_closed() == 1009


async def test_an_idle_client_is_told_so() -> None:
    async with serving(idle_timeout_s=0.2) as service, realtime(service) as peer:
        assert (await peer.until("error"))["error"]["code"] == "idle_timeout"
        assert await peer.until_closed() == 4408


async def test_tokens_in_a_header_a_query_and_a_subprotocol() -> None:
    async with serving(tokens=("secret",)) as service:
        async with realtime(service, additional_headers={"Authorization": "Bearer secret"}):
            pass
        async with realtime(service, "?token=secret"):
            pass
        offered = ["realtime", "openai-insecure-api-key.secret"]
        async with realtime(service, subprotocols=offered) as peer:
            assert peer.socket.subprotocol == "realtime"
        with pytest.raises(Exception, match="401"):
            async with realtime(service, subprotocols=["realtime", "openai-insecure-api-key.wrong"]):  # type: ignore
                pass


async def test_a_language_is_a_hint_unless_the_captioner_knows_others() -> None:
    engine = ScriptedEngine()
    async with serving(engine) as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.listen(transcription={"language": "de-AT"})
        await peer.append(spoken())
        await peer.until("completed")
    engine.captioner.languages = ("de", "en")
    async with serving(engine) as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.listen(transcription={"language": "de-AT"})
        update = {"audio": {"input": {"transcription": {"language": "xx"}}}}
        await peer.say("session.update", session=update)
        error = (await peer.until("error"))["error"]
        assert (error["code"], error["param"]) == ("invalid_language", "session.audio.input.transcription.language")
        await peer.append(spoken())
        await peer.until("completed")


async def test_segments_have_word_times_where_they_are_asked_for() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.update(af3stream={"words": True})
        await peer.append(spoken())
        segment = await peer.until("segment")
        assert [word["word"] for word in segment["words"]] == segment["text"].split()
        assert (await peer.until("completed"))["transcript"] == segment["text"]


LOGPROBS = "item.input_audio_transcription.logprobs"


async def test_logprobs_are_of_the_words_that_make_up_the_transcript() -> None:
    async with serving() as service, realtime(service, TRANSCRIPTION) as peer:
        assert (await peer.update(include=[LOGPROBS]))["include"] == [LOGPROBS]
        await peer.append(spoken())
        completed = await peer.until("completed")
        assert "".join(entry["token"] for entry in completed["logprobs"]) == completed["transcript"] != ""
        assert all(entry["logprob"] <= 0 for entry in completed["logprobs"])
        assert (await peer.update(include=None))["include"] is None
        await peer.append(spoken())
        assert "logprobs" not in await peer.until("completed")


async def test_logprobs_that_the_captioner_does_not_have_are_refused() -> None:
    engine = ScriptedEngine()
    engine.captioner.times_words = False
    async with serving(engine) as service, realtime(service, TRANSCRIPTION) as peer:
        await peer.say("session.update", session={"include": [LOGPROBS]}, event_id="mine")
        error = (await peer.until("error"))["error"]
        assert (error["code"], error["param"]) == ("unsupported_value", "session.include")
        await peer.append(spoken())
        assert (await peer.until("completed"))["transcript"]
