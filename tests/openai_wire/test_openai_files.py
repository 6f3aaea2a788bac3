"""The released `openai` package against a real server: files."""

from __future__ import annotations

from tests.openai_wire.conftest import RunClient
from tests.server.peers import serving


async def test_transcriptions_in_every_format(run_client: RunClient) -> None:
    async with serving() as service:
        told = await run_client(service, "openai_files", "transcribe")
        text = told["json"][1]
        assert told["json"][0] == "Transcription"
        assert told["verbose_json"] == ["TranscriptionVerbose", text]
        assert told["diarized_json"] == ["TranscriptionDiarized", text]
        assert told["text"].strip() == text
        assert told["vtt"].startswith("WEBVTT") and told["srt"].startswith("1\n")


async def test_a_streamed_transcription(run_client: RunClient) -> None:
    async with serving() as service:
        *deltas, done = await run_client(service, "openai_files", "stream")
        assert done[0] == "TranscriptionTextDoneEvent"
        assert {name for name, _ in deltas} == {"TranscriptionTextDeltaEvent"}
        assert "".join(text for _, text in deltas) == done[1]


async def test_logprobs_and_a_chunking_strategy(run_client: RunClient) -> None:
    async with serving() as service:
        text, tokens = await run_client(service, "openai_files", "logprobs")
        assert tokens == text != ""
        whole, cut = await run_client(service, "openai_files", "chunking")
        assert cut > whole == 1


async def test_a_chat_about_audio_whole_and_streamed(run_client: RunClient) -> None:
    async with serving() as service:
        whole, streamed, tokens = await run_client(service, "openai_files", "chat")
        assert whole.startswith("Who is this? <- ") and streamed == whole
        assert tokens == len(whole.split())


async def test_models(run_client: RunClient) -> None:
    async with serving() as service:
        assert await run_client(service, "openai_files", "models") == [["scripted"], "af3stream"]


async def test_errors_are_the_packages_own(run_client: RunClient) -> None:
    async with serving(tokens=("secret",)) as service:
        told = await run_client(service, "openai_files", "errors")
        assert told == [
            ["invalid_file", "file"], ["unsupported_value", "known_speaker_names"], ["invalid_api_key", None],
        ]  # fmt: skip


async def test_the_async_client(run_client: RunClient) -> None:
    async with serving() as service:
        first, second = await run_client(service, "openai_files", "together")
        assert first == second != ""
