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
Tensors = tuple[torch.Tensor | None, ...]
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
        self._before = [_before(layer) for layer in language_model.layers]
        self._after = [_after(layer) for layer in language_model.layers]
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


def _before(layer: Any) -> Tensors:
    """A layer's weights that come before its attention."""
    own = layer.self_attn
    parts = [part for linear in (own.q_proj, own.k_proj, own.v_proj) for part in (linear.weight, linear.bias)]
    return (layer.input_layernorm.weight, *parts)


def _after(layer: Any) -> Tensors:
    """A layer's weights that come after its attention."""
    parts = [(each.weight, each.bias) for each in (layer.self_attn.o_proj, *_feed_forward(layer.mlp))]
    return (layer.post_attention_layernorm.weight, *(part for pair in parts for part in pair))


def _feed_forward(mlp: Any) -> tuple[Any, Any, Any]:
    return mlp.gate_proj, mlp.up_proj, mlp.down_proj


def _normed(rows: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm, in float32 as transformers computes it."""
    wide = rows.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(rows.dtype)


def _enter(
    rows: torch.Tensor, before: Any, turns: tuple[torch.Tensor, torch.Tensor], head_dim: int, eps: float
) -> Heads:
    """Rows (rows, hidden) to what the attention takes, turned to their positions."""
    norm, *weights = before
    normed = _normed(rows, norm, eps)
    query, key, value = (
        product(normed, weight, bias).view(len(rows), -1, 1, head_dim)
        for weight, bias in zip(weights[::2], weights[1::2], strict=True)
    )
    query, key = apply_rotary_pos_emb(query, key, *turns)
    return query, key, value


def _feed(rows: torch.Tensor, mixed: torch.Tensor, after: Any, eps: float) -> torch.Tensor:
    """What leaves a layer, (rows, hidden), of what entered it and what its attention gave, (rows, heads * head_dim)."""
    norm, *weights = after
    out, gate, up, down = zip(weights[::2], weights[1::2], strict=True)
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
