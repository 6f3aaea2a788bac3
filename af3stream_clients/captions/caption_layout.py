"""Break captions into rows. A change lays out again only the rows that follow it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QTextCharFormat, QTextLayout, QTextOption

LEADING: Final = 1.12  # times the font's own line spacing


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the characters of its paragraph from ``start`` on. ``layout`` leaves out the trailing space."""

    start: int
    text: str
    layout: QTextLayout


@dataclass(slots=True)
class Paragraph:
    """The text of one utterance, or its translation. Its first ``stable_chars`` characters do not change any more."""

    key: int
    text: str = ""
    stable_chars: int = 0
    rows: list[Row] = field(default_factory=list)
    height: int = 0  # in rows; does not shrink while the utterance is open


class CaptionLayout:
    """Paragraphs below each other, broken into rows of a given width.

    Attributes:
        laid: characters laid out so far, as a measure of the work.
    """

    def __init__(self, font: QFont, width: float) -> None:
        self.chars_laid_out = 0
        self._font, self._width = font, width
        self._paragraphs: list[Paragraph] = []
        self._dropped = -1  # the last paragraph that was dropped
        self._spacing = QFontMetricsF(font).lineSpacing() * LEADING

    @property
    def row_height(self) -> float:
        """Height of each row, in pixels."""
        return self._spacing

    @property
    def height(self) -> int:
        """Number of rows."""
        return sum(paragraph.height for paragraph in self._paragraphs)

    @property
    def text(self) -> str:
        """The whole text, one line a row."""
        return "\n".join(row.text.rstrip() for paragraph in self._paragraphs for row in paragraph.rows)

    def rows(self) -> Iterator[tuple[int, Row, int]]:
        """Yield the position of each row, the row, and how many of its characters are stable."""
        at = 0
        for paragraph in self._paragraphs:
            for index, row in enumerate(paragraph.rows):
                yield at + index, row, min(max(paragraph.stable_chars - row.start, 0), len(row.text))
            at += paragraph.height

    def put(self, key: int, text: str, stable_chars: int, final: bool) -> int:
        """Set the text of a paragraph, or remove it if the text is empty; return the first row to repaint.

        A paragraph that was dropped does not come back.
        """
        if key <= self._dropped:
            return self.height
        index = next((i for i, known in enumerate(self._paragraphs) if known.key >= key), len(self._paragraphs))
        before = sum(paragraph.height for paragraph in self._paragraphs[:index])
        if index == len(self._paragraphs) or self._paragraphs[index].key != key:
            self._paragraphs.insert(index, Paragraph(key))
        paragraph = self._paragraphs[index]
        changed = self._change(paragraph, text)
        if stable_chars != paragraph.stable_chars:
            settled = min(stable_chars, paragraph.stable_chars)
            coloured = sum(row.start + len(row.text) <= settled for row in paragraph.rows)
            changed, paragraph.stable_chars = min(changed, coloured), stable_chars
        paragraph.height = len(paragraph.rows) if final else max(paragraph.height, len(paragraph.rows))
        if not text:
            self._paragraphs.remove(paragraph)
        return before + changed

    def drop(self, rows: int) -> int:
        """Remove paragraphs that end within the first ``rows``, and return how many rows they had."""
        dropped = 0
        while self._paragraphs and dropped + self._paragraphs[0].height <= rows:
            paragraph = self._paragraphs.pop(0)
            self._dropped = max(self._dropped, paragraph.key)
            dropped += paragraph.height
        return dropped

    def set_shape(self, font: QFont, width: float) -> None:
        """Lay out everything again in another font or width."""
        self._font, self._width = font, width
        self._spacing = QFontMetricsF(font).lineSpacing() * LEADING
        for paragraph in self._paragraphs:
            text, paragraph.text, paragraph.rows = paragraph.text, "", []
            self._change(paragraph, text)
            paragraph.height = len(paragraph.rows)

    def _change(self, paragraph: Paragraph, text: str) -> int:
        """Lay out the changed part, and return the first row that differs."""
        old = paragraph.rows
        common = _common(paragraph.text, text)
        if common == len(text) == len(paragraph.text):
            return len(old)
        settled = sum(row.start + len(row.text) <= common for row in old)
        first = max(0, min(settled, len(old) - 1) - 1)  # a shorter word may fit into the previous row
        start = old[first].start if old else 0
        paragraph.text, paragraph.rows = text, old[:first]
        option = _option(text)
        for piece in self._broken(text[start:], option):
            at = len(paragraph.rows)
            same = at < len(old) and old[at].start == start and old[at].text == piece
            paragraph.rows.append(old[at] if same else Row(start, piece, self._row(piece.rstrip(), option)))
            start += len(piece)
        pairs = enumerate(zip(old, paragraph.rows, strict=False))
        return next((at for at, (was, now) in pairs if was is not now), min(len(old), len(paragraph.rows)))

    def _broken(self, text: str, option: QTextOption) -> Iterator[str]:
        """Break text into rows that fit the width."""
        self.chars_laid_out += len(text)
        layout = QTextLayout(text, self._font)
        layout.setTextOption(option)
        layout.beginLayout()
        ends = []
        while (line := layout.createLine()).isValid():
            line.setLineWidth(self._width)
            ends.append(line.textStart() + line.textLength())
        layout.endLayout()
        start = 0
        for end in ends:
            yield text[start:end]
            start = end

    def _row(self, text: str, option: QTextOption) -> QTextLayout:
        option = QTextOption(option)
        option.setWrapMode(QTextOption.WrapMode.NoWrap)
        layout = QTextLayout(text, self._font)
        layout.setTextOption(option)
        layout.setCacheEnabled(True)
        layout.beginLayout()
        layout.createLine().setLineWidth(self._width)
        layout.endLayout()
        return layout


def paint(layout: CaptionLayout, painter: QPainter, top: float, rows: int, colour: QColor, faded: QColor) -> None:
    """Paint ``rows`` rows from row ``top`` on, which may be a fraction."""
    painter.setPen(colour)
    fading = QTextCharFormat()
    fading.setForeground(faded)
    for at, row, stable in layout.rows():
        if top - 1 < at < top + rows:
            rest = QTextLayout.FormatRange()
            rest.start, rest.length, rest.format = stable, len(row.text) - stable, fading
            row.layout.draw(painter, QPointF(0, (at - top) * layout.row_height), [rest] if rest.length else [])


def _common(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _option(text: str) -> QTextOption:
    """Align rows by the writing direction of the first letter."""
    kinds = (unicodedata.bidirectional(letter) for letter in text)
    leftward = next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"
    option = QTextOption(Qt.AlignmentFlag.AlignRight if leftward else Qt.AlignmentFlag.AlignLeft)
    option.setTextDirection(Qt.LayoutDirection.RightToLeft if leftward else Qt.LayoutDirection.LeftToRight)
    return option
