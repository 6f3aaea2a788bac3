"""Checkpoints the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from af3stream.models import mini
from tests.checkpoints import make_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny AF3 checkpoint; tests copy it before they change it."""
    return make_tiny(tmp_path_factory.mktemp("tiny"), chunk_length=2)


@pytest.fixture(scope="session")
def mini_folder() -> Path:
    """The real ``mini`` in the user's cache, assembled where it is missing."""
    return mini.assemble(print)
