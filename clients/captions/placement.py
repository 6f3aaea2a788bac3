"""Where windows open: beside those that are open already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Final

from PySide6.QtCore import QMargins, QPoint, QRect, QSize, Qt
from PySide6.QtWidgets import QWidget

GAP_PX: Final = 12
FRAME: Final = QMargins(6, 36, 6, 6)  # at most what a window manager puts around a window that it has not shown yet


def free_place(size: QSize, least: QSize, taken: Sequence[QRect], room: QRect) -> QRect:
    """Find a place in ``room`` that covers nothing of ``taken``: as large as there is room for, then near the top left.

    A window may shrink down to ``least`` for it. If that is not enough, it covers the last one of ``taken``, and so on.
    """
    around = [rect.adjusted(-GAP_PX, -GAP_PX, GAP_PX, GAP_PX) for rect in taken]
    fitting = [
        QRect(hole.topLeft(), hole.size().boundedTo(size))
        for hole in _holes(around, room)
        if hole.size().boundedTo(least) == least
    ]
    if fitting:
        return min(fitting, key=lambda place: (-place.width() * place.height(), place.top() + place.left()))
    if taken:
        return free_place(size, least, taken[:-1], room)
    return QRect(room.topLeft(), size.boundedTo(room.size()))


def _holes(taken: Sequence[QRect], room: QRect) -> Iterator[QRect]:
    """Rectangles in ``room`` that nothing of ``taken`` reaches into; the largest of them are among them."""
    lefts = [room.left(), *(rect.right() + 1 for rect in taken)]
    tops = [room.top(), *(rect.bottom() + 1 for rect in taken)]
    rights = [room.right(), *(rect.left() - 1 for rect in taken)]
    bottoms = [room.bottom(), *(rect.top() - 1 for rect in taken)]
    for left, top, right, bottom in product(lefts, tops, rights, bottoms):
        hole = QRect(QPoint(left, top), QPoint(right, bottom)) & room
        if hole.isValid() and not any(hole.intersects(rect) for rect in taken):
            yield hole


def open_beside(window: QWidget, others: Iterable[QWidget]) -> None:
    """Bring a window up, in its last place unless it would cover one of the others there."""
    if not window.isVisible():
        taken = [other.frameGeometry() for other in others]
        shown_before = window.testAttribute(Qt.WidgetAttribute.WA_Moved)
        if not shown_before or any(window.frameGeometry().intersects(rect) for rect in taken):
            _place(window, taken)
    window.show()
    window.raise_()
    window.activateWindow()


def _place(window: QWidget, taken: Sequence[QRect]) -> None:
    if not window.testAttribute(Qt.WidgetAttribute.WA_Resized):
        window.adjustSize()
    least = window.minimumSizeHint().expandedTo(window.minimumSize())
    room = window.screen().availableGeometry()
    place = free_place(window.size().grownBy(FRAME), least.grownBy(FRAME), taken, room)
    window.setGeometry(place.marginsRemoved(FRAME))
