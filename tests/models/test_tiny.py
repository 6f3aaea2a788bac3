"""The tiny checkpoints that tests of the engine stand on behave like real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from af3stream.models.registry import check
from tests.checkpoints import make_tiny


def answer(folder: Path, audio: np.ndarray, question: str) -> list[int]:
    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    model = AudioFlamingo3ForConditionalGeneration.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    turn = {"role": "user", "content": [{"type": "audio", "path": "a"}, {"type": "text", "text": question}]}
    prompt = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[prompt], audio=[audio], sampling_rate=16_000)
    output = model.generate(**inputs, max_new_tokens=16)
    return [int(token) for token in output[0, inputs["input_ids"].shape[1] :]]


@pytest.mark.parametrize("text", ["llama", "qwen2"])
def test_greedy_answers_depend_on_the_audio_and_on_the_question(
    text: Literal["llama", "qwen2"], tmp_path: Path
) -> None:
    folder = make_tiny(tmp_path / "tiny", text=text, chunk_length=2, positions=512)
    assert check(folder).folder == folder
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 32_000)).astype(np.float32)
    first = answer(folder, noise[0], "What was said?")
    assert first == answer(folder, noise[0], "What was said?")
    assert first != answer(folder, noise[1], "What was said?")
    assert first != answer(folder, noise[0], "Who said it?")
    assert len(set(first)) > 4


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    one, again, other = (make_tiny(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, again, other)]
    assert weights[0] == weights[1] != weights[2]
