"""The released `openai` package against a real server: the Realtime API."""

from __future__ import annotations

from tests.openai_wire.conftest import RunClient
from tests.openai_wire.realtime_peer import SlowEngine
from tests.server.peers import serving

COMPLETED = "conversation.item.input_audio_transcription.completed"


async def test_transcription_at_the_pace_of_speech(run_client: RunClient) -> None:
    async with serving(tokens=("secret",)) as service:
        told = await run_client(service, "openai_realtime", "transcribe")
        kinds = [kind for kind, _, _ in told]
        assert kinds[:2] == ["session.created", "session.updated"]
        assert {name for kind, name, _ in told if kind == COMPLETED} == {
            "ConversationItemInputAudioTranscriptionCompletedEvent"
        }
        deltas = [text for kind, _, text in told if kind.endswith("transcription.delta")]
        assert "".join(deltas) == told[-1][2] != ""


async def test_a_client_that_commits(run_client: RunClient) -> None:
    async with serving() as service:
        assert (await run_client(service, "openai_realtime", "commit")).startswith("word1 word2")


async def test_written_questions_a_cancellation_and_an_error(run_client: RunClient) -> None:
    async with serving(SlowEngine()) as service:
        told = await run_client(service, "openai_realtime", "converse")
        assert told["deltas"] == told["text"] and told["text"].startswith("Who is this? <- ")
        assert told["metadata"] == {"topic": "who"}
        assert told["statuses"] == ["completed", "cancelled"]
        assert told["error"] == ["response_cancel_not_active", "late"]


async def test_the_sync_client(run_client: RunClient) -> None:
    async with serving() as service:
        assert await run_client(service, "openai_realtime", "sync") == "completed"
