"""The mixer makes one timeline of the participants' streams."""

from __future__ import annotations

import numpy as np
import pytest

from af3stream_clients.meeting_bot.attendee import Chunk, InvalidMessage, Missing, Mixer, Turn, read
from tests.clients.meeting_bot.environment import RATE, message, pcm, voice


def pulled(mixer: Mixer) -> tuple[np.ndarray, list[Turn], list[Missing]]:
    pieces = list(mixer.pull(all_of_it=True))
    sound = [p if isinstance(p, np.ndarray) else np.zeros(p.frames) for p in pieces if not isinstance(p, Turn)]
    turns, missing = [p for p in pieces if isinstance(p, Turn)], [p for p in pieces if isinstance(p, Missing)]
    return np.concatenate(sound), turns, missing


def chunk(who: str | None, samples: np.ndarray, at_ms: int, sequence: int | None = None) -> Chunk:
    return Chunk(who, pcm(samples), RATE, at_ms, sequence)


def test_participants_are_mixed_by_time_stamp() -> None:
    mixer, ada, ben = Mixer(), voice(1, 120), voice(1, 200)
    mixer.push(chunk("ada", ada, 5_000))
    mixer.push(chunk("ben", ben, 7_500))
    mixer.push(chunk("ada", ada, 8_000))
    sound, turns, missing = pulled(mixer)
    expected = np.zeros(4 * RATE, np.float32)
    expected[:RATE] += ada
    expected[int(2.5 * RATE) : int(3.5 * RATE)] += ben
    expected[3 * RATE :] += ada
    assert np.abs(sound - expected.clip(-1, 1)).max() < 2e-4
    assert turns == [Turn("ada", 0, RATE), Turn("ben", 40_000, 56_000), Turn("ada", 48_000, 64_000)]
    assert missing == []


def test_participant_streams_give_only_turns_beside_mixed_audio() -> None:
    mixer, ada = Mixer(), voice(1, 120)
    mixer.push(chunk(None, ada, 0))
    mixer.push(chunk("ada", ada, 0))
    sound, turns, _ = pulled(mixer)
    assert np.abs(sound - ada).max() < 2e-4
    assert turns == [Turn("ada", 0, RATE)]


def test_reconnection_or_skipped_sequence_gives_a_gap() -> None:
    mixer, ada = Mixer(), voice(1, 120)
    mixer.push(chunk(None, ada, 0, 1))
    mixer.push(chunk(None, ada, 3_000, 4))
    mixer.reconnected()
    mixer.push(chunk(None, ada, 9_000, 5))
    sound, _, missing = pulled(mixer)
    assert missing == [Missing(2 * RATE), Missing(5 * RATE)]
    assert len(sound) == 10 * RATE


def test_restarted_mixer_continues_at_the_end_of_the_recording() -> None:
    mixer = Mixer(given=4 * RATE, origin_ms=1_000)
    mixer.push(chunk("ada", voice(1, 120), 7_000))
    sound, turns, missing = pulled(mixer)
    assert missing == [Missing(2 * RATE)]
    assert turns == [Turn("ada", 6 * RATE, 7 * RATE)]
    assert len(sound) == 3 * RATE


def test_late_audio_is_kept_and_an_invalid_time_stamp_ignored() -> None:
    mixer, ada = Mixer(), voice(1, 120)
    mixer.push(chunk("ada", ada, 0))
    mixer.quiet(10 * RATE)
    early = list(mixer.pull())
    assert mixer.given == int(10.5 * RATE)
    mixer.push(chunk("ben", ada, 2_000))  # arrived after its position was output
    mixer.push(chunk("ben", ada, 10**12))
    sound, turns, _ = pulled(mixer)
    assert [turn.participant for turn in turns] == ["ben", "ben"]
    assert turns[0].begin == int(10.5 * RATE)
    assert len(early) > 10 and len(sound) == 2 * RATE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"trigger": 7}',
        message(b"\0\0", 0).replace("16000", "7"),
        message(b"\0\0", 0).replace('"AAA="', '"?"'),
        message(b"\0\0", 0, who=""),
        b"\xff",
    ],
)
def test_malformed_message_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidMessage):
        read(text)


def test_unknown_trigger_has_no_content() -> None:
    assert read('{"bot_id": "b", "trigger": "realtime_video.per_participant", "data": {"frame": "x"}}') == ("b", [])
