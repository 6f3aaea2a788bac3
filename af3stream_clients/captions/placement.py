"""Place windows so that they do not cover those that are open already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Final

from PySide6.QtCore import QMargins, QPoint, QRect, QSize, Qt
from PySide6.QtWidgets import QWidget

GAP_PX: Final = 12
FRAME: Final = QMargins(6, 36, 6, 6)  # the largest frame that window managers draw


def free_place(size: QSize, minimum: QSize, occupied: Sequence[QRect], area: QRect) -> QRect:
    """Find a place in ``area`` that covers none of ``occupied``: the largest one, then the one nearest to the top left.

    The window may shrink down to ``minimum``. If that is not enough, it covers the last of ``occupied``, and so on.
    """
    around = [rect.adjusted(-GAP_PX, -GAP_PX, GAP_PX, GAP_PX) for rect in occupied]
    fitting = [
        QRect(rectangle.topLeft(), rectangle.size().boundedTo(size))
        for rectangle in _free_rectangles(around, area)
        if rectangle.size().boundedTo(minimum) == minimum
    ]
    if fitting:
        return min(fitting, key=lambda place: (-place.width() * place.height(), place.top() + place.left()))
    if occupied:
        return free_place(size, minimum, occupied[:-1], area)
    return QRect(area.topLeft(), size.boundedTo(area.size()))


def _free_rectangles(occupied: Sequence[QRect], area: QRect) -> Iterator[QRect]:
    """Yield rectangles in ``area`` that intersect none of ``occupied``; the largest ones are among them."""
    lefts = [area.left(), *(rect.right() + 1 for rect in occupied)]
    tops = [area.top(), *(rect.bottom() + 1 for rect in occupied)]
    rights = [area.right(), *(rect.left() - 1 for rect in occupied)]
    bottoms = [area.bottom(), *(rect.top() - 1 for rect in occupied)]
    for left, top, right, bottom in product(lefts, tops, rights, bottoms):
        rectangle = QRect(QPoint(left, top), QPoint(right, bottom)) & area
        if rectangle.isValid() and not any(rectangle.intersects(rect) for rect in occupied):
            yield rectangle


def open_beside(window: QWidget, others: Iterable[QWidget]) -> None:
    """Show a window in its last place, or in a free place if it would cover one of the others there."""
    if not window.isVisible():
        occupied = [other.frameGeometry() for other in others]
        shown_before = window.testAttribute(Qt.WidgetAttribute.WA_Moved)
        if not shown_before or any(window.frameGeometry().intersects(rect) for rect in occupied):
            _place(window, occupied)
    window.show()
    window.raise_()
    window.activateWindow()


def _place(window: QWidget, occupied: Sequence[QRect]) -> None:
    if not window.testAttribute(Qt.WidgetAttribute.WA_Resized):
        window.adjustSize()
    minimum = window.minimumSizeHint().expandedTo(window.minimumSize())
    area = window.screen().availableGeometry()
    place = free_place(window.size().grownBy(FRAME), minimum.grownBy(FRAME), occupied, area)
    window.setGeometry(place.marginsRemoved(FRAME))
