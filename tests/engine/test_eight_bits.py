"""Weights in eight bits: an option of their own, exact against the same weights, refused where they cannot run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from af3stream.config import ModelConfig
from af3stream.engine.af3.checkpoint import LoadedCheckpoint, load_checkpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.linear import EightBitLinear
from af3stream.engine.captioning import Samples
from af3stream.errors import ModelError
from tests.engine.conftest import answer, new_context, parts_of

TOKENS = 16


def narrow_layers(loaded: LoadedCheckpoint) -> int:
    return sum(isinstance(layer, EightBitLinear) for layer in loaded.model.modules())


def test_weights_stay_as_they_are_where_nothing_is_said(tiny_folder: Path) -> None:
    assert narrow_layers(load_checkpoint(tiny_folder, ModelConfig())) == 0


def test_all_layers_of_the_language_model_and_nothing_else(tiny_folder: Path) -> None:
    loaded = load_checkpoint(tiny_folder, ModelConfig(weights="int8"))
    layers = loaded.model.model.language_model.layers
    assert narrow_layers(loaded) == 7 * len(layers)
    assert not any(parameter.ndim > 1 for parameter in layers.parameters())  # the wide ones are given up


def test_what_is_kept_changes_no_answer(tiny_folder: Path, signal: Callable[[float, int], Samples]) -> None:
    engine = Af3Engine(load_checkpoint(tiny_folder, ModelConfig(weights="int8")), "tiny")
    parts = parts_of(engine, [signal(7.0, 1), signal(4.0, 2)])
    kept, fresh = new_context(engine), new_context(engine)
    list(kept.extend(parts))
    again = [answer(kept, parts, "What was said?", TOKENS)[0] for _ in range(2)]
    assert again == [answer(fresh, parts, "What was said?", TOKENS)[0]] * 2 != ["", ""]


def test_elsewhere_than_on_a_cpu_and_with_compiled_code_it_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="is for a CPU"):
        load_checkpoint(tiny_folder, ModelConfig(weights="int8", device="meta"))
    with pytest.raises(ModelError, match="no weights in eight bits"):
        load_checkpoint(tiny_folder, ModelConfig(weights="int8", compile=True))
