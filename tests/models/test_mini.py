"""The assembled ``mini``: stock transformers and faster-whisper load it, and it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from af3stream.models import manifest
from af3stream.models.registry import resolve

RECORDING = "sense_and_sensibility_01_austen_64kb-0930.wav"
WORDS = "he might even have been made amiable himself"

pytestmark = [pytest.mark.mini, pytest.mark.filterwarnings("ignore::DeprecationWarning:ctranslate2")]


@pytest.fixture(scope="module")
def stock(mini_folder: Path) -> tuple[Any, Any]:
    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    folder = mini_folder / "af3"
    return AudioFlamingo3ForConditionalGeneration.from_pretrained(folder), AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """3.3 s of speech, mono at 16 kHz, float32."""
    import soundfile

    samples, rate = soundfile.read(Path(__file__).parents[1] / "recordings" / RECORDING, dtype="float32")
    assert rate == 16_000
    return samples


def test_the_folder_is_intact_and_of_its_size(mini_folder: Path) -> None:
    assert manifest.problem(mini_folder, hashes=True) is None
    size = sum(file.size for file in manifest.describe(mini_folder))
    assert 500e6 < size < 550e6


def test_the_registry_knows_it(mini_folder: Path) -> None:
    checkpoint = resolve("mini")
    assert (checkpoint.name, checkpoint.notes) == ("mini", "all")
    assert (checkpoint.folder, checkpoint.captioner) == (mini_folder / "af3", mini_folder / "whisper-base")
    assert "Apache-2.0" in (checkpoint.licence or "")


def test_stock_classes_load_it_in_float32(stock: tuple[Any, Any]) -> None:
    import torch

    model, processor = stock
    assert type(processor).__name__ == "AudioFlamingo3Processor"
    assert model.dtype == torch.float32
    parameters = sum(parameter.numel() for parameter in model.parameters())  # the head is a second table here
    assert parameters == pytest.approx(190e6, rel=0.01)
    assert model.config.text_config.max_position_embeddings == 8_192
    assert (processor.audio_token_id, model.config.audio_token_id) == (49_152, 49_152)
    assert processor.max_audio_len == 300
    assert (model.generation_config.do_sample, model.generation_config.eos_token_id) == (False, 2)


def test_every_weight_is_exact_in_the_file(mini_folder: Path) -> None:
    from safetensors.numpy import load_file

    weights = load_file(mini_folder / "af3" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float16)}
    assert all(np.isfinite(value).all() for value in weights.values())
    assert json.loads((mini_folder / "af3" / "config.json").read_text())["dtype"] == "float32"


def test_the_prompt_has_no_system_turn_and_audio_comes_first(stock: tuple[Any, Any]) -> None:
    turn = {"role": "user", "content": [{"type": "text", "text": "What was said?"}, {"type": "audio", "path": "a"}]}
    prompt = stock[1].apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
    assert prompt == "<|im_start|>user\n<sound>What was said?<|im_end|>\n<|im_start|>assistant\n"


def test_stock_generate_finds_words_in_the_notes(stock: tuple[Any, Any], audio: np.ndarray) -> None:
    model, processor = stock
    prompt = f"<|im_start|>user\n<sound>Transcript: {WORDS}.\nWhat was said?<|im_end|>\n<|im_start|>assistant\n"
    inputs = processor(text=[prompt], audio=[audio], sampling_rate=16_000)
    output = model.generate(**inputs, max_new_tokens=24)[0, inputs["input_ids"].shape[1] :]
    assert "amiable" in processor.decode(output, skip_special_tokens=True)


def test_the_captioner_hears_every_word(mini_folder: Path, audio: np.ndarray) -> None:
    from faster_whisper import WhisperModel

    captioner = WhisperModel(str(mini_folder / "whisper-base"), device="cpu", compute_type="int8", cpu_threads=1)
    segments, _ = captioner.transcribe(audio, language="en", beam_size=1)
    heard = " ".join(segment.text for segment in segments)
    assert "".join(letter for letter in heard.lower() if letter.isalpha() or letter == " ").split() == WORDS.split()
