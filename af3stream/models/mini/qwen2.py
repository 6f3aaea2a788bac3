"""Read the weights and the tokenizer of Qwen2.5 from a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LAYERS, HIDDEN, FFN = 24, 896, 4_864
HEADS, KV_HEADS = 14, 2
VOCABULARY = 151_936  # rows of the table; the last 271 belong to no token
POSITIONS = 32_768
ROPE_THETA = 1_000_000.0
NORM_EPS = 1e-6

CONTROL = 3  # the GGUF token type of special tokens
UNUSED = 5  # of rows without a token

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
TABLE = "embed_tokens.weight"
TOP_NAMES = {"output.weight": TABLE, "output_norm.weight": "norm.weight"}
# The embeddings equal the head. The file stores the head with more bits (Q8_0 instead of Q5_0).
LEFT_OUT = "token_embd.weight"


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the dequantised weights by the names of ``Qwen2Model.state_dict()``."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    return {
        _name(tensor.name): dequantize(tensor.data, tensor.tensor_type)
        for tensor in GGUFReader(path).tensors
        if tensor.name != LEFT_OUT
    }


def _name(name: str) -> str:
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    _, layer, part, kind = name.split(".")
    return f"layers.{layer}.{LAYER_NAMES[part]}.{kind}"


def read_tokenizer(path: Path, extra: dict[int, str], **settings: Any) -> PreTrainedTokenizerFast:
    """Return the tokenizer, with extra special tokens on unused rows of its table.

    Args:
        path: the GGUF file.
        extra: special tokens by row.
        settings: further arguments of ``Qwen2Tokenizer``.

    Raises:
        ValueError: if a row of ``extra`` belongs to a token.
    """
    from gguf import GGUFReader
    from transformers import AddedToken, Qwen2Tokenizer

    fields = GGUFReader(path).fields
    pieces: list[str] = fields["tokenizer.ggml.tokens"].contents()
    types: list[int] = fields["tokenizer.ggml.token_type"].contents()
    for row, token in extra.items():
        if types[row] != UNUSED:
            raise ValueError(f"row {row} of {path.name} belongs to {pieces[row]!r}, so it cannot be {token!r}")
        pieces[row], types[row] = token, CONTROL
    merges: list[str] = fields["tokenizer.ggml.merges"].contents()
    vocabulary = {piece: row for row, piece in enumerate(pieces)}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[tuple(merge.split(" ")) for merge in merges], **settings)
    specials = [piece for piece, kind in zip(pieces, types, strict=True) if kind == CONTROL]
    tokenizer.add_tokens([AddedToken(piece, normalized=False, special=True) for piece in specials])
    return tokenizer
