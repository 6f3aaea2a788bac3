"""What the tests of every package share: markers, the groups that run in parallel, and fixtures.

`make test` runs two workers. Tests that depend on a device or on the embedded checkpoint are one group, which one
worker runs in order. Tests that depend on time-outs are another group. Both run at normal priority. Every other file is
a group of its own; it runs last, at low priority and on one thread, so that it does not disturb the first two groups.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
from xdist.scheduler import LoadScopeScheduling

from af3stream.engine.captioning import Samples

if TYPE_CHECKING:
    from af3stream.engine.factory import Loaded

TESTS = Path(__file__).parent
RECORDINGS = TESTS / "recordings"

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

# Groups that run as a whole at normal priority, by the folders and files that belong to them.
GROUPS = {
    "devices": {"desktop", "e2e", "test_mini.py"},
    "timeouts": {
        "chaos",
        "client",
        "clients",
        "conformance",
        "integrations",
        "openai_wire",
        "server",
        "test_benches.py",
        "test_embedding_cache.py",
        "test_engine_link.py",
        "test_gateway.py",
        "test_hangs_and_memory.py",
        "test_link_failures.py",
        "test_ray.py",
        "test_ray_membership.py",
        "test_worker.py",
    },
}
NICENESS = 10  # of the tests that only compute: a tenth of a core while the others need both


def group(nodeid: str) -> str:
    """Return a test's group: a key of `GROUPS`, or the path of its file."""
    path = nodeid.partition("::")[0]
    return next((name for name, places in GROUPS.items() if not places.isdisjoint(path.split("/"))), path)


def rank(item: pytest.Item) -> int:
    """Return the place of a test's group in the order in which workers take them."""
    return [*GROUPS, group(item.nodeid)].index(group(item.nodeid))


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hand out each group to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    """Group the tests of parallel workers."""
    return Groups(config, log)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its folder and its fixtures, and sort the groups: workers take them in this order."""
    for item in items:
        for fixture in MARKERS.keys() & {*getattr(item, "fixturenames", ())}:
            item.add_marker(MARKERS[fixture])
        if item.path.is_relative_to(TESTS / "desktop"):
            item.add_marker("desktop")
        if item.get_closest_marker("mini"):
            assert group(item.nodeid) == "devices", f"{item.nodeid}: a second worker would load the checkpoint"
    items.sort(key=rank)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lower a worker's priority when it comes to tests that only compute. It cannot be raised again."""
    if "PYTEST_XDIST_WORKER" in os.environ and group(item.nodeid) not in GROUPS and os.nice(0) < NICENESS:
        os.nice(NICENESS)
        os.environ["OMP_NUM_THREADS"] = "1"  # for processes that these tests start
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)


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
