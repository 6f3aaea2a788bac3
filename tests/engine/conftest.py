"""Engines on tiny checkpoints, shared by the tests of the room.

Tests that are marked `device` run on the device that ``AF3STREAM_TEST_DEVICE`` names, by default a CPU:
``AF3STREAM_TEST_DEVICE=cuda pytest -m device tests/engine``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from string import ascii_lowercase, digits
from types import SimpleNamespace
from typing import Any, Final
from weakref import WeakSet

import pytest
import torch

from af3stream.config import ModelConfig
from af3stream.engine import engine_core
from af3stream.engine.af3.checkpoint import LoadedCheckpoint, load_checkpoint
from af3stream.engine.af3.context import PrefixContext
from af3stream.engine.af3.decode import Decoder
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.kv import Slot
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSource, Completion, Context, Engine, PromptPart, Text
from af3stream.engine.encoded_audio import EncodedAudio
from af3stream.engine.worker import Worker
from tests.checkpoints import make_tiny

DEVICE: Final = os.environ.get("AF3STREAM_TEST_DEVICE", "cpu")
cpu_only = pytest.mark.skipif(DEVICE != "cpu", reason="what a CPU alone does")
if DEVICE != "cpu":
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # by default convolutions round float32 to TF32


def model_config(**settings: Any) -> ModelConfig:
    """Return a configuration on the device under test."""
    return ModelConfig(device=DEVICE, **settings)


def noise(*shape: int) -> torch.Tensor:
    """Return normal random numbers, the same on every device."""
    return torch.randn(*shape).to(DEVICE)


@pytest.fixture(scope="session", params=["llama", "qwen2"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    """A tiny checkpoint, once with each kind of language model."""
    folder = make_tiny(tmp_path_factory.mktemp(request.param), text=request.param)
    return load_checkpoint(folder, model_config())


@pytest.fixture(params=["sdpa", "eager"], scope="session")
def any_attention(request: pytest.FixtureRequest, tiny_folder: Path) -> LoadedCheckpoint:
    """A tiny checkpoint, once with each attention implementation that a CPU runs."""
    return load_checkpoint(tiny_folder, model_config(attention=request.param))


@pytest.fixture
def engine(loaded: LoadedCheckpoint) -> Af3Engine:
    """A fresh engine, its counters at zero."""
    return Af3Engine(loaded, "tiny")


@pytest.fixture
def even_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes the device the same time, a millisecond."""
    ticks = count()
    monkeypatch.setattr(engine_core, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 1000))


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> WeakSet[Slot]:
    """All slots that were made and are not freed."""
    living: WeakSet[Slot] = WeakSet()
    new_slot = Decoder.new_slot

    def noted(decoder: Decoder, capacity: int) -> Slot:
        living.add(slot := new_slot(decoder, capacity))
        return slot

    monkeypatch.setattr(Decoder, "new_slot", noted)
    return living


AUDIO: Final = EncodedAudio()  # what `parts_of` encoded


def parts_of(engine: Af3Engine, body: Sequence[Samples | str]) -> list[PromptPart]:
    """Windows and notes as parts; their samples and embeddings are in `AUDIO`."""
    segments = iter(AUDIO.encode(engine, [part for part in body if not isinstance(part, str)]))
    return [Text(part) if isinstance(part, str) else next(segments) for part in body]


def new_context(engine: Af3Engine) -> PrefixContext:
    """An empty context, which finds the embeddings of `AUDIO`."""
    return engine.context(AUDIO.embeddings)


def new_worker(engine: Engine, model: ModelConfig | None = None, source: AudioSource = AUDIO) -> Worker:
    """A worker with sessions named by a letter or a digit, whose audio is read again from ``source``."""
    worker = Worker(engine, model)
    for session in (*ascii_lowercase, *digits):
        worker.open(session, source, lambda _: None)
    return worker


def answer(context: Context, parts: Sequence[PromptPart], question: str, max_tokens: int) -> tuple[str, Completion]:
    """An answer's whole text, and how it ended."""
    *pieces, completion = context.answer(parts, question, max_tokens)
    assert isinstance(completion, Completion)
    return "".join(piece for piece in pieces if isinstance(piece, str)), completion
