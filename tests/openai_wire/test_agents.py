"""LiveKit's and Pipecat's released plugins against a real server, with no change but the base URL."""

from __future__ import annotations

from tests.openai_wire.conftest import RunClient
from tests.server.peers import serving

WORDS = "word1 word2 word3 word4 word5 word6."


async def test_livekit_transcribes_two_streams_over_one_socket(run_client: RunClient) -> None:
    async with serving(tokens=("secret",)) as service:
        told = await run_client(service, "livekit_clients", "transcribe")
        stream = [
            ["start_of_speech", ""],
            ["interim_transcript", "word1"],
            ["end_of_speech", ""],
            ["final_transcript", WORDS],
        ]
        assert [event for event in told if event[0] != "interim_transcript" or event == stream[1]] == stream * 2


async def test_livekits_text_model_answers_about_audio(run_client: RunClient) -> None:
    async with serving(tokens=("secret",)) as service:
        told = await run_client(service, "livekit_clients", "converse")
        first, second = told["answers"]
        assert told["errors"] == []
        assert first.startswith("Who is this? <- ") and second.startswith("Say hello. <- ")


async def test_pipecat_transcribes(run_client: RunClient) -> None:
    async with serving(tokens=("secret",)) as service:
        *interims, final = await run_client(service, "pipecat_clients", "transcribe")
        assert {kind for kind, _ in interims} == {"InterimTranscriptionFrame"}
        assert final == ["TranscriptionFrame", WORDS]
        assert "".join(text for _, text in interims) == WORDS


async def test_pipecats_model_answers_about_audio(run_client: RunClient) -> None:
    async with serving(tokens=("secret",)) as service:
        *pieces, last = await run_client(service, "pipecat_clients", "converse")
        assert {kind for kind, _ in pieces} == {"LLMTextFrame"} and last[0] == "LLMFullResponseEndFrame"
        assert "".join(text for _, text in pieces).startswith("Who is this? <- ")
