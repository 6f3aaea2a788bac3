"""The overlay as a real window under a window manager, with a mouse."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from PySide6.QtCore import QEvent, QObject, QPoint, QRect, Qt
from PySide6.QtGui import QColor, QGuiApplication, QImage, QRegion
from PySide6.QtWidgets import QAbstractButton, QApplication, QWidget

from af3stream.protocol.messages import Caption
from af3stream_clients.captions.app import Captions
from af3stream_clients.captions.overlay import EDGE_PX
from af3stream_clients.captions.theme import DARK, FADED, LIGHT
from tests.desktop.gui_driver import click, heard_by_screen_reader, live, move_to, until, xdotool
from tests.desktop.scripted_service import ScriptedService

SPOKEN = "and mister john dashwood had then leisure to consider how much there might be prudently in his power to do"


def interim(text: str, stable: str = "", utterance: int = 0) -> Caption:
    return Caption(utterance, text, 0.2, 2.0, final=False, stable=stable)


def final(text: str, utterance: int = 0) -> Caption:
    return Caption(utterance, text, 0.2, 4.0, final=True, stable=text)


def properties(window: QWidget) -> str:
    """Return the window manager's properties of a window."""
    return subprocess.run(["xprop", "-id", str(int(window.winId()))], capture_output=True, text=True, check=True).stdout


def on_screen(place: QRect) -> QImage:
    """Return the pixels on the screen."""
    screen = QGuiApplication.primaryScreen()
    return screen.grabWindow(0, place.x(), place.y(), place.width(), place.height()).toImage()


class Painted(QObject):
    """Records how far up a view was repainted."""

    def __init__(self, view: QWidget) -> None:
        super().__init__()
        self.tops: list[int] = []
        view.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.Paint:
            self.tops.append(event.rect().top())  # type: ignore[attr-defined]
        return False


class Clicked(QWidget):
    """A window of another program that counts clicks."""

    count = 0

    def mousePressEvent(self, event: object) -> None:  # noqa: N802
        self.count += 1


def test_overlay_is_frameless_and_on_top(captions: Captions, stage: ScriptedService) -> None:
    told = properties(captions.overlay)
    assert "_NET_WM_STATE_ABOVE" in told
    assert "_NET_WM_WINDOW_TYPE_UTILITY" in told
    assert captions.overlay.frameGeometry() == captions.overlay.geometry()
    stage.say(final("He was not an ill-disposed young man."))
    until(lambda: captions.overlay.view.shown)
    live(1.0)
    place = captions.overlay.geometry()
    before = on_screen(place)
    other = Clicked()
    other.setGeometry(place.adjusted(-20, -20, 20, 20))
    other.show()
    other.raise_()
    other.activateWindow()
    live(1.0)
    inside = QRect(60, 20, 300, 100)
    assert on_screen(place).copy(inside) == before.copy(inside)
    other.close()


def test_text_is_faded_until_it_is_stable(captions: Captions, stage: ScriptedService) -> None:
    view = captions.overlay.view
    stage.say(interim("He was not", stable="He was"))
    until(lambda: view.shown)
    width = view.fontMetrics().horizontalAdvance("He was ")
    row = view.height_for(1)
    assert strongest(view, QRect(0, 0, width - 4, row)) == pytest.approx(1, abs=0.02)
    assert strongest(view, QRect(width, 0, 400, row)) == pytest.approx(FADED, abs=0.05)
    stage.say(final("He was not."))
    until(lambda: view.shown == "He was not.")
    assert strongest(view, QRect(width, 0, 400, row)) == pytest.approx(1, abs=0.02)


def test_new_word_does_not_repaint_the_words_before_it(captions: Captions, stage: ScriptedService) -> None:
    view = captions.overlay.view
    stage.say(interim(SPOKEN, stable=SPOKEN))
    until(lambda: view.shown)
    live(0.3)
    rows = view.caption_layout.height
    assert rows > 1
    above = QRect(0, 0, view.width(), view.height_for(rows - 1))
    before, painted = view.grab().toImage().copy(above), Painted(view)
    for said in (f"{SPOKEN} four", f"{SPOKEN} for them", f"{SPOKEN} for"):
        stage.say(interim(said, stable=SPOKEN))
        until(lambda said=said: view.shown.endswith(said[-3:]))
        assert view.grab().toImage().copy(above) == before
    live(0.1)
    seen = [top for top in painted.tops if top > 0]  # `grab` paints everything, unlike the screen
    assert seen
    assert min(seen) >= above.height() - 1


def test_rows_scroll_up_and_never_down(captions: Captions, stage: ScriptedService) -> None:
    view = captions.overlay.view
    tops: list[float] = []
    words = SPOKEN.split() * 3
    for count in range(1, len(words) + 1):
        stage.say(interim(" ".join(words[:count])))
        until(lambda count=count: view.shown.split() and view.shown.split()[-1] == words[count - 1])
        tops.append(view._target)
    assert tops[-1] > 0
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(tops))
    assert len(view.shown.splitlines()) == view.rows
    stage.say(final("And then."))
    until(lambda: "And then." in view.caption_layout.text)
    assert view._target >= tops[-1]


def test_screen_reader_gets_the_visible_text(captions: Captions, stage: ScriptedService) -> None:
    overlay = captions.overlay
    assert heard_by_screen_reader(overlay.view) == ("Captions", "Nothing was said yet.")
    stage.say(interim("He was not an"))
    until(lambda: heard_by_screen_reader(overlay.view) == ("Captions", "He was not an"))
    stage.say(final(""))
    until(lambda: heard_by_screen_reader(overlay.view) == ("Captions", "Nothing was said yet."))
    assert heard_by_screen_reader(overlay)[0].startswith("Captions")


def test_moving_and_resizing_by_mouse_is_stored(captions: Captions, run: Callable[..., Captions]) -> None:
    overlay = captions.overlay
    place = overlay.geometry()
    drag(overlay, QPoint(200, place.height() - 30), dx=-60, dy=-90)
    until(lambda: overlay.x() < place.x() - 30 and overlay.y() < place.y() - 45)
    assert overlay.size() == place.size()
    drag(overlay, QPoint(place.width() - 4, place.height() // 2), dx=-200, dy=0)
    until(lambda: overlay.width() < place.width() - 100)
    assert overlay.height() == place.height()
    assert overlay.view.width() < overlay.width()
    live(0.5)
    left = overlay.geometry()
    captions.close()
    again = run()
    until(again.overlay.isVisible)
    assert again.overlay.geometry() == left


def test_stored_place_off_screen_is_ignored(captions: Captions) -> None:
    captions.settings_window.changed.emit(replace(captions.settings, place=QRect(9_000, 9_000, 500, 200)))
    assert QGuiApplication.primaryScreen().geometry().contains(captions.overlay.geometry())


def test_click_through_passes_the_mouse_to_the_window_behind(captions: Captions) -> None:
    overlay = captions.overlay
    below = Clicked()
    below.setGeometry(overlay.geometry().adjusted(20, 40, -20, -10))
    below.show()
    live(1.0)
    at = QPoint(300, 80)
    click(overlay, at)
    live(0.2)
    assert below.count == 0
    captions.actions["through"].trigger()
    live(1.0)
    click(overlay, at)
    until(lambda: below.count == 1)
    assert overlay.isVisible()
    captions.actions["through"].trigger()
    live(1.0)
    click(overlay, at)
    live(0.2)
    assert below.count == 1
    below.close()


def test_buttons_appear_under_the_mouse_and_work(captions: Captions, stage: ScriptedService) -> None:
    overlay = captions.overlay
    xdotool("mousemove", 5, 5)
    buttons = {heard_by_screen_reader(button)[0]: button for button in overlay.findChildren(QAbstractButton)}
    assert set(buttons) == {"Pause", "Ask about what was heard", "History", "Settings", "Hide the captions"}
    until(lambda: not any(button.isVisible() for button in buttons.values()))
    move_to(overlay, QPoint(200, 60))
    until(lambda: all(button.isVisible() for button in buttons.values()))
    click(buttons["Pause"])
    until(lambda: overlay.status.text() == "Paused")
    assert heard_by_screen_reader(buttons["Pause"])[0] == "Go on listening"
    click(buttons["Hide the captions"])
    until(lambda: not overlay.isVisible())
    assert not captions.actions["show"].isChecked()


def test_appearance_changes_at_once(captions: Captions, stage: ScriptedService) -> None:
    overlay, view = captions.overlay, captions.overlay.view
    stage.say(final(SPOKEN))
    until(lambda: view.shown)
    size = overlay.height()
    captions.settings_window.changed.emit(
        replace(captions.settings, size_pt=40, lines=2, text="#ff0000", background="#0000ff", opacity=50)
    )
    live(0.1)
    assert overlay.height() != size
    assert view.rows == 2
    assert view.font().pointSize() == 40
    assert len(view.shown.splitlines()) == 2
    image = overlay.grab().toImage()
    behind = image.pixelColor(overlay.width() // 2, overlay.height() - 4)
    assert (behind.blue(), behind.red()) == (255, 0)
    assert behind.alphaF() == pytest.approx(0.5, abs=0.01)


def test_contrast_is_sufficient_in_light_and_dark(captions: Captions, application: QApplication) -> None:
    for appearance, look in (("dark", DARK), ("light", LIGHT)):
        captions.settings_window.changed.emit(replace(captions.settings, appearance=appearance))
        live(0.1)
        background = captions.overlay._background
        assert background.name() == look.behind_captions
        assert contrast(look.caption, look.behind_captions) > 12
        assert contrast(blended(look.caption, look.behind_captions, FADED), look.behind_captions) > 4.5
        for colour in (look.ink, look.soft, look.accent, look.warning, look.problem):
            assert contrast(colour, look.panel) > 4.5, colour
        assert contrast(look.on_accent, look.accent) > 4.5
        assert application.palette().window().color().name() == look.page


def test_mouse_at_an_edge_resizes(captions: Captions) -> None:
    overlay = captions.overlay
    edges = Qt.Edge
    assert overlay._edges(overlay.rect().center()) == edges(0)
    assert overlay._edges(QPoint(EDGE_PX - 1, 50)) == edges.LeftEdge
    assert overlay._edges(overlay.rect().bottomRight()) == edges.RightEdge | edges.BottomEdge


def drag(window: QWidget, at: QPoint, dx: int, dy: int) -> None:
    point = window.mapToGlobal(at)
    move_to(window, at)
    live(0.1)
    xdotool("mousedown", 1)
    live(0.15)
    for step in range(1, 5):
        xdotool("mousemove", point.x() + dx * step // 4, point.y() + dy * step // 4)
        live(0.05)
    xdotool("mouseup", 1)
    live(0.1)


def strongest(view: QWidget, area: QRect) -> float:
    """Return the largest share of the captions' colour in an area: 1 for stable text."""
    image = QImage(view.size(), QImage.Format.Format_ARGB32_Premultiplied)
    image.fill(Qt.GlobalColor.transparent)
    view.render(image, QPoint(), QRegion(), QWidget.RenderFlag(0))
    points = ((x, y) for x in range(area.left(), area.right()) for y in range(area.top(), area.bottom()))
    return max(image.pixelColor(x, y).alphaF() for x, y in points)


def blended(colour: str, behind: str, share: float) -> str:
    one, other = QColor(colour), QColor(behind)
    parts = zip(one.getRgb()[:3], other.getRgb()[:3], strict=True)
    return QColor(*(round(a * share + b * (1 - share)) for a, b in parts)).name()


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio by WCAG 2."""
    darker, lighter = sorted(luminance(QColor(colour)) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: QColor) -> float:
    parts = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour.getRgbF()[:3])
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))
