"""A run small enough for a test: the tiny checkpoint, texts of its own, and clips of noise with a few words each."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest

from tests.checkpoints import make_tiny
from training import corpus, texts
from training.corpus import Clip

SENTENCES = [
    "What was said in the last minute?",
    "Rain on the roof of the house.",
    "Anna here. The audio is a transcript.",
    "Ben speaking. The speech is spoken.",
    "He might even have been made amiable himself.",
    "The content of the input is a sound.",
]


TEXTS = Path(__file__).parent / "texts"


@pytest.fixture(autouse=True)
def small_texts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of the repository in place of those that `training/packages.sh` installs."""
    jargon = tmp_path_factory.mktemp("texts") / "jargon.dict.dz"
    jargon.write_bytes(gzip.compress((TEXTS / "jargon.txt").read_bytes()))
    monkeypatch.setattr(texts, "WORDNET", TEXTS)
    monkeypatch.setattr(texts, "FORTUNES", TEXTS)
    monkeypatch.setattr(texts, "JARGON", jargon)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def model(tiny: Path) -> tuple[Any, Any]:
    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    loaded = AudioFlamingo3ForConditionalGeneration.from_pretrained(tiny)
    return loaded.eval().requires_grad_(False), AutoProcessor.from_pretrained(tiny)


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training and validation clips; every sentence is a tone of its own, and any text is in both sets."""
    monkeypatch.setattr(texts, "collected", lambda: SENTENCES)
    monkeypatch.setattr(texts, "held_out", lambda text: ANY)
    rng = np.random.default_rng(0)
    for part in ("corpus", "validation"):
        (tmp_path / part).mkdir()
        corpus.save(tmp_path / part / "0000.npz", [tone(k, text, rng) for k, text in enumerate(SENTENCES)])
    return tmp_path


def tone(k: int, text: str, rng: np.random.Generator) -> Clip:
    t = np.arange(32_000) / 16_000
    samples = 0.3 * np.sin(2 * np.pi * (200 + 150 * k) * t) + 0.01 * rng.standard_normal(len(t))
    return Clip((samples * 32_767).astype(np.int16), text, "tone")
