"""Writes ``mini`` in the transformers layout, from Whisper's encoder, SmolLM2 and the trained parts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from af3stream.models.mini import ctranslate2, recipe, smollm2

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SOUND = "<sound>"
LORA_SCALE = 2.0  # alpha 64 / rank 32
END, BEGIN, UNKNOWN = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
END_ID = 2
POSITIONS = 8_192
WINDOW_S = 30
WINDOWS = 10  # of 750 tokens each, with room for a question and an answer within the positions

Weights = dict[str, NDArray[Any]]


def write_checkpoint(folder: Path, *, whisper: Path, gguf: Path, trained: Path = recipe.TRAINED) -> None:
    """Write the checkpoint that stock ``from_pretrained`` and ``AutoProcessor`` load.

    Weights are stored in float16, and the configuration asks for float32: half the disk, and every loader computes
    with the same numbers.

    Args:
        folder: created.
        whisper: Whisper base in the CTranslate2 layout.
        gguf: SmolLM2-135M-Instruct.
        trained: what was trained, as safetensors.
    """
    language, tokenizer = smollm2.read(gguf)
    _write_processor(folder, tokenizer)
    _write_model(folder, _compose(ctranslate2.encoder_weights(whisper), language, trained))


def _compose(encoder: Weights, language: Weights, trained: Path) -> Weights:
    """All weights under the names of ``AudioFlamingo3ForConditionalGeneration.state_dict()``, float16."""
    from safetensors.numpy import load_file

    embeddings = language["embed_tokens.weight"]  # (49152, 576), also the head
    embeddings = np.concatenate([embeddings, embeddings.mean(0, keepdims=True)])  # <sound>: never the likeliest
    language = language | {"embed_tokens.weight": embeddings}
    weights = {f"audio_tower.{name}": value for name, value in encoder.items()}
    weights |= {f"language_model.{name}": value for name, value in language.items()}
    _lay_over(weights, load_file(trained))
    weights = {f"model.{name}": value for name, value in weights.items()} | {"lm_head.weight": embeddings}
    return {name: value.astype(np.float16) for name, value in weights.items()}


def _lay_over(weights: Weights, trained: Weights) -> None:
    """Let trained tensors replace their namesakes, and add ``LORA_SCALE * B @ A`` of each adapter to its own."""
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
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=END_ID, pad_token_id=END_ID)
    model.save_pretrained(folder)
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)


def _config(encoder_layers: int) -> Any:
    from transformers import AudioFlamingo3Config, AudioFlamingo3EncoderConfig, LlamaConfig

    encoder = AudioFlamingo3EncoderConfig(
        num_mel_bins=80,
        num_hidden_layers=encoder_layers,
        num_attention_heads=8,
        intermediate_size=2_048,
        hidden_size=512,
    )
    language = LlamaConfig(
        vocab_size=49_153,
        hidden_size=576,
        intermediate_size=1_536,
        num_hidden_layers=30,
        num_attention_heads=smollm2.HEADS,
        num_key_value_heads=smollm2.KV_HEADS,
        max_position_embeddings=POSITIONS,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        bos_token_id=1,
        eos_token_id=END_ID,
        pad_token_id=END_ID,
    )
    return AudioFlamingo3Config(audio_config=encoder, text_config=language, audio_token_id=49_152)


def _write_processor(folder: Path, tokenizer: Tokenizer) -> None:
    from tokenizers import AddedToken
    from transformers import AudioFlamingo3Processor, PreTrainedTokenizerFast, WhisperFeatureExtractor

    tokenizer.add_special_tokens([AddedToken(SOUND, normalized=False, special=True)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    AudioFlamingo3Processor(
        WhisperFeatureExtractor(feature_size=80, chunk_length=WINDOW_S),
        fast,
        chat_template=recipe.CHAT_TEMPLATE.read_text(encoding="utf-8"),
        max_audio_len=WINDOWS * WINDOW_S,
    ).save_pretrained(folder)
