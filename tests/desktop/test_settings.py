"""Stored settings, and invalid values in their file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QRect, QSettings

from af3stream_clients.captions.settings import Settings, load, save
from af3stream_clients.captions.shortcuts import to_pynput


def at(path: Path) -> QSettings:
    return QSettings(str(path / "captions.ini"), QSettings.Format.IniFormat)


def test_settings_are_stored_and_read(tmp_path: Path) -> None:
    chosen = Settings(
        server="wss://example.org",
        source="system",
        device="Headset",
        family="DejaVu Serif",
        size_pt=40,
        lines=5,
        text="#ffee00",
        background="#001122",
        opacity=60,
        appearance="dark",
        click_through=True,
        announce=True,
        language="es",
        translate=True,
        speakers=True,
        place=QRect(10, 20, 600, 200),
        folder="/tmp",
        show_key="",
        ask_key="Ctrl+Alt+Q",
    )
    save(chosen, at(tmp_path))
    assert load(at(tmp_path)) == chosen


def test_file_source_is_not_stored(tmp_path: Path) -> None:
    save(Settings(source="system", device="Headset"), at(tmp_path))
    save(Settings(source="file", device="/tmp/talk.wav", size_pt=30), at(tmp_path))
    assert load(at(tmp_path)) == Settings(source="system", device="Headset", size_pt=30)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("size_pt=9000", replace(Settings(), size_pt=96)),
        ("opacity=0", replace(Settings(), opacity=30)),
        ("lines=many", Settings()),
        ("appearance=pink", Settings()),
        ("source=file", Settings()),
        ("place=here", Settings()),
    ],
)
def test_invalid_value_becomes_the_default(line: str, expected: Settings, tmp_path: Path) -> None:
    (tmp_path / "captions.ini").write_text(f"[General]\n{line}\n")
    assert load(at(tmp_path)) == expected


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("Ctrl+Alt+C", "<ctrl>+<alt>+c"),
        ("Meta+Shift+F9", "<cmd>+<shift>+<f9>"),
        ("Ctrl+Space", "<ctrl>+<space>"),
        ("Ctrl++", "<ctrl>++"),
        ("C", ""),  # would fire while typing
        ("Ctrl+Media Play", ""),
    ],
)
def test_shortcuts_are_converted_for_pynput(key: str, keys: str) -> None:
    assert to_pynput(key) == keys
