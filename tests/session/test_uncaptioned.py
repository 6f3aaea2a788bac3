"""Frames for uncaptioned sound alone: a window whose speech captions carry is neither encoded nor read as audio."""

from __future__ import annotations

import pytest

from af3stream.config import AudioConfig
from af3stream.engine.captioning import CaptionRequest, Hypothesis
from af3stream.engine.contract import AudioSegment, Text
from af3stream.engine.jobs import EncodeJob, ExtendJob
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedEngine
from af3stream.protocol import messages as m
from af3stream.session.prompt_body import uncaptioned
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation

EAGER = AudioConfig(window_min_s=1.0)  # every pause closes a window


class Deaf(ScriptedEngine):
    """Hears words in short utterances alone: what is longer is music to it."""

    def __init__(self) -> None:
        super().__init__()
        captioner, most = self.captioner, 32_000

        class Captioner(ScriptedCaptioner):
            def hear(self, request: CaptionRequest) -> Hypothesis:
                if len(request.samples) > most:
                    return Hypothesis("")
                return captioner.hear(request)

        self.captioner = Captioner(self.counters)


def talking(*, interims: bool = False) -> Conversation:
    return Conversation(m.Start(interims=interims), engine=Deaf(), notes="all", frames="uncaptioned", audio=EAGER)


def test_windows_of_speech_stand_as_their_captions_and_are_not_encoded() -> None:
    talk = talking()
    talk.hear(SENTENCE * 3)
    assert talk.asked_of_engine(EncodeJob) == [] and talk.engine.counters.sounds_encoded == 0
    assert [type(part) for part in talk.asked_of_engine(ExtendJob)[-1].parts] == [Text] * 3
    answer = talk.ask()
    assert answer.text == "What? <- [0:00] word1 word2. | [0:01] word1 word2. | [0:03] word1 word2."
    assert (answer.windows, answer.heard_until, answer.captioned_until) == (3, None, 5.24)


def test_a_window_without_words_is_heard() -> None:
    talk = talking()
    talk.hear(SENTENCE + VOICE * 4 + SILENCE + SENTENCE)
    assert [job.window for job in talk.asked_of_engine(EncodeJob)] == [1]
    assert [type(part) for part in talk.asked_of_engine(ExtendJob)[-1].parts] == [Text, AudioSegment, Text]
    assert talk.ask().text == "What? <- [0:00] word1 word2. | 4.48s | [0:06] word1 word2."


def test_a_window_is_told_once_it_can_be_read_with_the_positions_it_takes() -> None:
    talk = talking()
    talk.hear(SENTENCE + VOICE * 4 + SILENCE * 2)
    assert talk.of(m.Window) == [m.Window(0, 0.0, 1.24, 3), m.Window(1, 1.76, 6.24, 112)]


def test_a_window_is_decided_about_when_its_captions_are_final_and_not_before() -> None:
    talk = talking()
    talk.working = False
    talk.hear(SENTENCE)
    assert talk.asked_of_engine(EncodeJob) == [] and talk.of(m.Window) == []
    assert talk.of(m.Ack)[-1].processed == 0
    talk.work()
    talk.pass_time(1)
    assert len(talk.of(m.Window)) == 1 and talk.of(m.Ack)[-1].processed > 0


def test_the_open_window_is_heard_only_while_nothing_tells_of_it() -> None:
    for scene, expected in (
        (VOICE, "[0:00] word1 word2. | [0:01] word1 word2"),
        (VOICE * 4, "[0:00] word1 word2. | 4.24s"),
    ):
        talk = talking(interims=scene == VOICE)
        talk.hear(SENTENCE + scene)
        assert talk.ask().text == f"What? <- {expected}"


def test_a_watch_is_asked_as_such_windows_close_too() -> None:
    talk = talking()
    talk.tell(m.Watch("w", "Who?"))
    talk.hear(SENTENCE * 2)
    assert len(talk.of(m.WatchHit)) == 2


def test_everything_is_accounted_for_at_the_end() -> None:
    talk = talking()
    talk.hear(SENTENCE + VOICE * 4)
    talk.end()
    (ended,) = talk.of(m.Ended)
    assert ended.windows == 2 and ended.received_s == pytest.approx(ended.heard_s + ended.skipped_s)


def test_without_notes_every_window_is_heard() -> None:
    talk = Conversation(notes="forgotten", frames="uncaptioned", audio=EAGER)
    talk.hear(SENTENCE * 2)
    assert len(talk.asked_of_engine(EncodeJob)) == 2


S = 16_000  # a second


@pytest.mark.parametrize(
    ("captioned", "expected"),
    [
        ([], [(0, 20 * S)]),
        ([(0, 20 * S)], []),
        ([(3 * S, 17 * S)], []),  # pauses of three seconds are pauses
        ([(3 * S + 1, 20 * S)], [(0, 3 * S + 1)]),
        ([(0, 17 * S - 1)], [(17 * S - 1, 20 * S)]),
        ([(0, 5 * S), (9 * S, 12 * S)], [(5 * S, 9 * S), (12 * S, 20 * S)]),
        ([(0, 5 * S), (4 * S, 12 * S), (8 * S, 18 * S)], []),
        ([(-9 * S, 2 * S), (4 * S, 30 * S)], []),  # an utterance reaches over the window's end
        ([(-9 * S, -S), (20 * S, 30 * S)], [(0, 20 * S)]),  # what others say is none of it
    ],
)
def test_what_captions_leave_out_of_a_window(captioned: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    assert uncaptioned(0, 20 * S, captioned) == expected
