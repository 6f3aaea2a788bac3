"""``pull`` shows every file with its size and hash, the licence and the folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from af3stream.errors import ModelError
from af3stream.models import manifest, mini, voices
from af3stream.models.pull import pull


def said(name: str) -> str:
    console = Console(record=True, width=200)
    pull(name, console)
    return console.export_text()


def test_a_folder_is_checked_and_listed(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "mine"))
    (folder / "af3stream.json").write_text('{"name": "owl", "licence": "MIT"}')
    lines = said(str(folder)).splitlines()
    assert lines[0] == str(folder)
    for file in manifest.describe(folder):
        assert f"  {file.size:>13,}  {file.sha256}  {file.path}" in lines
    assert lines[-1].startswith("owl is complete:")
    assert lines[-1].endswith("Licence: MIT.")


def test_an_incomplete_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        said(str(tmp_path))


def test_mini_is_compared_by_content(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def assemble(_: object, *, hashes: bool = False) -> Path:
        asked.append(hashes)
        return tiny

    monkeypatch.setattr(mini, "assemble", assemble)
    monkeypatch.setattr(voices, "assemble", lambda _: tiny)
    assert "complete" in said("mini")
    assert asked == [True, False]
