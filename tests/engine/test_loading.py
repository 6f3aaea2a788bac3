"""Loading leaves nothing beside the engine's thread that computing would have to wait for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from af3stream.config import load
from af3stream.engine.af3 import checkpoint
from af3stream.engine.factory import load_engine
from af3stream.errors import ModelError
from tests.checkpoints import make_tiny


def test_a_checkpoint_is_loaded_on_a_thread_that_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its team of OpenMP threads, too, then; beside it the engine's would sleep at the end of every product."""
    threads, really = list[threading.Thread](), checkpoint.load_checkpoint

    def noted(*args: Any) -> checkpoint.LoadedCheckpoint:
        threads.append(threading.current_thread())
        return really(*args)

    monkeypatch.setattr(checkpoint, "load_checkpoint", noted)
    loaded = load_engine(load(overrides=(f"model.name={make_tiny(tmp_path / 'tiny')}",)))
    (thread,) = threads
    assert not thread.is_alive()
    assert loaded.engine.name == "tiny"


def test_what_cannot_be_loaded_is_told_where_it_was_asked_for(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="tiny"):
        load_engine(load(overrides=(f"model.name={folder}",)))


def test_openmp_threads_wait_for_work_only_shortly() -> None:
    """libgomp says so when the engine loads it. A setting of the environment stays."""
    assert waits() == ["1000"] * 2, "torch and CTranslate2 have a libgomp each"
    assert waits(OMP_WAIT_POLICY="passive") == ["0"] * 2


def waits(**environment: str) -> list[str]:
    """Return how often threads look for more work, as each libgomp in the process says it."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    shown = subprocess.run(
        [sys.executable, "-c", "import af3stream.engine.af3.engine, ctranslate2"],
        env=others | environment | {"OMP_DISPLAY_ENV": "verbose"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    ).stderr
    return re.findall(r"GOMP_SPINCOUNT = '(\d+)'", shown)
