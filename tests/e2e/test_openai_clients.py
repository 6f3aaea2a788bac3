"""The OpenAI wire over the embedded model: what protocol v1 says, and every released client once."""

from __future__ import annotations

import asyncio
import base64
import io
import wave
from typing import Any

import httpx2
import pytest
import soundfile
from playwright.async_api import async_playwright

from af3stream.client import Caption, connect
from af3stream.protocol.final_captions import FinalCaptions
from tests.conftest import RECORDINGS
from tests.e2e.conftest import RunningService
from tests.openai_wire.conftest import RunClient
from tests.openai_wire.realtime_peer import TRANSCRIPTION, realtime, spoken
from tests.openai_wire.test_browser import CHROMIUM, SWITCHES

pytestmark = pytest.mark.mini

RATE = 16_000
QUESTION = "Who is spoken of?"
OWL = "You are an owl. End each answer with: Hoo!"
PATIENCE_S = 120.0
EXTENSION = {"words": True, "speakers": True}


@pytest.fixture(scope="module")
def pcm() -> bytes:
    """Two sentences and their pauses, 16-bit PCM."""
    paths = [next(RECORDINGS.glob(f"*{number}.wav")) for number in ("0870", "0880")]
    pieces = [soundfile.read(path, dtype="int16")[0] for path in paths]
    return b"".join(piece.tobytes() + bytes(2 * RATE) for piece in pieces)


# ---- the same over every wire ----------------------------------------------------------------------------------------


async def test_first_finals_words_and_speakers_are_those_of_protocol_v1(service: RunningService, pcm: bytes) -> None:
    finals, _ = await over_v1(service, pcm)
    assert len(finals) > 1 and all(final.words and final.speaker for final in finals)
    async with realtime(service, TRANSCRIPTION) as peer:
        await peer.update(af3stream=EXTENSION, audio={"input": {"format": {"type": "audio/pcm", "rate": RATE}}})
        await peer.append(pcm, 2 * RATE)
        while len(peer.of("transcription.segment")) < len(finals):
            await peer.until("transcription.segment")
        segments = peer.of("transcription.segment")
    assert [segment["text"] for segment in segments] == [final.text for final in finals]
    assert [(s["start"], s["end"]) for s in segments] == [(final.start, final.end) for final in finals]
    assert [segment["words"] for segment in segments] == [words_of(final) for final in finals]
    assert [segment["speaker"] for segment in segments] == [speaker_of(final) for final in finals]


async def test_a_file_has_the_captions_that_protocol_v1_ends_with(service: RunningService, pcm: bytes) -> None:
    _, captions = await over_v1(service, pcm)
    verbose = await transcribed(service, pcm, "verbose_json", **{"timestamp_granularities[]": ["word", "segment"]})
    assert [s["text"] for s in verbose["segments"]] != []
    diarized = await transcribed(service, pcm, "diarized_json")
    assert [s["text"] for s in diarized["segments"]] == [caption.text for caption in captions]
    assert [s["speaker"] for s in diarized["segments"]] == [speaker_of(caption) for caption in captions]
    assert verbose["text"] == " ".join(caption.text for caption in captions)
    assert [word["word"] for word in verbose["words"]] == verbose["text"].split()


@pytest.mark.parametrize("instructions", ["", OWL])
async def test_a_question_has_the_same_answer(service: RunningService, instructions: str) -> None:
    sentence = spoken(RATE)
    async with connect(service.http, instructions=instructions) as session:
        await session.send(sentence)
        await session.flush()
        expected = (await session.ask(QUESTION)).text
    async with realtime(service) as peer:
        listen = {"format": {"type": "audio/pcm", "rate": RATE}, "turn_detection": None, "transcription": {}}
        await peer.update(instructions=instructions, audio={"input": listen})
        await peer.append(sentence, 2 * RATE)
        await peer.say("input_audio_buffer.commit")
        await peer.until("transcription.completed")
        answered = await peer.ask(QUESTION)
    async with httpx2.AsyncClient(base_url=service.http, timeout=PATIENCE_S) as client:
        audio = {"data": base64.b64encode(wav(sentence)).decode(), "format": "wav"}
        content = [{"type": "input_audio", "input_audio": audio}, {"type": "text", "text": QUESTION}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if instructions:
            messages.insert(0, {"role": "system", "content": instructions})
        chat = (await client.post("/v1/chat/completions", json={"model": "mini", "messages": messages})).json()
    assert answered["output"][0]["content"][0]["text"] == expected != ""
    assert chat["choices"][0]["message"]["content"] == expected


# ---- released clients ------------------------------------------------------------------------------------------------


async def test_the_async_openai_client_transcribes_and_asks(run_client: RunClient, service: RunningService) -> None:
    told = await run_client(service, "openai_realtime", "transcribe")
    assert "young man" in told[-1][2]
    answered = await run_client(service, "openai_realtime", "converse")
    assert answered["deltas"] == answered["text"] != ""


async def test_the_openai_client_takes_files(run_client: RunClient, service: RunningService) -> None:
    whole, streamed, _ = await run_client(service, "openai_files", "chat")
    assert whole == streamed != ""
    text, tokens = await run_client(service, "openai_files", "logprobs")
    assert text == tokens and "young man" in text


async def test_the_sync_openai_client_is_answered(run_client: RunClient, service: RunningService) -> None:
    assert await run_client(service, "openai_realtime", "sync") == "completed"


async def test_livekit_transcribes_and_answers(run_client: RunClient, service: RunningService) -> None:
    told = await run_client(service, "livekit_clients", "transcribe")
    finals = [text for kind, text in told if kind == "final_transcript"]
    assert len(finals) == 2 and all("young man" in text for text in finals)
    answered = await run_client(service, "livekit_clients", "converse")
    assert answered["errors"] == [] and all(answered["answers"])


async def test_pipecat_transcribes_and_answers(run_client: RunClient, service: RunningService) -> None:
    *_, final = await run_client(service, "pipecat_clients", "transcribe")
    assert final[0] == "TranscriptionFrame" and "young man" in final[1]
    *pieces, last = await run_client(service, "pipecat_clients", "converse")
    assert last[0] == "LLMFullResponseEndFrame" and "".join(text for _, text in pieces)


async def test_the_agents_package_asks_in_chromium(bundle: str, service: RunningService) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES.split())
        page = await browser.new_page(bypass_csp=True)
        await page.goto(service.http)
        await page.add_script_tag(content=bundle)
        url = f"ws{service.http.removeprefix('http')}/v1/realtime"
        sentence = base64.b64encode(spoken(pause_s=0)).decode()
        told = await page.evaluate("([url, key, pcm]) => converse(url, key, pcm)", [url, "ek_any", sentence])
        await browser.close()
    assert told["errors"] == [] and "young man" in told["transcript"]
    assert told["status"] == "completed" and told["answer"]


# ---- what a wire says ------------------------------------------------------------------------------------------------


async def over_v1(service: RunningService, pcm: bytes) -> tuple[list[Caption], list[Caption]]:
    """The first final captions, and the captions at the end."""
    finals, captions = list[Caption](), FinalCaptions()
    async with connect(service.http, speakers=True, words=True) as session:
        await session.send(pcm)
        ending = asyncio.create_task(session.end())
        async for message in session:
            captions.add(message)
            if isinstance(message, Caption) and message.final and message.text:
                finals.append(message)
        await ending
    return finals, [caption for caption in captions if caption.text]


def words_of(caption: Caption) -> list[dict[str, Any]]:
    return [{"word": word.text.strip(), "start": word.start, "end": word.end} for word in caption.words]


def speaker_of(caption: Caption) -> str:
    return "unknown" if caption.speaker is None else "ABCDEFGH"[caption.speaker - 1]


async def transcribed(service: RunningService, pcm: bytes, kind: str, **fields: Any) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=service.http, timeout=PATIENCE_S) as client:
        form = {"model": "mini", "response_format": kind, **fields}
        response = await client.post("/v1/audio/transcriptions", files={"file": ("a.wav", wav(pcm))}, data=form)
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def wav(pcm: bytes) -> bytes:
    """Mono 16-bit samples as a file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm)
    return buffer.getvalue()
