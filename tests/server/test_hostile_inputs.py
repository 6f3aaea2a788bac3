"""Whatever one peer sends or suffers: it is told so, closed where it must be, and another one's captions go on.

What fails on the server's own side is in test_faults.py. What is hostile below a session is tested there: control
tokens spelled in a question in tests/engine/test_prompt.py, torn and damaged journals, full disks and kills in
tests/journal, noise in tests/e2e/test_silence.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from af3stream.config import ModelConfig, QuestionsConfig
from af3stream.engine.contract import Engine
from af3stream.engine.scripted import ScriptedEngine
from af3stream.protocol import messages as m
from af3stream.protocol.codec import JSON, MSGPACK
from tests.server.peers import PATIENCE_S, connected, still_there, stream_url, talking
from tests.server.test_admission import refused
from tests.server.test_resume import audio_in, durable_up_to, kept_events
from tests.server.test_sessions import RATE, SPEECH, SlowEngine, bulky, flood_with_answers, speak
from tests.server.wire import BINARY, FIN, RSV1, RSV2, TEXT, Wire, frame

# ---- messages --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is sent in an open session, how it is refused, and the code the session closes with, where it does."""

    name: str
    frames: Sequence[bytes | str | m.ClientMessage]
    code: str | None
    close: int | None = None
    start: m.Start = field(default_factory=m.Start)
    subprotocol: str = MSGPACK
    engine: Callable[[], Engine] = ScriptedEngine


def packed(**fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


FLUSH = packed(type="flush", id="f")
SECOND = SPEECH[: 2 * RATE]
F32 = m.Start(format="pcm_f32le")
BOMB = b"\xdd\x00\x0f\xff\xf0" + b"\x80" * 0xFFFF0
CASES = [
    Case("truncated", [FLUSH[:-1]] * 3, "bad_message", 4400),
    Case("truncated, twice", [FLUSH[:-1]] * 2, "bad_message"),
    Case("trailing data", [FLUSH + b"\x00"] * 3, "bad_message", 4400),
    Case("unknown type", [packed(type="sesame")] * 3, "bad_message", 4400),
    Case("unknown field", [packed(type="flush", id="f", sesame=1)] * 3, "bad_message", 4400),
    Case("nested arrays", [b"\x91" * 1_000_000] * 3, "bad_message", 4400),
    Case("a million empty maps", [BOMB] * 3, "bad_message", 4400),
    Case("an id that is a path", [packed(type="flush", id="../../etc")] * 3, "bad_message", 4400),
    Case("text where binary is due", ["{}"], "wrong_frame", 1003),
    Case("binary where text is due", [b"{}"], "wrong_frame", 1003, subprotocol=JSON),
    Case("half a sample", [m.Audio(0, b"\0")], "bad_audio"),
    Case("half a frame of two channels", [m.Audio(0, b"\0\0")], "bad_audio", start=m.Start(channels=2)),
    Case("NaN", [m.Audio(0, b"\0\0\xc0\x7f")], "bad_audio", start=F32),
    Case("infinity", [m.Audio(0, b"\0\0\x80\x7f")], "bad_audio", start=F32),
    Case("no audio", [m.Audio(0, b"")], "bad_audio"),
    Case("more than 10 s", [m.Audio(0, bytes(20 * RATE + 2))], "bad_audio"),
    Case("another rate midway", [m.Start(rate=8_000)], "bad_format"),
    Case("other channels midway", [m.Start(channels=2)], "bad_format"),
    Case("a rate in words midway", [packed(type="start", rate="fast")], "bad_format"),
    Case("a negative offset", [m.Audio(-1, SECOND)], "bad_offset"),
    Case("an offset of 2^63", [m.Audio(1 << 63, SECOND)], "bad_offset"),
    Case("an offset of 2^64 - 1", [m.Audio((1 << 64) - 1, SECOND)], "bad_offset"),
    Case("an offset that overflows", ['{"type":"audio","offset":1e999,"pcm":""}'], "bad_offset", subprotocol=JSON),
    Case("100 digits", [f'{{"type":"gap","offset":{"9" * 100},"frames":1}}'], "bad_offset", subprotocol=JSON),
    Case("an offset in words", [packed(type="audio", offset="0", pcm=b"")] * 4, "bad_offset"),
    Case("a gap in offsets", [m.Audio(1, SECOND)], "offset_gap"),
    Case("a range again, same bytes", [m.Audio(0, SECOND), m.Audio(100, SECOND[200:300])], None),
    Case("a range again, other bytes", [m.Audio(0, SECOND), m.Audio(100, SECOND[:200])], "audio_conflict", 4409),
    Case("beyond the credit", [m.Gap(0, 200 * RATE)] * 2, "rate_limited"),
    Case("far beyond the credit", [m.Gap(0, 200 * RATE)] * 3, "rate_limited", 4429),
    Case("a question of 100 kB", [m.Ask("q", "x" * 100_000)], "query_limit"),
    Case(
        "a storm of questions",
        [m.Audio(0, SPEECH[: 20 * RATE]), *(m.Ask(f"q{i}", "What?") for i in range(9))],
        "query_limit",
        engine=lambda: SlowEngine(0.2),
    ),
    Case("a question of controls alone", [m.Ask("q", "\0\u202e\u2066")], "bad_text"),
    Case("half a surrogate pair", ['{"type":"ask","id":"q","text":"\\ud800"}'] * 4, "bad_text", subprotocol=JSON),
    Case("a surrogate in UTF-8", [b"\x83\xa4type\xa3ask\xa2id\xa1q\xa4text\xa3\xed\xa0\x80"] * 4, "bad_text"),
    Case("bytes that are not UTF-8", [b"\x83\xa4type\xa3ask\xa2id\xa1q\xa4text\xa1\xff"] * 4, "bad_text"),
    Case("a name for nobody", [m.NameSpeaker(1, "Anna")], "unknown_speaker", start=m.Start(speakers=True)),
    Case("a name where nobody is told apart", [m.NameSpeaker(1, "Anna")], "unknown_speaker"),
    Case("a name of 10,000 characters", [packed(type="name_speaker", speaker=1, name="A" * 10_000)] * 3,
         "bad_message", 4400, start=m.Start(speakers=True)),
    Case("a speaker of 2^63", [packed(type="name_speaker", speaker=1 << 63, name="A")] * 3, "bad_message", 4400),
    Case("a name with controls", [m.NameSpeaker(1, "\x1b[2JAnna")], "bad_text", start=m.Start(speakers=True)),
    Case("instructions of 100 kB", [m.Instruct("x" * 100_000)] * 4, "query_limit"),
    Case("half a surrogate pair in instructions", ['{"type":"instruct","text":"\\udfff"}'] * 4,
         "bad_text", subprotocol=JSON),
    Case("a path for a token", [m.Start(resume="../../etc/passwd")], "no_session"),
    Case("another total", [m.End(1)], "bad_end"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_hostile_message_costs_no_other_session_anything(case: Case, undisturbed: Callable[..., Any]) -> None:
    async with undisturbed(case.engine()) as service, talking(service, case.start, case.subprotocol) as peer:
        for sent in case.frames:
            await peer.socket.send(sent if isinstance(sent, bytes | str) else peer.codec.encode(sent))
        if case.close:
            assert await peer.until_closed() == case.close
        else:
            await still_there(peer)
    errors = peer.of(m.Error)
    assert {error.code for error in errors} == ({case.code} if case.code else set())
    assert [error.fatal for error in errors] == [False] * (len(errors) - bool(case.close)) + [True] * bool(case.close)


@pytest.mark.parametrize(
    "fields",
    [{"rate": rate} for rate in (0, -1, 10**9, 2**63, "16000", 16_000.5, None)]
    + [{"channels": channels} for channels in (0, 3, "two")]
    + [{"format": name} for name in ("mp3", 16)]
    + [{"language": code} for code in ("xx", "<|es|>", "../..", 5, "e" * 1_000)]
    + [{"languages": ["en", "xx"]}, {"task": "translate"}, {"task": "sing"}]
    + [{"vocabulary": ["term"] * 10_000}, {"vocabulary": ["t" * 65]}, {"vocabulary": {}}],
    ids=lambda fields: str(fields)[:60],
)
async def test_a_format_that_there_is_not(fields: dict[str, object], undisturbed: Callable[..., Any]) -> None:
    async with undisturbed() as service, connected(service) as peer:
        await peer.socket.send(packed(type="start", **fields))
        assert await peer.until_closed() == 4422
    assert [(error.code, error.fatal) for error in peer.of(m.Error)] == [("bad_format", True)]


async def test_a_start_with_instructions_that_are_too_long_may_be_sent_again(undisturbed: Callable[..., Any]) -> None:
    async with undisturbed() as service, connected(service) as peer:
        await peer.tell(m.Start(instructions="x" * 100_000))
        error = await peer.until(m.Error)
        assert (error.code, error.fatal) == ("query_limit", False)
        await peer.tell(m.Start(instructions="Be brief."))
        await peer.until(m.Ready)


async def test_the_gap_in_offsets_names_what_is_expected(undisturbed: Callable[..., Any]) -> None:
    async with undisturbed() as service, talking(service) as peer:
        await peer.tell(m.Audio(0, SECOND), m.Audio(RATE + 1, SECOND), m.Audio(RATE, SECOND), m.End(2 * RATE))
        ended = await peer.until(m.Ended)
    assert [error.expected_offset for error in peer.of(m.Error)] == [RATE]
    assert ended.total == 2 * RATE


async def test_of_two_bytes_for_one_range_the_first_stay(tmp_path: Path, undisturbed: Callable[..., Any]) -> None:
    async with undisturbed(journal=tmp_path) as service, talking(service) as peer:
        await peer.tell(m.Audio(0, SECOND))
        await durable_up_to(peer, RATE)
        await peer.tell(m.Audio(0, bytes(2 * RATE)))
        assert await peer.until_closed() == 4409
    (ready,) = peer.of(m.Ready)
    assert audio_in(tmp_path, ready.session) == SECOND


async def test_controls_in_a_question_are_taken_out(undisturbed: Callable[..., Any]) -> None:
    async with undisturbed() as service, talking(service) as peer:
        await speak(peer)
        await peer.tell(m.Ask("q", "\0Wh\u202eat\u2069?"))
        assert (await peer.until(m.Answer)).text.startswith("What? <- ")


# ---- the wire --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "subprotocol", "close"),
    [
        pytest.param(frame(FIN | BINARY, b"", claimed=1 << 40), MSGPACK, 1009, id="a frame over the limit"),
        pytest.param(frame(BINARY, bytes(900_000)) + frame(FIN, bytes(900_000)), MSGPACK, 1009, id="in fragments"),
        pytest.param(frame(FIN | RSV1 | BINARY, b"\x4a\x04\0"), MSGPACK, 1002, id="deflated"),
        pytest.param(frame(FIN | RSV2 | BINARY, b""), MSGPACK, 1002, id="a reserved bit"),
        pytest.param(frame(FIN | 0x3, b""), MSGPACK, 1002, id="a reserved opcode"),
        pytest.param(frame(FIN | BINARY, b"", masked=False), MSGPACK, 1002, id="unmasked"),
        pytest.param(frame(FIN | TEXT, b"\xff\xfe"), JSON, 1007, id="bad UTF-8"),
    ],
)
async def test_a_hostile_frame_closes_its_own_connection_only(
    data: bytes, subprotocol: str, close: int, undisturbed: Callable[..., Any]
) -> None:
    async with undisturbed() as service:
        wire = await Wire.open(service, subprotocol)
        wire.writer.write(data)
        assert await wire.close_code() == close


async def test_a_peer_that_answers_no_pings_is_closed_and_its_session_kept(
    tmp_path: Path, undisturbed: Callable[..., Any]
) -> None:
    async with undisturbed(journal=tmp_path, ping_interval_s=0.5, ping_timeout_s=0.5) as service:
        wire = await Wire.open(service)
        wire.writer.write(frame(FIN | TEXT, b'{"type":"start"}'))
        ready = json.loads((await wire.next_frame())[1])
        assert await wire.close_code() == 1011
        async with talking(service, m.Start(resume=ready["resume"])) as peer:
            assert peer.of(m.Ready)[0].session == ready["session"]


@pytest.mark.parametrize("opening", [b"", b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n"])
async def test_a_handshake_that_never_ends_is_cut_off(opening: bytes, undisturbed: Callable[..., Any]) -> None:
    async with undisturbed(open_timeout_s=0.3) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(opening)
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
        writer.close()
        assert service.sessions <= 1  # the other one's


async def test_a_flood_of_open_handshakes_keeps_no_newcomer_out(undisturbed: Callable[..., Any]) -> None:
    async with undisturbed(SlowEngine(1.5), max_handshakes=4) as service, AsyncExitStack() as leaving:
        async with asyncio.timeout(PATIENCE_S):
            while service.sessions < 1:  # noqa: ASYNC110 - the other one comes by itself
                await asyncio.sleep(0.01)
        crowd = []
        for _ in range(50):
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            leaving.callback(writer.close)
            crowd.append(reader)
        async with asyncio.timeout(PATIENCE_S):
            assert {await reader.read() for reader in crowd[:46]} == {b""}  # cut off
        async with talking(service) as peer:
            await still_there(peer)
        assert not any(reader.at_eof() for reader in crowd[47:])


async def test_a_peer_that_says_nothing_is_closed_and_its_session_kept(
    tmp_path: Path, undisturbed: Callable[..., Any]
) -> None:
    async with undisturbed(journal=tmp_path, idle_timeout_s=0.5) as service:
        async with talking(service) as peer:
            assert await peer.until_closed() == 4408
        again = m.Start(resume=peer.of(m.Ready)[0].resume)
        async with talking(service, again) as peer:
            await still_there(peer)


async def test_of_two_that_write_one_session_the_newer_goes_on(tmp_path: Path, undisturbed: Callable[..., Any]) -> None:
    async with undisturbed(journal=tmp_path) as service, talking(service) as older, connected(service) as newer:
        await newer.tell(m.Start(resume=older.of(m.Ready)[0].resume))
        assert await older.until_closed() == 4409
        assert older.of(m.Error)[-1].code == "superseded"
        await still_there(newer)


# ---- floods ----------------------------------------------------------------------------------------------------------


async def test_audio_far_faster_than_it_is_heard_is_refused(undisturbed: Callable[..., Any]) -> None:
    speech = (SPEECH * 4)[: 20 * RATE]  # 10 s
    offset = 0
    async with undisturbed(SlowEngine(0.5), credit_s=70) as service, talking(service) as peer:
        async with asyncio.timeout(PATIENCE_S):  # the flood is read past, up to the client's own goodbye
            with pytest.raises(ConnectionClosed):
                while offset < 1_000 * RATE:
                    await peer.tell(m.Audio(offset, speech))
                    offset += 10 * RATE
            assert await peer.until_closed() == 4429
    errors = peer.of(m.Error)
    assert [(error.code, error.fatal) for error in errors] == [
        ("rate_limited", False), ("rate_limited", False), ("rate_limited", True),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [lambda i: m.Ask(i, "What?"), m.Flush], ids=["questions about nothing", "flushes"])
async def test_requests_without_end_are_refused_until_there_is_room(
    kind: Callable[[str], m.ClientMessage], tmp_path: Path, undisturbed: Callable[..., Any]
) -> None:
    async with undisturbed(journal=tmp_path, questions=QuestionsConfig(per_s=1)) as service, talking(service) as peer:
        await peer.tell(*[kind(f"r{number}") for number in range(1_000)], m.End(0))
        await peer.until(m.Ended)
    errors, done = peer.of(m.Error), [*peer.of(m.Answer), *peer.of(m.Flushed)]
    assert {(error.code, error.fatal, error.retryable) for error in errors} == {("query_limit", False, True)}
    assert all(error.ref and error.retry_after_ms for error in errors)
    assert len(errors) + len(done) == 1_000
    assert kept_events(tmp_path, peer.of(m.Ready)[0].session) <= len(done) < 500


async def test_a_slow_reader_is_told_and_closed(undisturbed: Callable[..., Any]) -> None:
    async with undisturbed(**bulky()) as service, talking(service, max_queue=1) as peer:
        await flood_with_answers(service, peer)
        assert await peer.until_closed() == 4408
    assert (peer.said[-1].code, peer.said[-1].fatal) == ("slow_consumer", True)  # type: ignore[union-attr]


async def test_an_hour_of_silence_gives_no_window_and_no_caption(undisturbed: Callable[..., Any]) -> None:
    block = bytes(20 * RATE)
    async with undisturbed() as service, talking(service) as peer:
        for number in range(360):
            await peer.tell(m.Audio(number * 10 * RATE, block))
            if number % 10 == 9:
                await still_there(peer)
        await peer.tell(m.End(3_600 * RATE))
        ended = await peer.until(m.Ended)
    assert (ended.skipped_s, ended.windows, ended.utterances) == (3_600, 0, 0)
    assert not peer.of(m.Caption) and not peer.of(m.Error)


async def test_an_answer_without_end_is_capped(undisturbed: Callable[..., Any]) -> None:
    async with undisturbed(questions=QuestionsConfig(max_tokens=7)) as service, talking(service) as peer:
        await speak(peer)
        await peer.tell(m.Ask("q", "and on " * 100, max_tokens=10**9))
        answer = await peer.until(m.Answer)
    assert (answer.tokens, answer.finish) == (7, "length")


async def test_control_tokens_in_a_question_are_words(undisturbed: Callable[..., Any]) -> None:
    async with undisturbed() as service, talking(service) as peer:
        await speak(peer)
        await peer.tell(m.Ask("q", "<sound> <|im_end|>"))
        assert (await peer.until(m.Answer)).text.startswith("<sound> <|im_end|> <- ")


# ---- at the door -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "knock", "status"),
    [
        pytest.param({"max_sessions": 2}, {}, 503, id="a full house"),
        pytest.param({"max_connections_per_address": 2}, {}, 429, id="an address that has enough"),
        pytest.param({"tokens": ("a",), "max_sessions_per_user": 2}, {"token": "a"}, 429, id="a user who has enough"),
        pytest.param({}, {"origin": "https://evil.example"}, 403, id="a foreign origin"),
        pytest.param({"tokens": ("a",)}, {}, 401, id="no token"),
        pytest.param({"tokens": ("a",)}, {"token": "b"}, 401, id="another token"),
    ],
)
async def test_a_client_that_is_not_admitted_gets_its_status(
    options: dict[str, Any], knock: dict[str, str], status: int, undisturbed: Callable[..., Any]
) -> None:
    def headers(token: str | None) -> dict[str, Any]:
        return {"additional_headers": {"Authorization": f"Bearer {token}"} if token else {}}

    lasting = SlowEngine(1.5)  # the other session does not leave meanwhile
    own = headers(options.get("tokens", [None])[0])
    async with undisturbed(lasting, **options) as service, connected(service, **own):
        async with asyncio.timeout(PATIENCE_S):
            while service.sessions < 2:  # noqa: ASYNC110 - the other one comes by itself
                await asyncio.sleep(0.01)
        for _ in range(5):
            knocking = {**headers(knock.get("token")), **{k: v for k, v in knock.items() if k == "origin"}}
            response = await refused(stream_url(service), **knocking)
            assert response.status_code == status
        assert ("Retry-After" in response.headers) == (status in (429, 503))


@pytest.mark.parametrize("whose", ["another's", "replayed", "expired", "an id for a token", "made up"])
async def test_a_token_that_resumes_nothing_is_refused(
    whose: str, tmp_path: Path, undisturbed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bearer(name: str) -> dict[str, Any]:
        return {"additional_headers": {"Authorization": f"Bearer {name}"}}

    real = time.time
    async with undisturbed(journal=tmp_path, tokens=("ann", "bob")) as service:
        if whose == "expired":
            monkeypatch.setattr(time, "time", lambda: real() - 1e9)
        async with talking(service, **bearer("ann")) as first:
            (ready,) = first.of(m.Ready)
        monkeypatch.setattr(time, "time", real)
        if whose == "replayed":
            async with talking(service, m.Start(resume=ready.resume), **bearer("ann")) as second:
                await still_there(second)  # which shows that it has the newer one
        token = {"an id for a token": ready.session, "made up": "sesame"}.get(whose, ready.resume)
        async with connected(service, **bearer("bob" if whose == "another's" else "ann")) as thief:
            await thief.tell(m.Start(resume=token))
            assert await thief.until_closed() == 4404
    assert [(error.code, error.message, error.fatal) for error in thief.of(m.Error)] == [
        ("no_session", "there is no such session", True)
    ]


async def test_who_is_silent_for_long_keeps_no_keys_and_values(tmp_path: Path, undisturbed: Callable[..., Any]) -> None:
    cold = ModelConfig(cool_after_s=0.05)
    async with undisturbed(journal=tmp_path, model=cold) as service, talking(service) as peer:
        await speak(peer)
        await peer.tell(m.Flush("f"), m.Ask("q", "What?"))
        before = (await peer.until(m.Answer)).text
        async with asyncio.timeout(PATIENCE_S):
            while service.backend.jobs.kv_bytes:  # noqa: ASYNC110 - the worker has no reason to tell
                await asyncio.sleep(0.02)
        await peer.tell(m.Ask("r", "What?"))
        assert (await peer.until(m.Answer)).text == before
    assert audio_in(tmp_path, peer.of(m.Ready)[0].session) == SPEECH
