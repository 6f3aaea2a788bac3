"""Files over HTTP, as programs for the OpenAI API send them; the scripted engine says how much it hears."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import threading
import time
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from af3stream.config import UploadsConfig
from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.scripted import ScriptedEngine
from af3stream.offline import HeardFile, transcribe
from af3stream.protocol import messages as m
from af3stream.server.service import Service
from tests.server.peers import serving, settled, talking

RECORDING = next((Path(__file__).parent.parent / "recordings").glob("*0880.wav"))
TRANSCRIPTIONS, TRANSLATIONS, CHAT = "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/chat/completions"


@asynccontextmanager
async def http(service: Service, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=30, **options) as client:
        yield client


async def post(client: httpx2.AsyncClient, path: str = TRANSCRIPTIONS, **fields: Any) -> httpx2.Response:
    with RECORDING.open("rb") as file:
        return await client.post(path, files={"file": file}, data={"model": "mini", **fields})


def chat(*parts: Any, **fields: Any) -> dict[str, Any]:
    audio = {"data": base64.b64encode(RECORDING.read_bytes()).decode(), "format": "wav"}
    content = [*parts, {"type": "text", "text": "Who is this?"}, {"type": "input_audio", "input_audio": audio}]
    return {"model": "mini", "messages": [{"role": "user", "content": content}], **fields}


def events(body: str) -> list[Any]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]


def refusal(response: httpx2.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert set(error) == {"type", "code", "message", "param"}
    return response.status_code, error["code"]


def repeated(folder: Path, times: int) -> Path:
    """A file that says the sentence so many times."""
    path = folder / "long.wav"
    with wave.open(str(RECORDING)) as source, wave.open(str(path), "wb") as file:
        file.setparams(source.getparams())
        frames = source.readframes(source.getnframes())
        for _ in range(times):
            file.writeframes(frames)
    return path


# ---- transcriptions --------------------------------------------------------------------------------------------------


async def test_a_transcription_has_the_words_of_the_transcribe_command() -> None:
    async with serving() as service, http(service) as client:
        response = await post(client)
        expected = await asyncio.to_thread(transcribe, RECORDING, service._config, service.backend.loaded)
        assert response.json() == {"text": expected.text, "usage": {"type": "duration", "seconds": 3}}


async def test_caption_files_have_cues() -> None:
    async with serving() as service, http(service) as client:
        vtt, srt = await post(client, response_format="vtt"), await post(client, response_format="srt")
        assert vtt.headers["content-type"].startswith("text/vtt")
        assert vtt.text.startswith("WEBVTT\n\n00:00:")
        assert srt.text.startswith("1\n00:00:")
        assert (await post(client, response_format="text")).text.startswith("word1 word2")


async def test_verbose_json_has_segments_with_every_field_that_clients_require() -> None:
    async with serving() as service, http(service) as client:
        told = (await post(client, response_format="verbose_json")).json()
        assert told["task"] == "transcribe" and told["duration"] == pytest.approx(2.99, abs=0.1)
        assert " ".join(segment["text"] for segment in told["segments"]) == told["text"]
        assert set(told["segments"][0]) >= {"id", "seek", "start", "end", "text", "tokens", "avg_logprob"}


async def test_diarized_json_names_a_speaker_for_each_segment() -> None:
    async with serving() as service, http(service) as client:
        told = (await post(client, response_format="diarized_json")).json()
        assert {segment["type"] for segment in told["segments"]} == {"transcript.text.segment"}
        assert all(segment["speaker"] for segment in told["segments"])


async def test_a_streamed_transcription_tells_deltas_that_make_up_the_whole() -> None:
    async with serving() as service, http(service) as client:
        response = await post(client, stream="true")
        assert response.headers["content-type"].startswith("text/event-stream")
        *deltas, done = events(response.text)
        assert done["type"] == "transcript.text.done"
        assert "".join(delta["delta"] for delta in deltas) == done["text"]
        assert done["text"] == (await post(client)).json()["text"]


async def test_a_streamed_diarized_transcription_tells_segments() -> None:
    async with serving() as service, http(service) as client:
        told = events((await post(client, stream="true", response_format="diarized_json")).text)
        assert {event["type"] for event in told} == {
            "transcript.text.segment", "transcript.text.delta", "transcript.text.done",
        }  # fmt: skip


async def test_a_long_file_is_transcribed_beyond_the_credit(tmp_path: Path) -> None:
    path = repeated(tmp_path, 60)
    async with serving(credit_s=70) as service, http(service) as client:
        with path.open("rb") as file:
            response = await client.post(TRANSCRIPTIONS, files={"file": file}, data={"stream": "true"})
        *deltas, done = events(response.text)
        assert len(deltas) > 5
        assert "".join(delta["delta"] for delta in deltas) == done["text"]


async def test_words_have_times_where_they_are_asked_for() -> None:
    async with serving() as service, http(service) as client:
        fields = {"response_format": "verbose_json", "timestamp_granularities[]": ["word"]}
        told = (await post(client, **fields)).json()
        assert [word["word"] for word in told["words"]] == told["text"].split()
        assert all(0 <= word["start"] <= word["end"] <= told["duration"] for word in told["words"])
        assert "segments" not in told


async def test_logprobs_are_of_the_words_that_make_up_the_text() -> None:
    async with serving() as service, http(service) as client:
        plain = (await post(client)).json()
        told = (await post(client, **{"include[]": ["logprobs"]})).json()
        assert "".join(entry["token"] for entry in told["logprobs"]) == told["text"] == plain["text"]
        assert all(entry["logprob"] <= 0 for entry in told["logprobs"])
        assert all(bytes(entry["bytes"]).decode() == entry["token"] for entry in told["logprobs"])
        assert "logprobs" not in plain
        *deltas, done = events((await post(client, stream="true", **{"include[]": ["logprobs"]})).text)
        assert done["logprobs"] == told["logprobs"]
        for delta in deltas:
            assert "".join(entry["token"] for entry in delta["logprobs"]) == delta["delta"]


async def test_a_streamed_transcription_tells_captions_while_the_file_is_heard(tmp_path: Path) -> None:
    resume, path = threading.Event(), repeated(tmp_path, 30)

    class Waiting(ScriptedEngine):
        def __init__(self) -> None:
            super().__init__(window_s=10.0)
            hear, heard = self.captioner.hear, count(1)

            def wait(request: CaptionRequest) -> Hypothesis:
                if next(heard) > 20:
                    assert resume.wait(30)
                return hear(request)

            self.captioner.hear = wait  # type: ignore[method-assign]

    async with serving(Waiting()) as service, http(service) as client:
        with path.open("rb") as file:
            asking = {"files": {"file": file}, "data": {"stream": "true"}}
            async with client.stream("POST", TRANSCRIPTIONS, **asking) as response:
                lines = response.aiter_lines()
                while not (line := await anext(lines)).startswith("data:"):
                    pass
                assert "transcript.text.delta" in line and not resume.is_set()
                resume.set()
                rest = [line async for line in lines]
        assert "transcript.text.done" in "".join(rest)


@pytest.mark.parametrize(
    "spelled",
    [
        {"chunking_strategy[type]": "server_vad", "chunking_strategy[silence_duration_ms]": "50"},
        {"chunking_strategy": '{"type": "server_vad", "silence_duration_ms": 50}'},
    ],
    ids=["as the package sends it", "as JSON"],
)
async def test_a_chunking_strategy_says_which_pause_ends_an_utterance(spelled: dict[str, str]) -> None:
    async with serving() as service, http(service) as client:
        whole = (await post(client, response_format="verbose_json", chunking_strategy="auto")).json()
        cut = (await post(client, response_format="verbose_json", **spelled)).json()
        assert len(cut["segments"]) > len(whole["segments"]) == 1


class Plain(ScriptedEngine):
    """Times no words, and knows no voices."""

    def __init__(self) -> None:
        super().__init__()
        self.captioner.times_words = False
        self.voices = None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"known_speaker_names[]": ["Anna"]}, "known_speaker_names"),
        ({"stream": "true", "response_format": "srt"}, "stream"),
        ({"include[]": ["logprobs"], "response_format": "verbose_json"}, "include"),
        ({"include[]": ["logprobs"]}, "include"),
        ({"response_format": "verbose_json", "timestamp_granularities[]": ["word"]}, "timestamp_granularities"),
        ({"response_format": "diarized_json"}, "response_format"),
    ],
)
async def test_what_cannot_be_answered_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    async with serving(Plain()) as service, http(service) as client:
        response = await post(client, **fields)
        assert refusal(response) == (400, "unsupported_value")
        assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("strategy", ["{", "[]", '{"type": "semantic"}', "vad"])
async def test_an_unknown_chunking_strategy_is_refused(strategy: str) -> None:
    async with serving() as service, http(service) as client:
        assert refusal(await post(client, chunking_strategy=strategy)) == (400, "invalid_value")


# ---- chat ------------------------------------------------------------------------------------------------------------


async def test_a_chat_answers_as_the_ask_command_does() -> None:
    async with serving() as service, http(service) as client:
        told = (await client.post(CHAT, json=chat())).json()
        heard = await asyncio.to_thread(HeardFile, RECORDING, service._config, service.backend.loaded)
        answer = await asyncio.to_thread(heard.ask, "Who is this?")
        choice = told["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (answer.text, "stop")
        assert told["usage"]["completion_tokens"] == answer.tokens


async def test_a_streamed_chat_has_the_same_words_and_ends_with_done() -> None:
    async with serving() as service, http(service) as client:
        whole = (await client.post(CHAT, json=chat())).json()
        body = (await client.post(CHAT, json=chat(stream=True, stream_options={"include_usage": True}))).text
        assert body.endswith("data: [DONE]\n\n")
        *chunks, last = events(body)
        pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        assert "".join(pieces) == whole["choices"][0]["message"]["content"]
        assert last["usage"] == whole["usage"]


async def test_instructions_are_the_system_turn_and_earlier_messages_stand_before_the_question() -> None:
    body = chat()
    body["messages"][:0] = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hi."},
    ]
    async with serving() as service, http(service) as client:
        told = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]["content"]
        assert told.startswith("User: Hello? Assistant: Hi. Who is this? <- [Be short.] | ")


async def test_base64_with_escaped_slashes_is_read() -> None:
    async with serving() as service, http(service) as client:
        spelled = json.dumps(chat()).replace("/", r"\/")
        assert (await client.post(CHAT, content=spelled)).status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("[" * 100_000, "invalid_value"),
        ("[]", "invalid_value"),
        ('{"messages": []}', "no_question"),
        ('{"messages": [{"role": "user", "content": "Hello?"}]}', "no_audio"),
        (json.dumps(chat(n=2)), "unsupported_value"),
        (json.dumps(chat(logprobs=True)), "unsupported_value"),
        (json.dumps(chat(response_format={"type": "json_object"})), "unsupported_value"),
        (json.dumps(chat(max_tokens=0)), "invalid_value"),
        (json.dumps(chat({"type": "image_url", "image_url": {"url": "x"}})), "invalid_value"),
        (json.dumps(chat({"type": "input_audio", "input_audio": {"data": "a"}})), "invalid_value"),
        (json.dumps(chat({"type": "input_audio", "input_audio": {"data": 5}})), "invalid_value"),
        (json.dumps(chat({"type": "input_audio", "input_audio": {"data": ""}})), "invalid_file"),
        (json.dumps(chat({"type": "input_audio", "input_audio": {"data": "bm8gYXVkaW8="}})), "invalid_file"),
        (json.dumps(chat({"type": "text", "text": "x" * 3_000})), "query_limit"),
        (json.dumps({"messages": [{"role": "system", "content": "x" * 9_000}, *chat()["messages"]]}), "query_limit"),
    ],
)
async def test_a_chat_that_cannot_be_answered_is_refused(body: str, code: str) -> None:
    async with serving() as service, http(service) as client:
        assert refusal(await client.post(CHAT, content=body)) == (400, code)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "data", "code"),
    [
        ({}, {"model": "mini"}, "invalid_form"),
        ({"other": b"x"}, {}, "missing_required_parameter"),
        ({"file": b""}, {}, "invalid_file"),
        ({"file": b"no audio"}, {}, "invalid_file"),
        ({"file": RECORDING.read_bytes()[:44]}, {}, "invalid_file"),
        ({"file": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"}, {}, "invalid_file"),
        ({"file": RECORDING.read_bytes()}, {"response_format": "xml"}, "invalid_value"),
        ({"file": RECORDING.read_bytes()}, {"timestamp_granularities[]": "x"}, "invalid_value"),
        ({"file": RECORDING.read_bytes()}, {"stream": "perhaps"}, "invalid_value"),
        ({"file": RECORDING.read_bytes()}, {"stream": "true", "response_format": "srt"}, "unsupported_value"),
    ],
)
async def test_a_form_that_cannot_be_answered_is_refused(files: Any, data: Any, code: str) -> None:
    async with serving() as service, http(service) as client:
        assert refusal(await client.post(TRANSCRIPTIONS, files=files, data=data)) == (400, code)
        assert (await post(client)).status_code == 200


async def test_a_language_that_the_captioner_does_not_know_is_refused_by_name() -> None:
    engine = ScriptedEngine()
    engine.captioner.languages = ("de", "en")
    async with serving(engine) as service, http(service) as client:
        assert (await post(client, language="de-AT")).status_code == 200
        response = await post(client, language="xx")
        assert refusal(response) == (400, "invalid_language") and "'xx'" in response.json()["error"]["message"]


async def test_refusals_say_nothing_of_the_disk() -> None:
    async with serving() as service, http(service) as client:
        response = await client.post(TRANSCRIPTIONS, files={"file": b"no audio"})
        assert response.json()["error"]["message"] == "the file is not an audio file of a known kind"


async def test_a_body_over_the_limit_is_refused() -> None:
    async with serving(uploads=UploadsConfig(max_mb=1)) as service, http(service) as client:
        assert refusal(await client.post(TRANSCRIPTIONS, files={"file": bytes(1_100_000)})) == (413, "file_too_large")

        async def pieces() -> AsyncIterator[bytes]:
            yield bytes(1 << 20)
            yield b"-"

        with suppress(httpx2.TransportError):  # it may still write when the connection closes
            assert refusal(await client.post(CHAT, content=pieces())) == (413, "file_too_large")
        await settled(service)


async def test_audio_over_the_limit_is_refused() -> None:
    async with serving(uploads=UploadsConfig(max_s=2)) as service, http(service) as client:
        assert refusal(await post(client)) == (400, "audio_too_long")
        assert events((await post(client, stream="true")).text)[-1]["error"]["code"] == "audio_too_long"


async def test_requests_need_a_token_where_sockets_do() -> None:
    async with serving(tokens=("secret",)) as service, http(service) as client:
        for path in ("/v1/models", "/v1/models/scripted"):
            assert refusal(await client.get(path)) == (401, "invalid_api_key")
        assert refusal(await post(client)) == (401, "invalid_api_key")
        assert refusal(await client.post(CHAT, json=chat())) == (401, "invalid_api_key")
        client.headers["Authorization"] = "Bearer secret"
        assert (await client.get("/v1/models")).status_code == 200
        assert (await post(client)).status_code == 200


async def test_a_foreign_page_is_refused() -> None:
    async with serving() as service, http(service, headers={"Origin": "https://elsewhere.example"}) as client:
        assert refusal(await post(client)) == (403, "origin_not_allowed")


async def test_a_page_of_an_admitted_origin_may_read_the_answers() -> None:
    origin = "https://page.example"
    asking = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    async with serving(origins=(origin,), tokens=("secret",)) as service, http(service) as client:
        preflight = await client.options(TRANSCRIPTIONS, headers=asking)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-headers"] == "authorization"
        client.headers.update({"Origin": origin, "Authorization": "Bearer secret"})
        assert (await post(client)).headers["access-control-allow-origin"] == origin
        foreign = await client.options(TRANSCRIPTIONS, headers={**asking, "Origin": "https://elsewhere.example"})
        assert foreign.status_code == 400


async def test_a_file_counts_as_a_session() -> None:
    async with serving(max_sessions=1) as service, http(service) as client:
        async with talking(service):
            response = await post(client)
            assert refusal(response) == (503, "overloaded") and response.headers["retry-after"]
        await settled(service)
        assert (await post(client)).status_code == 200
        await settled(service)


async def test_one_file_too_many_is_told_to_come_later() -> None:
    async with serving(uploads=UploadsConfig(at_once=1)) as service, http(service) as client:
        come = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await come.wait()

        first = asyncio.create_task(client.post(CHAT, content=slow()))
        while not service.sessions:  # noqa: ASYNC110 - the service has no reason to tell
            await asyncio.sleep(0.01)
        response = await post(client)
        assert refusal(response) == (429, "rate_limit_exceeded") and response.headers["retry-after"]
        come.set()
        assert refusal(await first) == (400, "invalid_json")


async def test_a_body_that_does_not_go_on_is_given_up() -> None:
    async with serving(request_timeout_s=0.2) as service, http(service) as client:

        async def stuck() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(5)

        assert refusal(await client.post(CHAT, content=stuck())) == (503, "timeout")
        await settled(service)


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_client_that_leaves_costs_nothing_more(stream: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engine = ScriptedEngine()
    hear = engine.captioner.hear

    def slowly(*args: Any, **kwargs: Any) -> Hypothesis:
        time.sleep(0.5)
        return hear(*args, **kwargs)

    monkeypatch.setattr(engine.captioner, "hear", slowly)
    async with serving(engine) as service, http(service) as client:
        request = asyncio.create_task(post(client, stream=stream))
        while not service.sessions:  # noqa: ASYNC110 - the service has no reason to tell
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await settled(service)
        assert not await asyncio.to_thread(lambda: [*tmp_path.iterdir()])


async def test_a_translation_is_refused_where_the_captioner_has_none() -> None:
    async with serving() as service, http(service) as client:
        assert refusal(await post(client, TRANSLATIONS)) == (400, "bad_format")


async def test_models_are_listed_and_told() -> None:
    async with serving() as service, http(service) as client:
        listed = (await client.get("/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["scripted"]
        assert (await client.get("/v1/models/scripted")).json() == listed["data"][0]
        assert refusal(await client.get("/v1/models/gpt-9")) == (404, "model_not_found")


async def test_unknown_paths_and_methods_are_refused_in_the_same_shape() -> None:
    async with serving() as service, http(service) as client:
        assert refusal(await client.post("/v1/embeddings", json={})) == (404, None)
        assert refusal(await client.get(TRANSCRIPTIONS)) == (405, None)


async def test_a_live_session_goes_on_beside_files() -> None:
    async with serving() as service, http(service) as client, talking(service) as peer:
        answers = await asyncio.gather(post(client), post(client))
        assert [answer.status_code for answer in answers] == [200, 200]
        await peer.tell(m.Flush("still-there"))
        await peer.until(m.Flushed)
