"""The client of WhisperLive, the streams, and the figures of `bench.peers`; the long test runs WhisperLive itself."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from bench import live, peers, tables, whisper_live
from bench.screens import Line, Screen
from bench.words import Word

RATE = 16_000


def segment(start: float, end: float, text: str, *, completed: bool = False) -> dict[str, Any]:
    """A segment as WhisperLive sends it."""
    return {"start": f"{start:.3f}", "end": f"{end:.3f}", "text": text, "completed": completed}


def test_a_completed_segment_that_is_sent_again_is_shown_once() -> None:
    transcript = whisper_live.Transcript()
    first = segment(0.0, 1.5, " He was", completed=True)
    assert transcript.screen(1.0, [segment(0.0, 1.0, " He")]) == Screen(1.0, (Line(" He", False),))
    transcript.screen(2.0, [first, segment(1.5, 2.0, " young")])
    shown = transcript.screen(3.0, [first, segment(1.5, 3.0, " young man", completed=True)])
    assert shown == Screen(3.0, (Line(" He was", True), Line(" young man", True)))


def test_segments_that_are_no_longer_sent_stay_in_the_transcript() -> None:
    transcript = whisper_live.Transcript()
    for number in range(12):
        sent = [segment(at, at + 1, f"w{at}", completed=True) for at in range(max(0, number - 9), number + 1)]
        shown = transcript.screen(float(number), sent)
    assert shown.words() == [f"w{number}" for number in range(12)]


async def test_the_client_streams_in_real_time_and_ends_when_nothing_changes() -> None:
    received: list[str | bytes] = []
    samples = np.linspace(-1, 1, RATE // 2, dtype=np.float32)

    async def peer(socket: ServerConnection) -> None:
        received.append(await socket.recv())
        await socket.send(json.dumps({"message": "SERVER_READY", "backend": "faster_whisper"}))
        async for frame in socket:
            received.append(frame)
            if len(received) == 3:
                await socket.send(json.dumps({"language": "en", "language_prob": 0.9}))
                await socket.send(json.dumps({"segments": [segment(0.0, 0.4, " He was", completed=True)]}))

    async with serve(peer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        began = time.monotonic()
        screens = await whisper_live.stream(f"127.0.0.1:{port}", samples, quiet_s=0.2)
        took = time.monotonic() - began
    assert [one.lines for one in screens] == [(Line(" He was", True),)]
    assert 0.2 <= screens[0].at < took
    assert took >= 0.5 + 0.2
    options, *audio, last = received
    assert json.loads(options)["use_vad"] is True
    assert b"".join(frame for frame in audio if isinstance(frame, bytes)) == samples.tobytes()
    assert last == b"END_OF_AUDIO"


async def test_a_refused_stream_is_an_error() -> None:
    async def full(socket: ServerConnection) -> None:
        await socket.send(json.dumps({"status": "WAIT", "message": 3.0}))
        await socket.wait_closed()

    async with serve(full, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RuntimeError, match="WAIT"):
            await whisper_live.stream(f"127.0.0.1:{port}", np.zeros(RATE, np.float32))


def test_conversations_are_whole_turns_in_their_order() -> None:
    first, second = peers.texts(2, 60)
    assert len(first.split()) >= 60
    assert first.startswith("Good evening everybody") and first.endswith(".")
    assert second.startswith("Good evening. Hello everybody.")
    assert peers.texts(1, 60) == [first]


def test_figures_count_words_of_all_streams_and_delays_of_recognised_ones() -> None:
    words = [Word("he", 0.5), Word("was", 1.0)]
    spoken = [peers.Conversation("He was.", np.zeros(RATE, np.float32), words)] * 2
    right = [Screen(1.5, (Line("he", False),)), Screen(2.0, (Line("He was", True),))]
    wrong = [Screen(3.0, (Line("He is", True),))]
    assert peers.figures([right, wrong], spoken) == {
        "word_error_rate": 1 / 4,
        "words_timed": 3 / 4,
        "word_delay_mean_s": pytest.approx((1.0 + 1.0 + 2.5) / 3),
        "word_delay_p95_s": pytest.approx(2.35),
        "finals": 2,
        "speech_end_to_final_mean_s": pytest.approx((1.0 + 2.5) / 2),
        "speech_end_to_final_p95_s": pytest.approx(2.425),
    }
    with pytest.raises(RuntimeError, match="no captions"):
        peers.figures([right, []], spoken)


def test_cpu_time_of_a_process_grows_while_it_computes() -> None:
    before, began = live.cpu_s(os.getpid()), time.process_time()
    while time.process_time() - began < 0.1:
        pass
    assert 0.05 <= live.cpu_s(os.getpid()) - before <= 5.0


async def test_a_server_that_ends_before_it_listens_is_an_error_with_its_log() -> None:
    with pytest.raises(RuntimeError, match="No module named 'whisper_lively'"):
        async with live.process([sys.executable, "-c", "import whisper_lively"], whisper_live.LISTENS):
            pass


@pytest.mark.long
def test_both_servers_caption_the_same_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """Installs WhisperLive from packages, and synthesises a natural voice."""
    peers.main(["--quick"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    one = figures["by_streams"]["1"]
    assert all(one[server]["word_error_rate"] < 0.5 for server in ("ours", "whisper_live"))
    assert one["computing_share"] > 0
    assert len(tables.lines("python -m bench.peers", figures)) == 4


def test_rows_put_whisper_live_beside_ours() -> None:
    one = {
        "computing_s_a_second": 0.25,
        "word_error_rate": 0.1,
        "word_delay_mean_s": 1.0,
        "word_delay_p95_s": 2.0,
        "speech_end_to_final_mean_s": 1.0,
        "speech_end_to_final_p95_s": 1.5,
    }
    other = one | {"speech_end_to_final_mean_s": None, "speech_end_to_final_p95_s": None, "computing_s_a_second": 1.0}
    by_streams = {"1": {"ours": one, "whisper_live": other, "computing_share": 0.25}}
    rows = tables.peers({"whisper_live_version": "0.10.0", "by_streams": by_streams})
    assert [row.ours for row in rows] == ["0.1", "0.25 s", "1 s, 2 s", "1 s, 1.5 s"]
    assert rows[1].alternative == "WhisperLive 0.10.0: 1 s"
    assert rows[3].alternative == "WhisperLive 0.10.0: none, none"
