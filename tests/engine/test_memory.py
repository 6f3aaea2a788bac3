"""What is held, is held once; and memory that a job leaves free goes back to the system."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from af3stream.config import ModelConfig, load
from af3stream.engine import memory
from af3stream.engine.af3.checkpoint import load_checkpoint
from af3stream.engine.contract import AudioSegment
from af3stream.engine.factory import load_engine
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.server.load import resident_bytes
from tests.checkpoints import make_tiny

HELD, SIZE = 3_000, 100_000  # pieces small enough for the heap


@pytest.mark.skipif(memory._malloc_trim() is None, reason="no glibc")
def test_what_is_free_between_pieces_in_use_is_given_back() -> None:
    pieces = [bytearray(SIZE) for _ in range(HELD)]
    kept = pieces[::10]
    before = resident_bytes()
    del pieces
    memory.trim_heap()
    assert before - resident_bytes() > HELD * SIZE // 2
    assert all(len(piece) == SIZE for piece in kept)


@pytest.mark.parametrize(("found", "calls"), [(True, [0]), (False, [])])
def test_trim_heap_calls_malloc_trim_if_the_c_library_has_it(
    monkeypatch: pytest.MonkeyPatch, found: bool, calls: list[int]
) -> None:
    called: list[int] = []
    monkeypatch.setattr(memory, "_malloc_trim", lambda: called.append if found else None)
    memory.trim_heap()
    assert called == calls


def test_the_collector_does_not_walk_through_what_stays() -> None:
    stays: list[list[int]] = [[]]
    memory.freeze_gc()
    try:
        assert gc.get_freeze_count() > 0
        assert not any(thing is stays for thing in gc.get_objects())
    finally:
        gc.unfreeze()


def test_a_library_keeps_few_codes_unless_it_is_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN would keep one for each length of sound."""
    config, name = load(overrides=(f"model.name={make_tiny(tmp_path / 'tiny')}",)), "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    for own, kept in (("", "16"), ("5", "5")):
        monkeypatch.setenv(name, own)
        if not own:
            monkeypatch.delenv(name)
        load_engine(config)
        assert os.environ[name] == kept


SECOND = np.zeros(16_000, np.float32)


def test_it_is_given_back_after_every_job_but_partial_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(memory, "trim_heap", lambda: given.append("given"))
    worker, sound = Worker(ScriptedEngine()), AudioSegment(0, 16_000, 25)

    def done(*jobs: object) -> None:
        for job in jobs:
            worker.submit("s", job, lambda *_: None)  # type: ignore[arg-type]
        worker.run_all()

    done(CaptionJob(0, SECOND, None, final=False, max_tokens=9))
    assert given == [], "they are frequent, and the next needs the memory"
    done(CaptionJob(0, SECOND, None, final=True, max_tokens=9))
    assert given == ["given"]
    done(EncodeJob(0, sound, SECOND), ExtendJob((sound,), rebuild=False), AnswerJob((sound,), "What was said?", 9))
    assert given == ["given"] * 4  # not after every step of an answer


@pytest.mark.parametrize("equal", [True, False])
def test_a_head_that_equals_the_table_of_embeddings_is_held_once(tmp_path: Path, equal: bool) -> None:
    path = make_tiny(tmp_path / "tiny") / "model.safetensors"
    weights = load_file(path)
    if equal:
        weights["language_model.lm_head.weight"] = weights["language_model.model.embed_tokens.weight"].clone()
        save_file(weights, path, metadata={"format": "pt"})
    model = load_checkpoint(path.parent, ModelConfig()).model
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == equal
