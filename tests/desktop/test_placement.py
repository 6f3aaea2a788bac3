"""Windows open beside each other, and reopen where the user moved them."""

from __future__ import annotations

from itertools import combinations

import pytest
from PySide6.QtCore import QPoint, QRect, QSize
from PySide6.QtWidgets import QWidget

from af3stream_clients.captions.app import Captions
from af3stream_clients.captions.placement import GAP_PX, free_place
from tests.desktop.gui_driver import live, until

ROOM = QRect(0, 0, 1_280, 800)
CAPTIONS = QRect(100, 582, 1_080, 170)


@pytest.fixture
def alone(captions: Captions) -> Captions:
    """Close the history, which opens at the start if there is no tray."""
    captions.history.close()
    return captions


def opened(captions: Captions, command: str, window: QWidget) -> QRect:
    """Open a window through its action, and return its geometry with the frame."""
    captions.actions[command].trigger()
    until(window.isActiveWindow)
    live(0.2)
    return window.frameGeometry()


def test_windows_open_without_overlap(captions: Captions) -> None:
    places = [
        captions.overlay.frameGeometry(),
        opened(captions, "history", captions.history),
        opened(captions, "ask", captions.ask),
    ]
    assert not any(first.intersects(second) for first, second in combinations(places, 2))
    screen = captions.history.screen().availableGeometry()
    assert all(screen.contains(place) for place in places)


def test_settings_window_covers_neither_captions_nor_questions(captions: Captions) -> None:
    questions = opened(captions, "ask", captions.ask)
    place = opened(captions, "preferences", captions.settings_window)
    assert not place.intersects(questions)
    assert not place.intersects(captions.overlay.frameGeometry())


def test_window_reopens_where_the_user_moved_it(alone: Captions) -> None:
    opened(alone, "ask", alone.ask)
    alone.ask.setGeometry(QRect(500, 60, 400, 420))
    live(0.2)
    put = alone.ask.geometry()
    alone.ask.close()
    opened(alone, "ask", alone.ask)
    assert alone.ask.geometry() == put


def test_window_moves_if_another_opened_in_its_place(alone: Captions) -> None:
    opened(alone, "ask", alone.ask)
    alone.ask.close()
    history = opened(alone, "history", alone.history)
    assert not opened(alone, "ask", alone.ask).intersects(history)


def test_window_shrinks_to_the_free_space() -> None:
    place = free_place(QSize(680, 700), QSize(400, 300), [CAPTIONS], ROOM)
    assert place == QRect(QPoint(0, 0), QSize(680, CAPTIONS.top() - GAP_PX))


def test_window_without_free_space_covers_the_last_other_window() -> None:
    occupied = [CAPTIONS, QRect(0, 0, 680, 560)]
    place = free_place(QSize(700, 500), QSize(650, 400), occupied, ROOM)
    assert place == QRect(0, 0, 700, 500)


def test_window_larger_than_the_screen_is_cut_to_it() -> None:
    assert ROOM.contains(free_place(QSize(2_000, 900), QSize(1_500, 850), [CAPTIONS], ROOM))
