"""Decoding as compiled code: what a layer does after its attention and the next before its own is one function.

One position a row is little arithmetic in many small operations; compiled, they are a few loops that read each weight
once. Attention over slots stays as it is, and the layers' formulas are those of transformers' Llama and Qwen2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.nn.functional import silu
from transformers import AttentionInterface
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from af3stream.engine.af3.kv import Rows, Slot
from af3stream.engine.af3.linear import product

ARCHITECTURES: Final = ("llama", "qwen2")
Linear = tuple[torch.Tensor, torch.Tensor | None]  # weights (out, in), and a bias (out,) or none
Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # query, key, value: (rows, heads, 1, head_dim) each


class CompiledDecoding:
    """Reads one position a row as a language model's own forward pass does, for few rows.

    Compiling takes half a minute, when it is first called on a machine; then it is found again in the cache folder.

    Args:
        language_model: of a known architecture; its weights are used in place.

    Raises:
        ValueError: for another architecture.
    """

    def __init__(self, language_model: Any) -> None:
        config = language_model.config
        if config.model_type not in ARCHITECTURES or config.hidden_act != "silu":
            raise ValueError(f"model.compile knows {' and '.join(ARCHITECTURES)}, not {config.model_type}")
        self._model = language_model
        self._before = [
            (layer.input_layernorm.weight, *_linears(layer.self_attn, "q_proj", "k_proj", "v_proj"))
            for layer in language_model.layers
        ]
        self._after = [
            (
                layer.post_attention_layernorm.weight,
                *_linears(layer.self_attn, "o_proj"),
                *_linears(layer.mlp, "gate_proj", "up_proj", "down_proj"),
            )
            for layer in language_model.layers
        ]
        self._norm_eps: float = language_model.norm.variance_epsilon
        self._enter = torch.compile(_enter, dynamic=True)
        self._between = torch.compile(_between, dynamic=True)
        self._leave = torch.compile(_leave, dynamic=True)

    @torch.inference_mode()
    def __call__(self, slots: Sequence[Slot], rows: torch.Tensor) -> torch.Tensor:
        """States (rows, hidden) of embeddings (rows, hidden), each row after what its slot holds."""
        model, eps = self._model, self._norm_eps
        cache, attend = Rows(slots), AttentionInterface()[model.config._attn_implementation]
        positions = torch.tensor([slot.length for slot in slots], device=rows.device)[:, None]
        turns: tuple[torch.Tensor, torch.Tensor] = model.rotary_emb(rows[:, None], position_ids=positions)
        head_dim, last = model.layers[0].self_attn.head_dim, len(model.layers) - 1
        heads = self._enter(rows, self._before[0], turns, head_dim, eps)
        for index, layer in enumerate(model.layers):
            query, key, value = heads
            keys, values = cache.update(key, value, index)
            own = layer.self_attn
            mixed = attend(own, query, keys, values, None, scaling=own.scaling)[0].reshape(len(rows), -1)
            if index == last:
                break
            rows, heads = self._between(rows, mixed, self._after[index], self._before[index + 1], turns, head_dim, eps)
        states: torch.Tensor = self._leave(rows, mixed, self._after[last], model.norm.weight, eps)
        return states


def _linears(block: Any, *names: str) -> list[Linear]:
    return [(getattr(block, name).weight, getattr(block, name).bias) for name in names]


def _normed(rows: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm, in float32 as transformers computes it."""
    wide = rows.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(rows.dtype)


def _enter(
    rows: torch.Tensor, before: Any, turns: tuple[torch.Tensor, torch.Tensor], head_dim: int, eps: float
) -> Heads:
    """Rows (rows, hidden) to what the attention takes, turned to their positions."""
    norm, *linears = before
    normed = _normed(rows, norm, eps)
    query, key, value = (product(normed, *linear).view(len(rows), -1, 1, head_dim) for linear in linears)
    query, key = apply_rotary_pos_emb(query, key, *turns)
    return query, key, value


def _feed(rows: torch.Tensor, mixed: torch.Tensor, after: Any, eps: float) -> torch.Tensor:
    """What leaves a layer, (rows, hidden), of what entered it and what its attention gave, (rows, heads * head_dim)."""
    norm, out, gate, up, down = after
    rows = rows + product(mixed, *out)
    normed = _normed(rows, norm, eps)
    return rows + product(silu(product(normed, *gate)) * product(normed, *up), *down)


def _between(
    rows: torch.Tensor,
    mixed: torch.Tensor,
    after: Any,
    before: Any,
    turns: tuple[torch.Tensor, torch.Tensor],
    head_dim: int,
    eps: float,
) -> tuple[torch.Tensor, Heads]:
    rows = _feed(rows, mixed, after, eps)
    return rows, _enter(rows, before, turns, head_dim, eps)


def _leave(rows: torch.Tensor, mixed: torch.Tensor, after: Any, norm: torch.Tensor, eps: float) -> torch.Tensor:
    return _normed(_feed(rows, mixed, after, eps), norm, eps)
