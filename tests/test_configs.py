"""The files in configs/ are what the service reads."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from af3stream.config import Config, load

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_file_is_a_configuration(path: Path) -> None:
    assert isinstance(load(path), Config)


def test_the_default_file_names_every_setting_at_its_default() -> None:
    named = tomllib.loads((CONFIGS / "default.toml").read_text())
    assert named == msgspec.json.decode(msgspec.json.encode(Config()))
