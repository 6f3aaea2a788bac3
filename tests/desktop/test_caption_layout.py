"""Caption layout: rows stay in place, and a change costs only the rows that it affects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QApplication

from af3stream_clients.captions.caption_layout import CaptionLayout

WIDTH = 420.0
SENTENCE = "and mister john dashwood had then leisure to consider how much there might be prudently in his power to do"
WORDS = st.lists(
    st.sampled_from(["a", "it", "was", "prudently", "considering", "漢字かな", "שלום", "mr."]), max_size=30
)


@pytest.fixture(scope="module")
def font(application: QApplication) -> QFont:
    return QFont("DejaVu Sans", 20)


def rows(layout: CaptionLayout) -> list[str]:
    return [row.text for _, row, _ in layout.rows()]


def test_rows_fill_the_width_and_keep_every_character(font: QFont) -> None:
    layout = CaptionLayout(font, WIDTH)
    layout.put(0, SENTENCE, 0, final=False)
    assert "".join(rows(layout)) == SENTENCE
    assert layout.height == len(rows(layout)) > 2
    assert all(row.layout.lineAt(0).naturalTextWidth() <= WIDTH for _, row, _ in layout.rows())


def test_added_word_lays_out_only_the_last_rows(font: QFont) -> None:
    layout = CaptionLayout(font, WIDTH)
    layout.put(0, SENTENCE, 0, final=False)
    before = [row for _, row, _ in layout.rows()]
    work = layout.chars_laid_out
    first = layout.put(0, f"{SENTENCE} for", 0, final=False)
    after = [row for _, row, _ in layout.rows()]
    assert all(was is now for was, now in zip(before[:-1], after, strict=False))
    assert layout.chars_laid_out - work <= len(before[-1].text) + len(before[-2].text) + 4
    assert first >= len(before) - 1


def test_words_that_become_stable_are_repainted_without_layout(font: QFont) -> None:
    layout = CaptionLayout(font, WIDTH)
    layout.put(0, SENTENCE, 0, final=False)
    work = layout.chars_laid_out
    assert layout.put(0, SENTENCE, 40, final=False) == 0
    assert layout.chars_laid_out == work
    assert sum(solid for _, _, solid in layout.rows()) == 40


@given(st.lists(WORDS, min_size=1, max_size=6))
def test_incremental_layout_equals_a_new_layout(font: QFont, history: list[list[str]]) -> None:
    layout, new = CaptionLayout(font, WIDTH), CaptionLayout(font, WIDTH)
    for words in history:
        layout.put(0, " ".join(words), 0, final=True)
    new.put(0, " ".join(history[-1]), 0, final=True)
    assert rows(layout) == rows(new)


def test_open_utterance_does_not_shrink_and_a_final_one_does(font: QFont) -> None:
    layout = CaptionLayout(font, WIDTH)
    layout.put(0, SENTENCE, 0, final=False)
    high = layout.height
    layout.put(0, "and", 0, final=False)
    assert layout.height == high
    layout.put(0, "And.", 4, final=True)
    assert layout.height == 1


def test_utterances_are_laid_out_in_order(font: QFont) -> None:
    layout = CaptionLayout(font, WIDTH)
    layout.put(1, "second", 0, final=False)
    layout.put(0, "First.", 6, final=True)
    assert layout.text == "First.\nsecond"
    layout.put(1, "", 0, final=True)
    assert layout.text == "First."


def test_rows_off_screen_are_dropped_by_whole_utterances(font: QFont) -> None:
    layout = CaptionLayout(font, WIDTH)
    for key in range(5):
        layout.put(key, SENTENCE, 0, final=True)
    height = layout.height // 5
    assert layout.drop(height * 2 + 1) == height * 2
    assert layout.height == height * 3


def test_hebrew_is_aligned_right(font: QFont) -> None:
    layout = CaptionLayout(font, WIDTH)
    layout.put(0, "שלום", 0, final=True)
    ((_, row, _),) = layout.rows()
    line = row.layout.lineAt(0)
    assert line.naturalTextRect().right() == pytest.approx(WIDTH, abs=1)


def test_dropped_caption_does_not_come_back_when_it_is_corrected(font: QFont) -> None:
    layout = CaptionLayout(font, WIDTH)
    for key in range(3):
        layout.put(key, SENTENCE, 0, final=True)
    layout.drop(layout.height // 3)
    text, height = layout.text, layout.height
    assert layout.put(0, "Corrected.", 10, final=True) == height
    assert layout.text == text
