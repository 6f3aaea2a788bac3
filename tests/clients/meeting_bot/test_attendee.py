"""One timeline out of many participants' streams."""

from __future__ import annotations

import numpy as np
import pytest

from clients.meeting_bot.attendee import Chunk, InvalidMessage, Missing, Mixer, Turn, read
from tests.clients.meeting_bot.world import RATE, message, pcm, voice


def pulled(mixer: Mixer) -> tuple[np.ndarray, list[Turn], list[Missing]]:
    pieces = list(mixer.pull(all_of_it=True))
    sound = [p if isinstance(p, np.ndarray) else np.zeros(p.frames) for p in pieces if not isinstance(p, Turn)]
    turns, missing = [p for p in pieces if isinstance(p, Turn)], [p for p in pieces if isinstance(p, Missing)]
    return np.concatenate(sound), turns, missing


def chunk(who: str | None, samples: np.ndarray, at_ms: int, sequence: int | None = None) -> Chunk:
    return Chunk(who, pcm(samples), RATE, at_ms, sequence)


def test_participants_are_mixed_where_their_time_stamps_say() -> None:
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


def test_with_mixed_sound_participants_only_tell_who_speaks() -> None:
    mixer, ada = Mixer(), voice(1, 120)
    mixer.push(chunk(None, ada, 0))
    mixer.push(chunk("ada", ada, 0))
    sound, turns, _ = pulled(mixer)
    assert np.abs(sound - ada).max() < 2e-4
    assert turns == [Turn("ada", 0, RATE)]


def test_what_a_reconnection_or_a_skipped_sequence_leaves_open_is_missing() -> None:
    mixer, ada = Mixer(), voice(1, 120)
    mixer.push(chunk(None, ada, 0, 1))
    mixer.push(chunk(None, ada, 3_000, 4))
    mixer.reconnected()
    mixer.push(chunk(None, ada, 9_000, 5))
    sound, _, missing = pulled(mixer)
    assert missing == [Missing(2 * RATE), Missing(5 * RATE)]
    assert len(sound) == 10 * RATE


def test_a_mixer_that_begins_again_goes_on_where_the_recording_ends() -> None:
    mixer = Mixer(given=4 * RATE, origin_ms=1_000)
    mixer.push(chunk("ada", voice(1, 120), 7_000))
    sound, turns, missing = pulled(mixer)
    assert missing == [Missing(2 * RATE)]
    assert turns == [Turn("ada", 6 * RATE, 7 * RATE)]
    assert len(sound) == 3 * RATE


def test_late_sound_is_kept_and_a_strange_time_stamp_is_not_believed() -> None:
    mixer, ada = Mixer(), voice(1, 120)
    mixer.push(chunk("ada", ada, 0))
    mixer.quiet(10 * RATE)
    early = list(mixer.pull())
    assert mixer.given == int(10.5 * RATE)
    mixer.push(chunk("ben", ada, 2_000))  # came after its time was given out
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
def test_what_is_no_message_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidMessage):
        read(text)


def test_a_trigger_of_no_use_says_nothing() -> None:
    assert read('{"bot_id": "b", "trigger": "realtime_video.per_participant", "data": {"frame": "x"}}') == ("b", [])
