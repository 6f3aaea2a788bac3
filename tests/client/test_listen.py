"""The ``listen`` command's work: sources, pace, questions at their time, what is printed, and how it leaves."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import soundfile
from rich.console import Console

from af3stream.client import transport as line_module
from af3stream.errors import SourceError
from af3stream.listen import ListenOptions, listen, parse_speakers
from af3stream.listen import run as run_module
from af3stream.listen import sources as sources_module
from af3stream.listen.microphone import Lost, OverflowDeclaredLost
from af3stream.listen.options import Question, question
from af3stream.listen.screen import LiveScreen
from af3stream.protocol.features import FEATURES
from af3stream.protocol.messages import (
    Ack,
    AnswerDelta,
    Ask,
    Audio,
    Caption,
    CaptionUpdate,
    End,
    Error,
    Flush,
    Flushed,
    Gap,
    Sound,
    SpeakerNamed,
    Speech,
    Start,
    Watch,
    WatchHit,
)
from tests.client.lasting import Lasting, lasting
from tests.client.scripted_server import Peer, answer, converse, ended, final, interim, polite, serving


@pytest.fixture(autouse=True)
async def patience():
    async with asyncio.timeout(60):
        yield


@pytest.fixture
def recording(tmp_path: Path) -> str:
    """Two seconds at 8 kHz, stereo."""
    path = tmp_path / "two-seconds.wav"
    soundfile.write(path, np.zeros((16_000, 2), np.float32), 8_000, subtype="PCM_16")
    return str(path)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch):
    """Standard input is a pipe; this is its other end."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as end:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield end


def fast(source: str, server: str, **changes: object) -> ListenOptions:
    return ListenOptions(source, server, "fast", **changes)  # type: ignore[arg-type]


async def test_json_is_every_message_on_a_line(recording: str, capsys: pytest.CaptureFixture[str]):
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.send(interim("Call me"))
        await converse(peer)

    async with serving(script) as server:
        assert await listen(fast(recording, server.url, json=True, asks=("What was said?",))) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [message["type"] for message in printed]
    assert kinds[:2] == ["ready", "caption"]
    assert kinds[2:] == ["ack"] * 20 + ["flushed"] + ["answer_delta"] * 3 + ["answer", "caption", "ended"]
    assert [message["final"] for message in printed if message["type"] == "caption"] == [False, True]


async def test_a_file_is_sent_whole_in_its_own_format(recording: str):
    async with serving(polite) as server:
        assert await listen(fast(recording, server.url, rate=44_100)) == 0
    assert server.heard[0] == Start("pcm_s16le", 8_000, 2, features=FEATURES)
    audio = [message for message in server.heard if isinstance(message, Audio)]
    assert [message.offset for message in audio] == list(range(0, 16_000, 800))
    assert server.heard[-1] == End(16_000)


async def test_standard_input_is_raw_pcm_in_whole_sample_frames(pipe):
    async with serving(polite) as server:
        listening = asyncio.create_task(listen(fast("-", server.url, format="pcm_f32le", rate=8_000)))
        for part in (b"abc", b"defgh", b"ijkl"):
            pipe.write(part)
            await asyncio.sleep(0.05)
        pipe.close()
        assert await listening == 0
    assert server.heard[0] == Start("pcm_f32le", 8_000, 1, features=FEATURES)
    assert b"".join(message.pcm for message in server.heard if isinstance(message, Audio)) == b"abcdefghijkl"
    assert server.heard[-1] == End(3)


async def test_standard_input_without_any_audio_is_an_error(pipe):
    """As at the end of a pipe whose first command failed."""
    pipe.close()
    async with serving(polite) as server:
        with pytest.raises(SourceError, match="no audio came on standard input"):
            await listen(fast("-", server.url))


async def test_standard_input_that_ends_within_a_sample_is_an_error_after_the_last_caption(
    pipe, capsys: pytest.CaptureFixture[str]
):
    """As when the command before was killed while it wrote."""
    pipe.write(bytes(3_201))
    pipe.close()
    async with serving(polite) as server:
        with pytest.raises(SourceError, match="ended within a sample: 1 of its 2 bytes came"):
            await listen(fast("-", server.url))
    assert server.heard[-1] == End(1_600)
    assert "Call me" in capsys.readouterr().out


async def test_realtime_sends_a_block_when_its_last_sample_was_heard_and_does_not_drift(recording: str):
    """Streams a second at the pace of speech, because the pace is what it checks."""
    arrivals: list[float] = []

    async def stalling(peer: Peer) -> None:
        await peer.open(credit_s=0.3)
        began = time.monotonic()
        while isinstance(audio := await peer.receive(), Audio):
            arrivals.append(time.monotonic() - began)
            if len(arrivals) == 5:
                await asyncio.sleep(0.6)  # the sender waits for credit meanwhile, and catches up
            await peer.send(Ack(audio.offset + 800, audio.offset + 800))
        await peer.send(ended(16_000))

    async with serving(stalling) as server:
        assert await listen(ListenOptions(recording, server.url)) == 0
    early = [0.1 * index - at for index, at in enumerate(arrivals, start=1)]
    assert len(early) == 20
    assert max(early) < 0.02
    assert early[-1] > -0.3


async def test_questions_are_asked_at_their_time_and_watches_from_the_start(recording: str):
    asks = ("At last?", "@1.5 Later?", "@0.25 Soon?", "@99 Too late?")
    async with serving(polite) as server:
        assert await listen(fast(recording, server.url, asks=asks, watches=("Is it loud?",))) == 0
    heard = server.heard
    assert heard[1] == Watch("w1", "Is it loud?")
    asked = [(place, message.text) for place, message in enumerate(heard) if isinstance(message, Ask)]
    before = {text: sum(isinstance(earlier, Audio) for earlier in heard[:place]) for place, text in asked}
    assert before == {"Soon?": 3, "Later?": 15, "Too late?": 20, "At last?": 20}
    assert isinstance(heard[-4], Flush)


async def test_no_more_questions_wait_than_the_server_takes(recording: str):
    async def strict(peer: Peer) -> None:
        await peer.open(max_questions=1)
        while not isinstance(flush := await peer.receive(), Flush):
            pass
        await peer.send(Flushed(flush.id, 0))
        for _ in range(3):
            asked = await peer.receive()
            assert isinstance(asked, Ask)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(peer.socket.recv(), 0.05)
            await peer.send(answer(asked.id, "Yes."))
        await converse(peer)

    async with serving(strict) as server:
        assert await listen(fast(recording, server.url, asks=("a?", "b?", "c?"))) == 0


async def test_a_pipe_gets_finished_lines_only(recording: str, capsys: pytest.CaptureFixture[str]):
    async def script(peer: Peer) -> None:
        await peer.open()
        assert isinstance(await peer.receive(), Watch)
        await peer.send(interim("Call"), final("Call\x1b[2J me\u202e.", 61.24, 62), WatchHit("w1", "Yes.", 0, 30))
        await peer.send(Error("query_limit", "four wait", fatal=False, retryable=True))
        await converse(peer)

    async with serving(script) as server:
        assert await listen(fast(recording, server.url, asks=("Who?",), watches=("Is it he?",))) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "0:01:01.2  Call [2J me.",
        "! Is it he?",
        " -> Yes. (0:00:00.0 to 0:00:30.0)",
        "? Who?",
        " -> Who? (0:00:00.0 to 0:00:02.0)",
        "0:00:00.5  Call me Ishmael.",
    ]
    assert printed.err == "refused: four wait (query_limit)\n"


async def test_who_speaks_stands_before_the_words(recording: str, capsys: pytest.CaptureFixture[str]):
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.send(msgspec.structs.replace(final("Good morning.", 0.0, 1.0, 3), speaker=2))
        await converse(peer)

    async with serving(script) as server:
        assert await listen(fast(recording, server.url, speakers=4)) == 0
    start = server.heard[0]
    assert isinstance(start, Start) and start.speakers == 4
    assert "0:00:00.0  Speaker 2: Good morning.\n0:00:00.5  Call me Ishmael." in capsys.readouterr().out


@pytest.mark.parametrize(("spelled", "parsed"), [("any", True), ("3", 3)])
def test_speakers_are_any_or_so_many(spelled: str, parsed: bool | int):
    assert parse_speakers(spelled) is parsed


@pytest.mark.parametrize("spelled", ["0", "many", "-1", ""])
def test_other_spellings_of_speakers_are_refused(spelled: str):
    with pytest.raises(argparse.ArgumentTypeError, match="neither 'any' nor"):
        parse_speakers(spelled)


async def test_captions_go_to_a_file(recording: str, tmp_path: Path):
    path = tmp_path / "captions.vtt"
    async with serving(polite) as server:
        assert await listen(fast(recording, server.url, captions=path)) == 0
    assert path.read_text() == "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\nCall me Ishmael.\n\n"


async def test_a_captions_file_ends_with_corrections_and_names_even_if_the_session_breaks_off(
    recording: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.send(msgspec.structs.replace(final("Call me Ismael.", 0.5, 1.5), speaker=1))
        await peer.send(CaptionUpdate(0, "Call me Ishmael.", 0.5, 1.5), SpeakerNamed(1, "Herman"))
        await peer.send(Error("overloaded", "no more", fatal=True, retryable=False))

    path = tmp_path / "captions.vtt"
    async with serving(script) as server:
        assert await listen(fast(recording, server.url, captions=path)) == 1
    assert path.read_text() == "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\n<v Herman>Call me Ishmael.\n\n"


async def test_ctrl_c_ends_the_session_and_waits_for_the_tail(pipe, capsys: pytest.CaptureFixture[str]):
    async with serving(polite) as server:
        listening = asyncio.create_task(listen(fast("-", server.url, asks=("What now?",))))
        pipe.write(bytes(3_200))
        await server.has_heard(2)
        os.kill(os.getpid(), signal.SIGINT)
        assert await listening == 0
    assert server.heard[-1] == End(1_600)
    assert "-> What now?" in capsys.readouterr().out


async def test_after_ctrl_c_the_tail_is_waited_for_no_longer_than_its_limit(
    pipe, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(run_module, "TAIL_S", 0.1)

    async def silent(peer: Peer) -> None:
        await peer.open()
        while True:
            await peer.receive()

    async with serving(silent) as server:
        listening = asyncio.create_task(listen(fast("-", server.url)))
        pipe.write(bytes(3_200))
        await server.has_heard(2)
        os.kill(os.getpid(), signal.SIGINT)
        assert await listening == 0
    assert "left before the last captions came" in capsys.readouterr().err


async def test_a_second_ctrl_c_leaves_at_once(pipe):
    async def silent(peer: Peer) -> None:
        await peer.open()
        while True:
            await peer.receive()

    async with serving(silent) as server:
        listening = asyncio.create_task(listen(fast("-", server.url)))
        pipe.write(bytes(3_200))
        await server.has_heard(2)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        assert await listening == 130


async def test_a_server_that_goes_away_is_one_sentence_and_code_1(recording: str, capsys: pytest.CaptureFixture[str]):
    async def leaving(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(final("So far.", 0, 1))
        await peer.socket.close(1012, "restarting")

    async with serving(leaving) as server:
        assert await listen(fast(recording, server.url)) == 1
    printed = capsys.readouterr()
    assert "So far." in printed.out
    assert printed.err == "the server closed the connection with code 1012: restarting\n"


@pytest.mark.parametrize("json_lines", [False, True])
async def test_a_restarted_server_is_found_again_and_nothing_is_missing(
    json_lines: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(line_module, "random", lambda: 0.005)
    path, samples = tmp_path / "steps.wav", np.arange(20_000, dtype=np.int16)
    soundfile.write(path, samples, 16_000)
    model, cuts = Lasting(credit=16_000), iter([False] * 7 + [True])
    async with serving(lasting(model, lambda: next(cuts, False), crashes=True)) as server:
        assert await listen(fast(str(path), server.url, asks=("What now?",), json=json_lines)) == 0
    printed = capsys.readouterr()
    assert printed.err == "reconnecting ...\nreconnected\n"
    assert printed.out.count('"type":"answer"' if json_lines else "-> What now?") == 1
    assert printed.out.count('"type":"ready"') == json_lines
    assert model.pcm == samples.tobytes()


async def test_a_fatal_refusal_is_printed_and_code_1(recording: str, capsys: pytest.CaptureFixture[str]):
    async def strict(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(Error("rate_limited", "too fast", fatal=True, retryable=True))
        await peer.socket.close(4429)

    async with serving(strict) as server:
        assert await listen(fast(recording, server.url, json=True)) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["code"] == "rate_limited"
    assert printed.err == "the server refused: too fast (rate_limited)\n"


async def test_a_reader_of_the_output_who_leaves_ends_the_run(recording: str, monkeypatch: pytest.MonkeyPatch):
    reading, writing = os.pipe()
    os.close(reading)
    async with serving(polite) as server:
        with os.fdopen(writing, "w") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            assert await listen(fast(recording, server.url, json=True)) == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": "absent.wav"}, "absent.wav: No such file"),
        ({"server": "nowhere"}, "is not an address"),
        ({"asks": ("@soon what?",)}, "a timed question reads '@12.5 text'"),
        ({"asks": ("  ",)}, "no text"),
        ({"captions": Path("x.txt")}, r"written as \.vtt"),
        ({"source": "-", "rate": 5}, "rate is 5"),
        ({"source": "mic", "format": "mulaw"}, "a microphone gives pcm_s16le or pcm_f32le, not mulaw"),
    ],
)
async def test_what_cannot_begin_is_one_sentence(recording: str, changes: dict[str, object], sentence: str):
    async with serving(polite) as server:
        options = {"source": recording, "server": server.url} | changes
        with pytest.raises(SourceError, match=sentence):
            await listen(ListenOptions(**options))  # type: ignore[arg-type]


async def test_a_refused_session_is_one_sentence(recording: str):
    async def strict(peer: Peer) -> None:
        await peer.receive()
        await peer.send(Error("bad_format", "rate is 8000", fatal=True, retryable=False))

    async with serving(strict) as server:
        with pytest.raises(SourceError, match=r"rate is 8000 \(bad_format\)"):
            await listen(fast(recording, server.url))


async def test_a_source_that_fails_is_reported_after_what_was_heard(monkeypatch: pytest.MonkeyPatch, capsys):
    folder = os.open("/", os.O_RDONLY)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: folder))
    async with serving(polite) as server:
        with pytest.raises(SourceError, match="cannot read standard input: Is a directory"):
            await listen(fast("-", server.url))
    os.close(folder)
    assert "Call me Ishmael." in capsys.readouterr().out


async def test_a_terminal_is_no_audio(monkeypatch: pytest.MonkeyPatch):
    controller, terminal = os.openpty()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: terminal))
    async with serving(polite) as server:
        with pytest.raises(SourceError, match="standard input is a terminal"):
            await listen(fast("-", server.url))
    os.close(controller)
    os.close(terminal)


async def test_the_token_comes_from_the_options_or_the_environment(recording: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AF3STREAM_TOKEN", "from-env")
    async with serving(polite) as server:
        await listen(fast(recording, server.url))
        await listen(fast(recording, server.url, token="from-options"))
    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer from-env", "Bearer from-options"]


def test_how_a_question_is_spelled():
    assert question("What?") == Question("What?", None)
    assert question("@12.5 What\nnow?") == Question("What\nnow?", 12.5)
    assert question("> And who fixes it?") == Question("And who fixes it?", None, follows_up=True)
    assert question("@12.5 >And then?") == Question("And then?", 12.5, follows_up=True)


NOW = SimpleNamespace(inputBufferAdcTime=0.0)  # PortAudio's time of a block
NO_TROUBLE = SimpleNamespace(input_overflow=False)


class FakeMicrophone:
    """Stands for ``sounddevice``: two blocks as soon as it is started."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def RawInputStream(self, **options: object) -> FakeMicrophone:  # noqa: N802 - sounddevice's name
        self.options = options
        return self

    def start(self) -> None:
        for _ in range(2):
            self.options["callback"](bytes(3_200), 1_600, NOW, NO_TROUBLE)  # type: ignore[operator]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.closed = True


async def test_the_microphone_is_heard_until_ctrl_c(monkeypatch: pytest.MonkeyPatch):
    microphone = FakeMicrophone()
    monkeypatch.setitem(sys.modules, "sounddevice", microphone)
    async with serving(polite) as server:
        listening = asyncio.create_task(listen(ListenOptions("mic", server.url)))
        await server.has_heard(3)
        os.kill(os.getpid(), signal.SIGINT)
        assert await listening == 0
    assert server.heard[1:] == [Audio(0, bytes(3_200)), Audio(1_600, bytes(3_200)), End(3_200)]
    assert (microphone.options["samplerate"], microphone.options["dtype"], microphone.closed) == (16_000, "int16", True)


async def test_what_a_microphone_needs_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SourceError, match=r"pip install 'af3stream\[mic\]'"):
        await listen(ListenOptions("mic"))

    def absent(**options: object) -> None:
        raise FakeMicrophone.PortAudioError("no default input device")

    broken = SimpleNamespace(RawInputStream=absent, PortAudioError=FakeMicrophone.PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", broken)
    with pytest.raises(SourceError, match="no microphone can be opened: no default input device"):
        await listen(ListenOptions("mic"))


async def test_capture_that_finds_no_room_is_lost_in_its_place():
    captured = OverflowDeclaredLost(capacity=2, frame_bytes=2)
    for block in (b"aa", b"bb", b"cc", b"dddd"):
        captured.put(block)
    assert [await captured.take(), await captured.take()] == [b"aa", b"bb"]
    captured.put(b"ee")
    assert [await captured.take(), await captured.take()] == [Lost(3), b"ee"]


async def test_lost_capture_is_declared_as_a_gap(monkeypatch: pytest.MonkeyPatch):
    class Stalled(FakeMicrophone):
        def start(self) -> None:
            for _ in range(103):
                self.options["callback"](bytes(3_200), 1_600, NOW, NO_TROUBLE)  # type: ignore[operator]

    monkeypatch.setitem(sys.modules, "sounddevice", Stalled())
    async with serving(polite) as server:
        listening = asyncio.create_task(listen(ListenOptions("mic", server.url)))
        await server.has_heard(102)
        os.kill(os.getpid(), signal.SIGINT)
        assert await listening == 0
    assert Gap(160_000, 4_800) in server.heard


async def test_the_microphone_is_heard_while_the_server_is_away(monkeypatch: pytest.MonkeyPatch):
    """What is heard beyond the credit and the capture's own queue is a gap, and all else arrives."""
    monkeypatch.setattr(line_module, "random", lambda: 0.005)
    monkeypatch.setattr(sources_module, "CAPTURE_BLOCKS", 5)
    microphone = FakeMicrophone()
    monkeypatch.setitem(sys.modules, "sounddevice", microphone)
    model = Lasting(credit=4 * 1_600)
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        server = await first.enter_async_context(serving(lasting(model)))
        listening = asyncio.create_task(listen(ListenOptions("mic", server.url)))
        await server.has_heard(3)
        await first.aclose()
        for number in range(20):
            microphone.options["callback"](bytes([number]) * 3_200, 1_600, NOW, NO_TROUBLE)  # type: ignore[operator]
            await asyncio.sleep(0.001)
        back = await second.enter_async_context(serving(lasting(model), port=server.port))
        async with back.progress:
            await back.progress.wait_for(lambda: model.received == 22 * 1_600)
        os.kill(os.getpid(), signal.SIGINT)
        assert await listening == 0
    lost = model.lost[::1_600]
    assert sum(lost) == 20 - 4 - 5 - 1  # one block is in the hands of the sender, which waits for credit
    kept = [number for number, gone in zip(range(-2, 20), lost, strict=True) if not gone and number >= 0]
    assert [model.pcm[(number + 2) * 3_200] for number in kept] == kept


def test_a_terminal_shows_the_open_caption_and_keeps_finished_lines():
    out = io.StringIO()
    screen = LiveScreen(Console(file=out, force_terminal=True, width=80, highlight=False, color_system="standard"))
    screen.asked("q1", "[bold]Who?")
    screen.show(Speech("started", 0.5))
    assert "0:00:00.5  …" in out.getvalue()
    screen.show(Caption(0, "Call me Fish", 0.5, 1.0, final=False, stable="Call me"))
    assert "Call me\x1b[2m Fish" in out.getvalue()
    screen.show(final("Call me Ishmael.", 0.5, 1.5))
    screen.show(Sound("[music]", 1.5, 4.5))
    assert "0:00:01.5  [music]" in out.getvalue()
    screen.show(AnswerDelta("q1", "A sai"))
    assert "-> A sai" in out.getvalue()
    screen.show(answer("q1", "A sailor."))
    screen.show(AnswerDelta("q2", "Half"))
    screen.show(Error("engine_failed", "no", fatal=False, retryable=True, ref="q2"))
    shown = len(out.getvalue())
    screen.show(Ack(1, 1))
    assert len(out.getvalue()) == shown  # nothing to draw
    screen.state("reconnecting")
    screen.state("open")
    screen.state("over")
    screen.show(ended(32_000))
    screen.close()
    assert "\x1b[2mreconnecting ...\x1b" in out.getvalue()
    assert "\x1b[2mreconnected\x1b" in out.getvalue()
    assert "2.0 s received, 2.0 s heard" in out.getvalue()
    assert "[bold]Who?" in out.getvalue()
    assert "A sailor. (0:00:00.0 to 0:00:02.0)" in out.getvalue()
