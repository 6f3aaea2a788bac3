"""What `make demo` says at its end, with and without a person to say it to."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Any

import pytest
from rich.console import Console

from clients import demo

DEAD = "127.0.0.1"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """``said(terminal)``: all that the demo prints, over nothing but its own words."""

    async def heard(options: Any) -> int:
        return 0

    def run(terminal: bool) -> str:
        monkeypatch.setattr(demo, "pull", lambda name, console: None)
        monkeypatch.setattr(demo, "_serving", lambda *_: nullcontext())
        monkeypatch.setattr(demo, "listen", heard)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(Console, "input", lambda self, prompt: self.print(prompt))
        assert demo.main() == 0
        return capsys.readouterr().out

    return run


def test_without_a_terminal_no_address_is_told_that_is_dead_when_the_demo_ends(said: Any) -> None:
    assert DEAD not in said(terminal=False)


def test_in_a_terminal_the_page_is_there_until_enter_is_pressed(said: Any) -> None:
    closing = said(terminal=True).rpartition("and now yours")[2]
    assert f"http://{DEAD}:" in closing
    assert closing.rstrip().endswith("until you press Enter.")


def test_the_closing_lines_say_where_the_command_is(said: Any) -> None:
    closing = said(terminal=False).rpartition("and now yours")[2]
    folder = sys.prefix.rpartition("/")[2]
    assert f"{folder}/bin/af3stream serve" in closing
    assert f". {folder}/bin/activate" in closing
