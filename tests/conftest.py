"""What the tests of every room share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest

from af3stream.engine.contract import Samples

if TYPE_CHECKING:
    from af3stream.engine.factory import Loaded

RECORDINGS = Path(__file__).parent / "recordings"

hypothesis.settings.register_profile("untimed", deadline=None)  # how fast the machine is says nothing about the code
hypothesis.settings.load_profile("untimed")

MARKERS = {
    "mini": "mini",
    "quick_start": "mini",
    "browser": "browser",
    "application": "desktop",
    "pulseaudio": "microphone",
    "room": "microphone",
    "clients_python": "slow",
    "bundle": "browser",
}


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what its fixtures start, so that `make test-fast` never starts it."""
    for item in items:
        for fixture in MARKERS.keys() & {*getattr(item, "fixturenames", ())}:
            item.add_marker(MARKERS[fixture])


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny seeded checkpoint in the transformers layout."""
    from tests.checkpoints import make_tiny

    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def mini() -> Loaded:
    """The embedded checkpoint, loaded once for all tests that run it in this process."""
    from af3stream.config import load
    from af3stream.engine.factory import load_engine

    return load_engine(load())


@pytest.fixture(scope="session")
def quick_start(tiny_folder: Path) -> tuple[str, ...]:
    """Settings for processes that need real captions and any answers: `mini`'s captioner, beside a tiny checkpoint."""
    from af3stream.models.registry import resolve

    settings = (f"model.name={tiny_folder}", f"captions.captioner={resolve('mini').captioner}")
    return tuple(word for setting in settings for word in ("--set", setting))


@pytest.fixture(scope="session")
def signal() -> Callable[[float, int], Samples]:
    """`signal(seconds, seed)`: something speech-like, float32 (n,) at 16 kHz."""

    def make(seconds: float, seed: int) -> Samples:
        rng = np.random.default_rng(seed)
        t = np.arange(round(seconds * 16_000)) / 16_000
        pitch, rate = 90 + 200 * rng.random(), 2 + 4 * rng.random()
        voice = sum(np.sin(2 * np.pi * pitch * k * t + 6 * rng.random()) / k for k in range(1, 8))
        loud = 0.15 * voice * (1 + np.sin(2 * np.pi * rate * t)) + 0.01 * rng.standard_normal(len(t))
        return loud.astype(np.float32).clip(-1, 1)

    return make
