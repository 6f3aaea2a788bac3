"""docs/architecture.md names code that exists."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
NAMES = sorted(set(re.findall(r"`(af3stream(?:_clients)?(?:\.\w+)*)`", PAGE.read_text())))


def find(name: str) -> Any:
    """Import the longest module that a dotted name begins with, and get the rest from it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", NAMES)
def test_named_code_exists(name: str) -> None:
    assert find(name) is not None


def test_every_hop_of_an_audio_frame_is_named() -> None:
    assert len([name for name in NAMES if name.count(".") >= 2]) >= 20
