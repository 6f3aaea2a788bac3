"""The last lines of `make demo`, with and without a terminal."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Any

import pytest
from rich.console import Console

from af3stream_clients import demo

DEAD = "127.0.0.1"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """``said(terminal)``: run the demo without a model or server, and return its output."""

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


def test_demo_without_a_terminal_does_not_print_the_page_address(said: Any) -> None:
    assert DEAD not in said(terminal=False)


def test_demo_in_a_terminal_serves_the_page_until_enter(said: Any) -> None:
    closing = said(terminal=True).rpartition("and now yours")[2]
    assert f"http://{DEAD}:" in closing
    assert closing.rstrip().endswith("until you press Enter.")


def test_demo_ends_with_the_path_of_the_command(said: Any) -> None:
    closing = said(terminal=False).rpartition("and now yours")[2]
    folder = sys.prefix.rpartition("/")[2]
    assert f"{folder}/bin/af3stream serve" in closing
    assert f". {folder}/bin/activate" in closing
