"""How far captions are behind is what a person sees, whatever else the server has to do."""

from __future__ import annotations

import pytest

from af3stream.client import LagMeter
from af3stream.protocol.messages import Ack, Caption, Ready, Speech
from tests.client.scripted_server import READY


@pytest.fixture
def behind() -> LagMeter:
    behind = LagMeter()
    behind.hear(READY)
    return behind


def caption(end: float, *, final: bool = False) -> Caption:
    return Caption(0, "words", 0.0, end, final)


def test_silence_is_never_behind(behind: LagMeter) -> None:
    assert behind.seconds(300.0) == 0


def test_an_open_window_is_not_behind_once_its_words_are_there(behind: LagMeter) -> None:
    behind.hear(Speech("started", 1.0))
    behind.hear(caption(20.0, final=True))
    behind.hear(Speech("stopped", 20.0))
    behind.hear(Ack(received=400_000, processed=16_000))
    assert behind.seconds(25.0) == 0


def test_speech_is_behind_until_it_has_a_caption(behind: LagMeter) -> None:
    behind.hear(Speech("started", 10.0))
    assert behind.seconds(18.0) == 8.0
    behind.hear(caption(17.0))
    assert behind.seconds(18.0) == 1.0


def test_what_was_said_last_is_waited_for(behind: LagMeter) -> None:
    behind.hear(Speech("started", 0.0))
    behind.hear(caption(3.0))
    behind.hear(Speech("stopped", 6.0))
    assert behind.seconds(12.0) == 9.0
    behind.hear(caption(6.0, final=True))
    assert behind.seconds(12.0) == 0


def test_who_goes_on_speaking_does_not_hide_what_has_no_caption_yet(behind: LagMeter) -> None:
    behind.hear(Speech("started", 1.0))
    behind.hear(Speech("stopped", 6.0))
    behind.hear(Speech("started", 7.0))
    assert behind.seconds(9.0) == 8.0
    behind.hear(caption(6.0, final=True))
    assert behind.seconds(9.0) == 2.0


def test_speech_without_words_is_not_waited_for_for_ever(behind: LagMeter) -> None:
    behind.hear(Speech("started", 0.0))
    behind.hear(Speech("stopped", 6.0))
    behind.hear(Ack(received=160_000, processed=160_000))
    assert behind.seconds(10.0) == 0


def test_acknowledgements_count_in_the_rate_of_the_session() -> None:
    behind = LagMeter()
    behind.hear(Ready(**{**{name: getattr(READY, name) for name in READY.__struct_fields__}, "rate": 48_000}))
    behind.hear(Speech("started", 0.0))
    behind.hear(Ack(received=480_000, processed=480_000))
    assert behind.seconds(20.0) == 10.0
