"""Draw the pictures of ``docs/desktop.md``: ``AF3STREAM_DESKTOP_PNG=docs pytest tests/desktop/test_pictures.py``.

They show real windows. Transparency and shadows are painted here, because the test's screen has no compositor.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QImage, QLinearGradient, QPainter, QPainterPath, QPixmap
from PySide6.QtWidgets import QWidget

from af3stream.protocol.messages import Answer, AnswerDelta, Ask, Caption, SpeakerNamed
from af3stream_clients.captions.app import Captions
from af3stream_clients.captions.theme import colours
from tests.desktop.gui_driver import live, move_to, until
from tests.desktop.scripted_service import ScriptedService

FOLDER = os.environ.get("AF3STREAM_DESKTOP_PNG")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="AF3STREAM_DESKTOP_PNG names no folder for the pictures")

SENTENCES = (
    (1, "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his power to do."),
    (9, "He was not an ill-disposed young man,"),
    (12, "unless to be rather cold-hearted and rather selfish is to be ill-disposed."),
    (18, "Had he married a more amiable woman, he might have been made still more respectable than he was."),
)
OPEN = "He might even have been made amiable himself, for he was very young when he"
ANSWER = "John Dashwood: a young man who is not ill-disposed, but rather cold-hearted and selfish."
DIALOGUE = (
    (
        1,
        "Buenos días a todos. ¿Empezamos con el presupuesto?",
        "Good morning, everybody. Shall we start with the budget?",
    ),
    (
        2,
        "Sí. Este mes hemos gastado menos que el anterior.",
        "Yes. This month we have spent less than the month before.",
    ),
    (2, "Pero falta la factura del alquiler.", "But the invoice for the rent is missing."),
    (1, "La pido hoy mismo.", "I will ask for it today."),
)
SECOND = "That he married a woman who made him less"


@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_pictures_for_the_docs(captions: Captions, stage: ScriptedService, appearance: str) -> None:
    assert FOLDER
    captions.settings_window.changed.emit(replace(captions.settings, appearance=appearance, size_pt=22))
    for number, (start, text) in enumerate(SENTENCES):
        stage.say(Caption(number, text, start, start + 4, final=True, stable=text))
    stage.say(Caption(9, OPEN, 25, 29, final=False, stable=OPEN[:44]))
    until(lambda: captions.history.model.rowCount() == 5)
    live(0.4)
    captions.overlay.resize(980, captions.overlay.height())
    live(0.3)
    overlay(captions, appearance).save(f"{FOLDER}/desktop-overlay-{appearance}.png")
    questions(captions, stage)
    windows(captions, appearance).save(f"{FOLDER}/desktop-windows-{appearance}.png")
    if appearance == "light":
        captions.settings_window.show()
        live(0.3)
        captions.settings_window.grab().save(f"{FOLDER}/desktop-settings.png")
    assert Path(f"{FOLDER}/desktop-overlay-{appearance}.png").stat().st_size > 10_000


def test_picture_of_speakers_and_translations(run: Callable[..., Captions], stage: ScriptedService) -> None:
    stage.ready = {"languages": ("de", "en", "es", "fr"), "speakers": True}
    captions = run()
    captions.settings_window.changed.emit(
        replace(captions.settings, appearance="light", language="es", translate=True, speakers=True)
    )
    until(lambda: captions.overlay.status.text() == "Listening")
    for number, (speaker, text, translation) in enumerate(DIALOGUE):
        start = 7.0 * number
        caption = Caption(number, text, start, start + 4, True, speaker=speaker, translation=translation)
        stage.say(caption)
    stage.say(SpeakerNamed(1, "Ana"))
    until(lambda: captions.history.model.rowCount() == len(DIALOGUE))
    captions.history.resize(640, 420)
    captions.history.show()
    captions.settings_window.show()
    captions.settings_window.tabs.setCurrentWidget(captions.settings_window.speech)
    live(0.4)
    picture = desktop(QSize(1260, 520), "light")
    with painting(picture) as painter:
        shown(painter, captions.history, QPoint(36, 60), radius=10, title="History — Captions")
        shown(painter, captions.settings_window, QPoint(716, 60), radius=10, title="Settings — Captions")
    picture.save(f"{FOLDER}/desktop-speakers.png")
    assert Path(f"{FOLDER}/desktop-speakers.png").stat().st_size > 10_000


def questions(captions: Captions, stage: ScriptedService) -> None:
    captions.actions["ask"].trigger()
    captions.ask.asked.emit("Who is this about?", None, None)
    until(lambda: len(stage.heard(Ask)) == 1)
    first = stage.heard(Ask)[0]
    assert isinstance(first, Ask)
    stage.say(Answer(first.id, ANSWER, start=0.6, end=16, windows=1, tokens=20, finish="stop", question="Who?"))
    captions.ask.asked.emit("What is said about his wife?", None, 0)
    until(lambda: len(stage.heard(Ask)) == 2)
    second = stage.heard(Ask)[1]
    assert isinstance(second, Ask)
    stage.say(AnswerDelta(second.id, SECOND))
    until(lambda: captions.ask.cards[1].answer.text() == SECOND)


def overlay(captions: Captions, appearance: str) -> QImage:
    """Draw the captions over a lecture, under the mouse."""
    move_to(captions.overlay, QPoint(400, 60))
    live(0.3)
    picture = desktop(QSize(1180, 660), appearance)
    with painting(picture) as painter:
        lecture(painter, QRectF(120, 46, 940, 500), appearance)
        place = QPoint(100, 660 - captions.overlay.height() - 36)
        shown(painter, captions.overlay, place, radius=16)
    return picture


def windows(captions: Captions, appearance: str) -> QImage:
    """Draw the history with a search, and the questions."""
    captions.history.resize(640, 520)
    captions.ask.resize(440, 520)
    captions.history.show()
    live(0.4)
    captions.history.search.setText("made")
    live(0.3)
    picture = desktop(QSize(1180, 620), appearance)
    with painting(picture) as painter:
        shown(
            painter, captions.history, QPoint(36, 66), radius=10, title=f"{captions.history.windowTitle()} — Captions"
        )
        shown(painter, captions.ask, QPoint(706, 66), radius=10, title=f"{captions.ask.windowTitle()} — Captions")
    return picture


class painting:  # noqa: N801 - reads as a verb
    """A painter within the context."""

    def __init__(self, image: QImage) -> None:
        self._painter = QPainter(image)
        self._painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.TextAntialiasing)

    def __enter__(self) -> QPainter:
        return self._painter

    def __exit__(self, *_: object) -> None:
        self._painter.end()


def desktop(size: QSize, appearance: str) -> QImage:
    image = QImage(size, QImage.Format.Format_RGB32)
    shades = ("#c9dfe4", "#e9dccb") if appearance == "light" else ("#14343a", "#31233a")
    shade = QLinearGradient(QPointF(0, 0), QPointF(size.width(), size.height()))
    shade.setColorAt(0, QColor(shades[0]))
    shade.setColorAt(1, QColor(shades[1]))
    with painting(image) as painter:
        painter.fillRect(image.rect(), shade)
    return image


def lecture(painter: QPainter, area: QRectF, appearance: str) -> None:
    """Draw another program's window: a slide and the speaker."""
    look = colours()
    shadow(painter, area, 12)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(look.panel))
    painter.drawRoundedRect(area, 12, 12)
    painter.setPen(QColor(look.ink))
    painter.setFont(QFont(painter.font().family(), 26, QFont.Weight.DemiBold))
    painter.drawText(area.adjusted(56, 54, 0, 0), "Sense and Sensibility")
    painter.setPen(QColor(look.soft))
    painter.setBrush(QColor(look.soft))
    painter.setFont(QFont(painter.font().family(), 15))
    for row, text in enumerate(
        ("Chapter 1: the Dashwoods", "An estate, and who inherits it", "Prudence against kindness")
    ):
        painter.drawText(area.adjusted(78, 130 + 44 * row, 0, 0), text)
        painter.drawEllipse(QPointF(area.left() + 61, area.top() + 141 + 44 * row), 3, 3)
    camera = QRectF(area.right() - 256, area.top() + 40, 216, 148)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(look.tint))
    painter.drawRoundedRect(camera, 10, 10)
    painter.setBrush(QColor(look.accent))
    painter.drawEllipse(camera.center() + QPointF(0, -18), 25, 25)
    body = QPainterPath()
    body.addRoundedRect(QRectF(camera.center().x() - 52, camera.center().y() + 16, 104, 90), 46, 46)
    clip = QPainterPath()
    clip.addRoundedRect(camera, 10, 10)
    painter.drawPath(body & clip)


def shown(painter: QPainter, window: QWidget, at: QPoint, *, radius: int, title: str = "") -> None:
    """Draw a window with frame and shadow."""
    picture: QPixmap = window.grab()
    top = 34 if title else 0
    area = QRectF(at.x(), at.y() - top, window.width(), window.height() + top)
    if title:
        shadow(painter, area, radius)
        path = QPainterPath()
        path.addRoundedRect(area, radius, radius)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours().line))
        painter.drawPath(path)
        painter.setPen(QColor(colours().ink))
        painter.setFont(QFont(painter.font().family(), 10))
        painter.drawText(QRectF(area.left(), area.top(), area.width(), top), Qt.AlignmentFlag.AlignCenter, title)
        painter.save()
        painter.setClipPath(path)
        painter.drawPixmap(at, picture)
        painter.restore()
    else:
        painter.drawPixmap(at, picture)


def shadow(painter: QPainter, area: QRectF, radius: int) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(0, 0, 0, 4))
    for spread in range(12, 0, -1):
        grown = area.adjusted(-spread, -spread + 4, spread, spread + 6)
        painter.drawRoundedRect(grown, radius + spread, radius + spread)
