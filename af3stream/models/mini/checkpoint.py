"""Write ``mini`` in the transformers layout, from the encoder of Whisper, Qwen2.5 and the trained parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from af3stream.models.mini import ctranslate2, qwen2, recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SOUND, SOUND_ID = "<sound>", 151_669  # as in the published checkpoint
END, END_ID = "<|im_end|>", 151_645
PAD, PAD_ID = "<|endoftext|>", 151_643
LORA_SCALE = 2.0  # alpha = 2 rank
WINDOW_S = 30
WINDOWS = 20  # AF3's ten minutes

Weights = dict[str, NDArray[Any]]


def write_checkpoint(folder: Path, *, whisper: Path, gguf: Path, trained: Path = recipe.TRAINED) -> None:
    """Write a checkpoint that stock ``from_pretrained`` and ``AutoProcessor`` load.

    Weights are stored in float16, and the configuration asks for float32. This halves the disk space, and every loader
    computes with the same numbers.

    Args:
        folder: the folder to create.
        whisper: Whisper base in the CTranslate2 layout.
        gguf: Qwen2.5-Coder-0.5B-Instruct.
        trained: the trained parts, as safetensors.
    """
    _write_processor(folder, read_tokenizer(gguf))
    _write_model(folder, _compose(ctranslate2.encoder_weights(whisper), qwen2.read_weights(gguf), trained))


def read_tokenizer(gguf: Path) -> PreTrainedTokenizerFast:
    """Return the language model's tokenizer, with ``<sound>`` on an unused row of its table."""
    return qwen2.read_tokenizer(gguf, {SOUND_ID: SOUND}, eos_token=END, pad_token=PAD, model_max_length=qwen2.POSITIONS)


def _compose(encoder: Weights, language: Weights, trained: Path) -> Weights:
    """Return all weights in float16, by the names of ``AudioFlamingo3ForConditionalGeneration.state_dict()``."""
    from safetensors.numpy import load_file

    weights = {f"audio_tower.{name}": value for name, value in encoder.items()}
    weights |= {f"language_model.{name}": value for name, value in language.items()}
    _lay_over(weights, load_file(trained))
    weights = {f"model.{name}": value.astype(np.float16) for name, value in weights.items()}
    head = weights[f"model.language_model.{qwen2.TABLE}"].copy()  # the layout cannot express a tied head
    return weights | {"lm_head.weight": head}


def _lay_over(weights: Weights, trained: Weights) -> None:
    """Replace tensors by trained ones of the same name, and add ``LORA_SCALE * B @ A`` of each adapter."""
    for name, value in trained.items():
        place, _, side = name.partition(".lora_")
        if not side:
            weights[name] = value
        elif side == "A.weight":
            up = trained[f"{place}.lora_B.weight"].astype(np.float32)  # (out, rank)
            down = value.astype(np.float32)  # (rank, in)
            weights[f"{place}.weight"] = weights[f"{place}.weight"] + LORA_SCALE * (up @ down)


def _write_model(folder: Path, weights: Weights) -> None:
    import torch
    from transformers import AudioFlamingo3ForConditionalGeneration, GenerationConfig

    layers = len({name for name in weights if re.fullmatch(r"model\.audio_tower\.layers\.\d+\.fc1\.bias", name)})
    with torch.device("meta"):
        model = AudioFlamingo3ForConditionalGeneration(_config(layers))
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, assign=True)
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=END_ID, pad_token_id=PAD_ID)
    model.save_pretrained(folder)
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)


def _config(encoder_layers: int) -> Any:
    from transformers import AudioFlamingo3Config, AudioFlamingo3EncoderConfig, Qwen2Config

    encoder = AudioFlamingo3EncoderConfig(
        num_mel_bins=80,
        num_hidden_layers=encoder_layers,
        num_attention_heads=8,
        intermediate_size=2_048,
        hidden_size=512,
    )
    language = Qwen2Config(
        vocab_size=qwen2.VOCABULARY,
        hidden_size=qwen2.HIDDEN,
        intermediate_size=qwen2.FFN,
        num_hidden_layers=qwen2.LAYERS,
        num_attention_heads=qwen2.HEADS,
        num_key_value_heads=qwen2.KV_HEADS,
        max_position_embeddings=qwen2.POSITIONS,
        rms_norm_eps=qwen2.NORM_EPS,
        rope_parameters={"rope_type": "default", "rope_theta": qwen2.ROPE_THETA},
        bos_token_id=PAD_ID,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    return AudioFlamingo3Config(audio_config=encoder, text_config=language, audio_token_id=SOUND_ID)


def _write_processor(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    from transformers import AudioFlamingo3Processor, WhisperFeatureExtractor

    AudioFlamingo3Processor(
        WhisperFeatureExtractor(feature_size=80, chunk_length=WINDOW_S),
        tokenizer,
        chat_template=recipe.CHAT_TEMPLATE.read_text(encoding="utf-8"),
        max_audio_len=WINDOWS * WINDOW_S,
    ).save_pretrained(folder)
