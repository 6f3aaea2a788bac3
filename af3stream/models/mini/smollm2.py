"""Reads SmolLM2's weights and tokenizer from its GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HEADS, KV_HEADS = 9, 3
CONTROL = 3  # the GGUF token type of special tokens

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "embed_tokens", "output_norm": "norm"}


def read(path: Path) -> tuple[dict[str, NDArray[np.float32]], Tokenizer]:
    """The weights, dequantised, under the names of ``LlamaModel.state_dict()``, and the tokenizer."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    return _weights(reader), _tokenizer(reader)


def _weights(reader: Any) -> dict[str, NDArray[np.float32]]:
    from gguf.quants import dequantize

    weights: dict[str, NDArray[np.float32]] = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type)
        place, *rest = tensor.name.removesuffix(".weight").split(".")
        if place != "blk":
            weights[f"{TOP_NAMES[place]}.weight"] = value
            continue
        layer, part = rest
        if part in ("attn_q", "attn_k"):
            value = _halves(value, HEADS if part == "attn_q" else KV_HEADS)
        weights[f"layers.{layer}.{LAYER_NAMES[part]}.weight"] = value
    return weights


def _halves(value: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo GGUF's interleaving: rotary pairs stand half a head apart in transformers, side by side in GGUF."""
    rows, columns = value.shape
    pairs = value.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(reader: Any) -> Tokenizer:
    """The byte-level BPE; its merges hold no digits, so numbers are read digit by digit."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    pieces: list[str] = reader.fields["tokenizer.ggml.tokens"].contents()
    types: list[int] = reader.fields["tokenizer.ggml.token_type"].contents()
    merges: list[str] = reader.fields["tokenizer.ggml.merges"].contents()
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate(pieces)},
            merges=[(left, right) for left, _, right in (merge.partition(" ") for merge in merges)],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [piece for piece, kind in zip(pieces, types, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in specials])
    return tokenizer
