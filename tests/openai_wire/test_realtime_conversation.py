"""Conversation sessions of the Realtime API with written answers; the scripted engine says what it reads."""

from __future__ import annotations

import base64

import pytest

from af3stream.config import QuestionsConfig
from af3stream.protocol import messages as m
from tests.openai_wire.realtime_peer import Event, RealtimePeer, SlowEngine, realtime, spoken
from tests.server.peers import serving, talking

LISTEN = {"turn_detection": {"type": "server_vad", "create_response": False}}


def answer_of(response: Event) -> str:
    text: str = response["output"][0]["content"][0]["text"]
    return text


async def heard(peer: RealtimePeer) -> None:
    """Have a sentence heard, without an answer."""
    await peer.listen(**LISTEN, transcription={"model": "any"})
    await peer.append(spoken())
    await peer.until("transcription.completed")


async def test_the_session_is_told_as_it_is_set_up() -> None:
    async with serving() as service, realtime(service, "?model=gpt-realtime") as peer:
        created = peer.told[0]["session"]
        assert (created["type"], created["object"]) == ("realtime", "realtime.session")
        assert (created["model"], created["output_modalities"]) == ("gpt-realtime", ["text"])
        tool = {"type": "function", "name": "f", "parameters": {}}
        updated = await peer.update(
            type="realtime", instructions="Be short.", tools=[tool], tool_choice="auto", output_modalities=["audio"]
        )
        assert (updated["instructions"], updated["tools"]) == ("Be short.", [])
        assert updated["output_modalities"] == ["text"]
        assert updated["audio"]["input"]["turn_detection"]["create_response"]


async def test_a_written_question_is_answered_in_the_order_of_the_api() -> None:
    async with serving() as service, realtime(service) as peer:
        await heard(peer)
        before = len(peer.told)
        done = await peer.ask("Who is this?", metadata={"client_event_id": "c1"})
        kinds = [kind for kind in peer.kinds[before:] if kind != "response.output_text.delta"]
        assert kinds == [
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
        ]
        created = peer.of("response.created")[0]["response"]
        assert (created["status"], created["metadata"]) == ("in_progress", {"client_event_id": "c1"})
        assert created["id"] == done["id"] and done["status"] == "completed"
        text = "".join(event["delta"] for event in peer.of("output_text.delta"))
        assert text == answer_of(done) == peer.of("output_text.done")[0]["text"]
        assert done["usage"]["output_tokens"] == len(text.split())
        assert peer.of("content_part.added")[0]["part"] == {"type": "text", "text": ""}


async def test_the_answer_is_that_of_protocol_v1() -> None:
    async with serving() as service:
        async with realtime(service) as peer:
            await heard(peer)
            told = answer_of(await peer.ask("Who is this?"))
        async with talking(service, m.Start(rate=24_000)) as other:
            await other.tell(m.Audio(0, spoken()))
            while not other.finals:
                await other.until(m.Caption)
            await other.tell(m.Ask("q", "Who is this?"))
            assert (await other.until(m.Answer)).text == told


async def test_what_was_answered_stands_before_the_question_as_turns() -> None:
    async with serving() as service, realtime(service) as peer:
        await heard(peer)
        first = answer_of(await peer.ask("Who?"))
        assert answer_of(await peer.ask("When?")).endswith(f"(Who? {first})")


async def test_a_deleted_item_takes_its_turn_out() -> None:
    async with serving() as service, realtime(service) as peer:
        await heard(peer)
        await peer.ask("Who?")
        answer = peer.of("output_item.done")[0]["item"]["id"]
        await peer.say("conversation.item.delete", item_id=answer)
        assert (await peer.until("item.deleted"))["item_id"] == answer
        assert answer_of(await peer.ask("When?")).startswith("User: Who? When? <- ")


async def test_instructions_are_the_system_turn_of_every_response() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.update(instructions="Be short.")
        await heard(peer)
        assert answer_of(await peer.ask("Who?")).startswith("Who? <- [Be short.] | ")
        await peer.update(instructions="Rhyme.")
        assert answer_of(await peer.ask("When?")).startswith("When? <- [Rhyme.] | ")
        told = answer_of(await peer.ask("Where?", instructions="In French."))
        assert told.startswith("In French. Where? <- [Rhyme.] | ")
        told = answer_of(await peer.ask("Why?", instructions="Rhyme.\nIn French."))  # as LiveKit joins them
        assert told.startswith("In French. Why? <- [Rhyme.] | ")
        await peer.update(instructions=None)
        assert "[" not in answer_of(await peer.ask("How?")).split("(")[0]


async def test_instructions_that_are_too_long_are_cut_off() -> None:
    async with serving(questions=QuestionsConfig(max_instructions_chars=9)) as service, realtime(service) as peer:
        assert (await peer.update(instructions="Be short. And rhyme."))["instructions"] == "Be short."
        await heard(peer)
        assert "[Be short.]" in answer_of(await peer.ask("Who?"))


async def test_items_of_the_client_and_its_system_messages_stand_before_the_question() -> None:
    async with serving() as service, realtime(service) as peer:
        content = [{"type": "input_text", "text": "Be short."}]
        await peer.say("conversation.item.create", item={"type": "message", "role": "system", "content": content})
        await heard(peer)
        for role, kind, text in (("user", "input_text", "Hello?"), ("assistant", "output_text", "Hi.")):
            content = [{"type": kind, "text": text}]
            await peer.say("conversation.item.create", item={"type": "message", "role": role, "content": content})
        told = answer_of(await peer.ask("Who?"))
        assert told.startswith("Be short. User: Hello? Assistant: Hi. Who? <- ")


async def test_a_spoken_question_is_answered_when_its_words_are_there() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.append(spoken())
        done = (await peer.until("response.done"))["response"]
        assert answer_of(done).startswith("word1 word2 word3 word4 word5")
        kinds = [kind for kind in peer.kinds if "delta" not in kind]
        assert kinds[:7] == [
            "session.created",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
        ]
        assert not peer.of("transcription.completed")  # nobody asked for transcripts


async def test_speech_interrupts_an_answer() -> None:
    async with serving(SlowEngine()) as service, realtime(service) as peer:
        await heard(peer)
        await peer.listen(turn_detection={"type": "server_vad"})
        content = [{"type": "input_text", "text": "word " * 150}]
        await peer.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await peer.say("response.create")
        await peer.until("output_text.delta")
        await peer.append(spoken())
        interrupted, answered = [(await peer.until("response.done"))["response"] for _ in range(2)]
        assert interrupted["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert answered["status"] == "completed"


async def test_an_answer_is_cancelled() -> None:
    async with serving(SlowEngine()) as service, realtime(service) as peer:
        await heard(peer)
        content = [{"type": "input_text", "text": "word " * 100}]
        await peer.say("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await peer.say("response.create")
        await peer.until("response.created")
        await peer.say("response.cancel")
        done = (await peer.until("response.done"))["response"]
        assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "client_cancelled")
        assert (await peer.ask("Who?"))["status"] == "completed"


async def test_a_second_response_at_once_is_refused_and_an_out_of_band_one_is_not() -> None:
    async with serving(SlowEngine()) as service, realtime(service) as peer:
        await heard(peer)
        content = [{"type": "input_text", "text": "word " * 100}]
        item = {"type": "message", "role": "user", "content": content}
        await peer.say("conversation.item.create", item=item)
        await peer.say("response.create")
        await peer.say("response.create", event_id="second")
        asked = {"conversation": "none", "input": [{**item, "content": [{"type": "input_text", "text": "Aside?"}]}]}
        await peer.say("response.create", response=asked)
        error = (await peer.until("error"))["error"]
        assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "second")
        first, aside = [(await peer.until("response.done"))["response"] for _ in range(2)]
        assert first["conversation_id"] and aside["conversation_id"] is None
        assert answer_of(aside).startswith("Aside? <- ")
        assert "Aside" not in answer_of(await peer.ask("Who?"))


async def test_an_answer_that_is_too_long_is_incomplete() -> None:
    async with serving() as service, realtime(service) as peer:
        await heard(peer)
        done = await peer.ask("One two three four?", max_output_tokens=2)
        assert (done["status"], answer_of(done)) == ("incomplete", "One two")
        assert done["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}


async def test_a_question_that_is_refused_fails_its_response_and_is_no_error() -> None:
    async with serving() as service, realtime(service) as peer:
        await heard(peer)
        done = await peer.ask("x" * 3_000)
        assert (done["status"], done["status_details"]["error"]["code"]) == ("failed", "query_limit")
        assert not peer.of("error")


async def test_instructions_of_a_response_are_asked_where_nothing_else_is() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.say("response.create", response={"instructions": "Say hello."})
        done = (await peer.until("response.done"))["response"]
        assert done["status"] == "completed"


async def test_an_item_with_audio_is_heard_and_transcribed() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.listen(turn_detection=None, transcription={})
        content = [{"type": "input_audio", "audio": base64.b64encode(spoken(pause_s=0)).decode()}]
        item = {"id": "mine", "type": "message", "role": "user", "content": content}
        await peer.say("conversation.item.create", item=item)
        completed = await peer.until("transcription.completed")
        assert completed["item_id"] == "mine" and completed["transcript"]
        await peer.say("conversation.item.retrieve", item_id="mine")
        retrieved = (await peer.until("retrieved"))["item"]
        assert retrieved["content"] == [{"type": "input_audio", "transcript": completed["transcript"]}]
        await peer.say("response.create")
        assert answer_of((await peer.until("response.done"))["response"]).startswith(completed["transcript"])


async def test_items_are_placed_retrieved_truncated_and_told_of_once() -> None:
    async with serving() as service, realtime(service) as peer:
        for name, after in (("b", None), ("a", "root"), ("c", "b")):
            content = [{"type": "input_text", "text": name}]
            item = {"id": name, "type": "message", "role": "user", "content": content}
            await peer.say("conversation.item.create", item=item, previous_item_id=after)
        added = [(await peer.until("item.added")) for _ in range(3)]
        assert [event["previous_item_id"] for event in added] == [None, None, "b"]
        await peer.say("conversation.item.create", item=item, event_id="again")
        error = (await peer.until("error"))["error"]
        assert (error["code"], error["event_id"]) == ("item_create_duplicate_item_id", "again")
        await peer.say("conversation.item.truncate", item_id="a", content_index=0, audio_end_ms=5)
        await peer.until("truncated")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "message", "content": [{"type": "input_text", "text": "x"}]},
        {"type": "message", "role": "user", "content": []},
        {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]},
    ],
)
async def test_an_item_that_is_not_taken_is_refused(item: Event) -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.say("conversation.item.create", item=item)
        assert (await peer.until("error"))["error"]["type"] == "invalid_request_error"


async def test_silence_for_long_makes_an_empty_item_and_a_response() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.listen(turn_detection={"type": "server_vad", "idle_timeout_ms": 2_000, "create_response": False})
        await peer.append(spoken(pause_s=3.5))
        triggered = await peer.until("timeout_triggered")
        assert triggered["audio_end_ms"] - triggered["audio_start_ms"] >= 2_000
        assert (await peer.until("committed"))["item_id"] == triggered["item_id"]
        await peer.until("response.done")


async def test_a_conversation_is_bounded() -> None:
    async with serving(max_frame_bytes=1 << 20) as service, realtime(service) as peer:
        content = [{"type": "input_text", "text": "x" * 90_000}]
        for number in range(14):
            item = {"id": f"i{number}", "type": "message", "role": "user", "content": content}
            await peer.say("conversation.item.create", item=item)
            await peer.until("item.done")
        await peer.say("conversation.item.retrieve", item_id="i0")
        assert (await peer.until("error"))["error"]["code"] == "item_retrieve_invalid_item_id"


async def test_settings_of_the_audio_stay_once_it_has_come() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.listen(turn_detection={"type": "server_vad", "silence_duration_ms": 400, "create_response": False})
        await peer.append(spoken())
        await peer.until("committed")
        detection = {"type": "server_vad", "silence_duration_ms": 900, "create_response": True}
        told = (await peer.listen(turn_detection=detection))["audio"]["input"]["turn_detection"]
        assert (told["silence_duration_ms"], told["create_response"]) == (400, True)
        await peer.say("session.update", session={"audio": {"input": {"format": {"type": "audio/pcmu"}}}})
        assert (await peer.until("error"))["error"]["code"] == "cannot_update_format"


async def test_an_item_with_audio_is_one_item_whatever_ends_items_otherwise() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.listen(turn_detection={"type": "server_vad", "create_response": False}, transcription={})
        content = [{"type": "input_audio", "audio": base64.b64encode(spoken()).decode()}]
        await peer.say("conversation.item.create", item={"id": "mine", "role": "user", "content": content})
        assert (await peer.until("transcription.completed"))["item_id"] == "mine"
        await peer.append(spoken())
        other = await peer.until("transcription.completed")
        assert other["item_id"] == peer.of("committed")[0]["item_id"] != "mine"
        assert len(peer.of("speech_started")) == len(peer.of("committed")) == 1


async def test_an_item_with_audio_that_is_no_base64_fails_and_the_next_one_goes_on() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.listen(turn_detection=None, transcription={})
        for audio in ("?", base64.b64encode(spoken()).decode()):
            content = [{"type": "input_audio", "audio": audio}]
            await peer.say("conversation.item.create", item={"role": "user", "content": content})
        completed = [await peer.until("transcription.completed") for _ in range(2)]
        assert [bool(event["transcript"]) for event in completed] == [False, True]
        assert [event["error"]["param"] for event in peer.of("error")] == ["audio"]


async def test_what_a_client_did_not_commit_ends_when_the_server_begins_to() -> None:
    async with serving() as service, realtime(service) as peer:
        await peer.listen(turn_detection=None, transcription={})
        await peer.append(spoken(pause_s=0))
        await peer.listen(turn_detection={"type": "server_vad", "create_response": False}, transcription={})
        await peer.append(spoken())
        completed = [await peer.until("transcription.completed") for _ in range(2)]
        assert all(event["transcript"] for event in completed)
