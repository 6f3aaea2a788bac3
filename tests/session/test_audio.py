"""Audio as it arrives: offsets, gaps, credit, acknowledgements, flushes, the end, and the ledger of every second."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from af3stream.audio.pcm import AudioFormat
from af3stream.config import AudioConfig, ServerConfig
from af3stream.engine.captioning import Hypothesis
from af3stream.engine.jobs import CaptionJob
from af3stream.errors import (
    AudioConflict,
    BadAudio,
    BadEnd,
    BadFormat,
    BadOffset,
    NoSession,
    OffsetGap,
    QueryLimit,
    RateLimited,
    Refusal,
)
from af3stream.protocol import messages as m
from af3stream.session.audio_receiver import AudioReceiver
from af3stream.session.lifecycle import State
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation, kinds, pcm

SECOND = 16_000


def zeros(frames: int) -> bytes:
    return bytes(2 * frames)


def test_a_session_introduces_itself() -> None:
    (ready,) = Conversation(m.Start("pcm_f32le", 48_000, 2, mode="everything")).said
    assert isinstance(ready, m.Ready)
    assert (ready.format, ready.rate, ready.channels, ready.mode) == ("pcm_f32le", 48_000, 2, "everything")
    assert (ready.model, ready.captioner, ready.window_s, ready.horizon_windows) == ("scripted", "scripted", 30.0, 10)


@pytest.mark.parametrize("mode", ["speech", "everything"])
def test_the_mode_is_the_configured_one_unless_asked_otherwise(mode: m.Mode) -> None:
    (ready,) = Conversation(audio=AudioConfig(mode=mode)).said
    assert isinstance(ready, m.Ready) and ready.mode == mode


@pytest.mark.parametrize(
    "start", [m.Start(rate=0), m.Start(rate=-1), m.Start(rate=10**9), m.Start(channels=0), m.Start(channels=3)]
)
def test_a_format_that_is_not_taken(start: m.Start) -> None:
    with pytest.raises(BadFormat):
        Conversation(start)


@pytest.mark.parametrize(
    ("offset", "frames", "refusal"),
    [
        pytest.param(SECOND + 1, 100, OffsetGap, id="a gap of one"),
        pytest.param(SECOND - 1, 100, BadOffset, id="an overlap of one"),
        pytest.param(0, SECOND + 1, BadOffset, id="an overlap of all"),
        pytest.param(-1, 100, BadOffset, id="negative"),
        pytest.param(2**63, 100, BadOffset, id="beyond 2^53"),
        pytest.param(2**53, 100, RateLimited, id="as far as it goes"),
        pytest.param(SECOND, 0, BadAudio, id="empty"),
        pytest.param(SECOND, 11 * SECOND, BadAudio, id="too long for one message"),
    ],
)
def test_audio_that_is_not_the_next(offset: int, frames: int, refusal: type[Refusal]) -> None:
    talk = Conversation()
    talk.tell(m.Audio(0, zeros(SECOND)))
    with pytest.raises(refusal) as refused:
        talk.tell(m.Audio(offset, zeros(frames)))
    assert refused.value.expected_offset == SECOND
    talk.tell(m.Audio(SECOND, zeros(100)))  # nothing of it was kept


@pytest.mark.parametrize(
    ("start", "bad"),
    [
        pytest.param(m.Start(), b"\0\0\0", id="an odd byte"),
        pytest.param(m.Start(channels=2), b"\0\0", id="half a frame"),
        pytest.param(m.Start("pcm_f32le"), np.float32([0, np.nan]).tobytes(), id="not a number"),
        pytest.param(m.Start("pcm_f32le"), np.float32([np.inf, 0]).tobytes(), id="infinite"),
    ],
)
def test_audio_that_is_none(start: m.Start, bad: bytes) -> None:
    talk = Conversation(start)
    with pytest.raises(BadAudio):
        talk.tell(m.Audio(0, bad))
    talk.tell(m.Gap(0, 5))  # nothing of it was kept


@pytest.mark.parametrize(("offset", "frames"), [(0, SECOND), (0, 100), (SECOND - 100, 100), (100, 100)])
def test_a_repeated_range_is_taken_for_what_it_is(offset: int, frames: int) -> None:
    talk = Conversation()
    talk.tell(m.Audio(0, zeros(SECOND)))
    talk.pass_time(1)
    talk.tell(m.Audio(offset, zeros(frames)))
    talk.tell(m.End(SECOND))
    assert talk.of(m.Ended)[0].total == SECOND


@pytest.mark.parametrize(
    ("offset", "frames", "refusal"),
    [
        (SECOND, 0, BadAudio),
        (SECOND, -1, BadAudio),
        (SECOND, 121 * SECOND, RateLimited),
        (SECOND + 1, 1, OffsetGap),
        (SECOND - 1, 1, BadOffset),
        (-1, 1, BadOffset),
    ],
)
def test_a_gap_that_cannot_be(offset: int, frames: int, refusal: type[Refusal]) -> None:
    talk = Conversation()
    talk.tell(m.Audio(0, zeros(SECOND)))
    with pytest.raises(refusal):
        talk.tell(m.Gap(offset, frames))


def test_a_gap_is_silence_and_told_in_the_ledger() -> None:
    talk = Conversation()
    talk.hear(VOICE)
    talk.tell(m.Gap(talk.sent, 2 * SECOND))
    talk.sent += 2 * SECOND
    talk.hear(VOICE)
    talk.end()
    assert [(caption.start, caption.end) for caption in talk.finals] == [(0, 1.24), (2.76, 4.0)]
    assert talk.of(m.Ended)[0].lost_s == 2.0
    assert talk.of(m.Ended)[0].received_s == 4.0


# ---- credit and acknowledgements -------------------------------------------------------------------------------------


def test_nobody_runs_further_ahead_than_the_credit() -> None:
    talk = Conversation(server=ServerConfig(credit_s=70))
    talk.working = False
    talk.hear(SENTENCE, block=50)
    seconds = 2
    processed = talk.of(m.Ack)[-1].processed
    while (seconds + 1) * SECOND <= processed + 70 * SECOND:
        talk.hear(SILENCE, block=50)
        seconds += 1
    with pytest.raises(RateLimited) as refused:
        talk.hear(SILENCE, block=50)
    assert refused.value.expected_offset == talk.sent
    with pytest.raises(RateLimited):  # and not an offset gap: who goes on regardless is told the same thing again
        talk.tell(m.Audio(talk.sent + SECOND, zeros(SECOND)))
    talk.work()
    talk.hear(SILENCE, block=50)


@pytest.mark.parametrize("block", [1, 5, 50])
def test_acknowledgements_are_cumulative_and_at_most_five_a_second(block: int) -> None:
    talk = Conversation()
    acks: list[tuple[float, m.Ack]] = []
    scene = SENTENCE * 2 + SILENCE * 3
    for at in range(0, len(scene), block):
        told = talk.hear(scene[at : at + block], block)
        acks += [(talk.now, message) for message in told if isinstance(message, m.Ack)]
    assert len(acks) > 2
    assert all(late - early >= 0.2 - 1e-6 for (early, _), (late, _) in pairwise(acks))
    for (_, early), (_, late) in pairwise(acks):
        assert early.received <= late.received and early.processed <= late.processed and early != late
    assert all(ack.processed <= ack.received for _, ack in acks)


def test_what_is_left_to_acknowledge_has_a_deadline() -> None:
    talk = Conversation()
    assert talk.session.next_deadline is None
    talk.tell(m.Audio(0, zeros(800)))  # acknowledged at once
    assert talk.session.next_deadline is None
    talk.tell(m.Audio(800, zeros(800)))
    assert talk.session.next_deadline == pytest.approx(0.2)
    assert talk.pass_time(0.1) == []
    assert talk.pass_time(0.1) == [m.Ack(1_600, 0)]
    assert talk.session.next_deadline is None


def test_processed_waits_for_finals_and_for_windows() -> None:
    talk = Conversation()
    talk.hear(SILENCE)
    talk.working = False
    talk.hear(SENTENCE + SILENCE * 3)
    assert talk.of(m.Ack)[-1].processed < 2 * SECOND < talk.of(m.Ack)[-1].received
    talk.work()
    talk.pass_time(1)
    ack = talk.of(m.Ack)[-1]
    assert ack.received == talk.sent
    assert 0 < ack.received - ack.processed < 0.55 * SECOND  # where an utterance may still begin


# ---- ranges that are sent again ----


@pytest.mark.parametrize("block", [1, 7, 16_000])
def test_the_newest_ten_seconds_are_compared_with_however_they_came(block: int) -> None:
    intake = AudioReceiver(AudioFormat("mulaw", 8_000))
    heard = bytes(at * 7 % 251 for at in range(100_000))
    for at in range(0, len(heard), block):
        intake.audio(at, heard[at : at + block], 1 << 30)
    assert intake.audio(90_000, heard[90_000:99_000], 1 << 30) is None
    assert intake.audio(15_000, heard[15_000:25_000], 1 << 30) is None
    for at in (20_000, 50_000, 99_999):
        with pytest.raises(AudioConflict):
            intake.audio(at, bytes([heard[at] ^ 1]), 1 << 30)
    assert intake.audio(19_999, bytes([heard[19_999] ^ 1]), 1 << 30) is None  # too long ago to tell


def test_what_was_before_a_gap_is_taken_to_be_the_same() -> None:
    intake = AudioReceiver(AudioFormat("mulaw", 8_000))
    intake.audio(0, b"abc", 1 << 30)
    list(intake.gap(3, 4, 1 << 30))
    intake.audio(7, b"hij", 1 << 30)
    assert intake.audio(0, b"xyz", 1 << 30) is None
    with pytest.raises(AudioConflict):
        intake.audio(7, b"hik", 1 << 30)


# ---- flush -----------------------------------------------------------------------------------------------------------


def test_a_flush_is_acknowledged_after_the_finals_before_it() -> None:
    talk = Conversation()
    talk.hear(VOICE)
    told = talk.tell(m.Flush("f1"))
    assert kinds(told).index("caption") < kinds(told).index("flushed")
    assert talk.of(m.Flushed) == [m.Flushed("f1", SECOND)]
    assert talk.finals[-1].end == 1.0
    talk.hear(VOICE * 2 + SILENCE)
    assert talk.finals[-1].utterance == 1  # the session goes on


def test_a_flush_waits_for_a_busy_engine() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(SENTENCE)
    assert talk.tell(m.Flush("f1")) == []
    told = kinds(talk.work())
    assert told.index("caption") < told.index("flushed")
    assert talk.of(m.Flushed) == [m.Flushed("f1", 2 * SECOND)]


def test_a_flush_waits_for_nothing_that_came_after_it() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(SENTENCE)
    talk.tell(m.Flush("f"))
    talk.hear(SENTENCE)  # whose words the engine never finds time for
    first = next(job for job in talk.asked_of_engine(CaptionJob) if job.final)
    talk.session.complete(first, Hypothesis("one"), True, talk.now)
    talk.pass_time(0)
    assert [flushed.received for flushed in talk.of(m.Flushed)] == [talk.sent // 2]


def test_few_flushes_wait_at_once() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(SENTENCE)
    for number in range(64):
        talk.tell(m.Flush(f"f{number}"))
    with pytest.raises(QueryLimit):
        talk.tell(m.Flush("f64"))
    talk.work()
    assert [flushed.id for flushed in talk.of(m.Flushed)] == [f"f{number}" for number in range(64)]


def test_a_flush_of_nothing() -> None:
    assert Conversation().tell(m.Flush("f")) == [m.Flushed("f", 0)]


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_ended_comes_last_after_everything_asked_for() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(SENTENCE + VOICE)
    talk.tell(m.Ask("q", "What?"))
    talk.end()
    assert talk.session.state is State.ENDING and not talk.of(m.Ended)
    told = kinds(talk.work())
    assert told[-1] == "ended" and {"caption", "window", "answer"} < set(told)
    assert talk.session.state is State.ENDED
    assert talk.of(m.Ack)[-1] == m.Ack(talk.sent, talk.sent)
    assert talk.session.next_deadline is None


@pytest.mark.parametrize("total", [0, SECOND - 1, SECOND + 1, -1, 10**100])
def test_a_total_that_is_not_what_was_received(total: int) -> None:
    talk = Conversation()
    talk.hear(VOICE)
    with pytest.raises(BadEnd):
        talk.tell(m.End(total))
    talk.end()
    assert talk.session.state is State.ENDED


def test_no_audio_after_the_end() -> None:
    talk = Conversation()
    talk.working = False
    talk.hear(SENTENCE)
    talk.end()
    for message in (m.Audio(talk.sent, zeros(1)), m.Gap(talk.sent, 1), m.End(talk.sent + 1)):
        with pytest.raises(NoSession):
            talk.tell(message)


@pytest.mark.parametrize("message", [m.Ask("q", "What?"), m.Flush("f"), m.Watch("w", "What?"), m.End(1), m.Cancel("q")])
def test_nothing_at_all_after_ended(message: m.ClientMessage) -> None:
    talk = Conversation()
    talk.end()
    with pytest.raises(NoSession):
        talk.tell(message)
    assert talk.said[-1] == talk.of(m.Ended)[0]


def test_a_second_start_is_refused() -> None:
    with pytest.raises(NoSession, match="the session is open and does not take start"):
        Conversation().tell(m.Start())
    with pytest.raises(BadFormat, match="found pcm_s16le, 8000 Hz, 1 channel"):
        Conversation().tell(m.Start(rate=8_000))


def test_draining_ends_what_was_heard_and_takes_no_more() -> None:
    talk = Conversation()
    talk.hear(VOICE)
    talk.session.drain(talk.now)
    talk.pass_time(0)
    assert talk.finals[-1].end == 1.0
    assert talk.session.state is State.DRAINED and not talk.of(m.Ended)
    assert talk.tell(m.Audio(talk.sent, zeros(1))) == []  # not received: it is sent again when the session is resumed
    assert talk.session.greet()[0].received == talk.sent


def test_an_end_sent_again_is_no_other_end() -> None:
    talk = Conversation()
    talk.hear(SENTENCE)
    talk.end()
    assert talk.end() == []
    assert len(talk.of(m.Ended)) == 1


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("mode", ["speech", "everything"])
def test_every_second_received_is_heard_or_skipped(rate: int, mode: m.Mode) -> None:
    talk = Conversation(m.Start(rate=rate, mode=mode))
    samples = np.frombuffer(pcm(SILENCE * 2 + VOICE + SILENCE * 5 + "~" * 60 + VOICE), "<i2")
    loud = np.interp(np.arange(0, len(samples), 16_000 / rate), np.arange(len(samples)), samples).astype("<i2")
    for at in range(0, len(loud), rate // 3):
        talk.tell(m.Audio(at, loud[at : at + rate // 3].tobytes()))
    total = len(loud)
    talk.tell(m.Gap(total, 777))
    talk.tell(m.End(total + 777))
    (ended,) = talk.of(m.Ended)
    samples_at_16k = AudioFormat("pcm_s16le", rate).samples(total + 777)
    assert ended.total == total + 777
    assert ended.heard_s + ended.skipped_s == pytest.approx(samples_at_16k / 16_000, abs=0.001)
    assert ended.received_s == pytest.approx(samples_at_16k / 16_000, abs=0.001)
    assert ended.lost_s == round(777 / rate, 3)


def test_voice_ends_up_in_captions_and_windows() -> None:
    talk = Conversation()
    talk.hear(SILENCE + SENTENCE * 2 + SILENCE * 4)
    talk.end()
    (ended,) = talk.of(m.Ended)
    assert [(caption.start, caption.end) for caption in talk.finals] == [(0.76, 2.24), (2.76, 4.24)]
    assert [(window.start, window.end) for window in talk.of(m.Window)] == [(0.76, 4.24)]
    assert (ended.captioned_s, ended.heard_s, ended.skipped_s) == (2.96, 3.48, 5.52)
    assert (ended.windows, ended.utterances) == (1, 2)
    assert ended.utterances == len([job for job in talk.asked_of_engine(CaptionJob) if job.final])
