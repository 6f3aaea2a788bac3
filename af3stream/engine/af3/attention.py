"""Attend from new positions to what slots hold, without masks and without copies of keys and values.

A row's new positions see each other causally, and all positions before them. The two parts are computed separately and
merged by their log-sum-exps. The part over the past, which is nearly all of the work, needs no mask, and query heads
that share a key-value head are one long query. The result equals softmax attention over all positions, to rounding.

transformers' models call it by the name that `implementation` returns. Rows of different lengths are lists of views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import torch
from transformers import AttentionInterface
from transformers.models.llama.modeling_llama import eager_attention_forward

BLOCKS: Final = 4  # blocks that one position's past is cut into, so that several cores read it
LONG: Final = 2_048  # keys from which cutting the past is faster

Views = Sequence[torch.Tensor]  # of each row, (1, kv_heads, held, head_dim)
Part = tuple[torch.Tensor, torch.Tensor]  # (1, kv_heads, queries, head_dim), and log-sum-exps (1, kv_heads, queries)


def implementation(base: str) -> str:
    """Register attention over slots, and return its name; rows use transformers' ``base`` except on a CPU."""
    name = f"slots_{base}"
    AttentionInterface.register(name, partial(_attend, base))
    return name


def _attend(
    base: str,
    module: Any,
    query: torch.Tensor,
    keys: Views,
    values: Views,
    _mask: None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend from (rows, heads, q, head_dim) to what the slots hold; return (rows, q, heads, head_dim)."""
    own = base == "sdpa" and query.device.type in ("cpu", "meta")
    attend: Callable[..., torch.Tensor] = _over_slot if own else partial(_stock, base, module)
    if len(query) == 1:
        return attend(query, keys[0], values[0], scaling), None
    rows = [attend(row, k, v, scaling) for row, k, v in zip(torch.split(query, 1), keys, values, strict=True)]
    return torch.cat(rows), None


def _stock(
    base: str, module: Any, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Attend for one row with transformers' implementation, with the mask that it takes."""
    new, held = query.shape[2], keys.shape[2]
    mask = None
    if new > 1 and "flash" not in base:
        mask = torch.full((1, 1, new, held), -torch.inf, dtype=query.dtype, device=query.device).triu(held - new + 1)
    attend = eager_attention_forward if base == "eager" else AttentionInterface()[base]
    output: torch.Tensor = attend(module, query, keys, values, mask, scaling=scaling, dropout=0.0)[0]
    return output


def _over_slot(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
    """Attend on a CPU from (1, heads, q, head_dim) to (1, kv_heads, held, head_dim); return (1, q, heads, head_dim)."""
    _, heads, new, head_dim = query.shape
    kv_heads, held = keys.shape[1:3]
    if new == 1 and held < LONG:  # one head for each core is enough work
        return _flash(query, keys, values, scaling)[0].transpose(1, 2)
    past = held - new if new > 1 else held
    folded = query.reshape(1, kv_heads, heads // kv_heads * new, head_dim)
    parts = _over_past(folded, keys[:, :, :past], values[:, :, :past], scaling) if past else []
    if new > 1:
        output, sums = _flash(query, keys[:, :, past:], values[:, :, past:], scaling, causal=True)
        parts.append((output.reshape(folded.shape), sums.reshape(folded.shape[:3])))
    return _merged(parts).reshape(1, heads, new, head_dim).transpose(1, 2)


def _over_past(folded: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> list[Part]:
    """Attend to keys that all queries see; for few queries, to blocks of the keys side by side."""
    kv_heads, held, head_dim = keys.shape[1:]
    if held < LONG or folded.shape[2] >= head_dim:  # there is enough work for all cores
        return [_flash(folded, keys, values, scaling)]
    block = held // BLOCKS
    cut = [view[0, :, : block * BLOCKS].view(kv_heads, BLOCKS, block, head_dim) for view in (keys, values)]
    outputs, sums = _flash(folded.expand(BLOCKS, -1, -1, -1), cut[0].transpose(0, 1), cut[1].transpose(0, 1), scaling)
    parts = list(zip(torch.split(outputs, 1), torch.split(sums, 1), strict=True))
    if rest := held - block * BLOCKS:
        parts.append(_flash(folded, keys[:, :, -rest:], values[:, :, -rest:], scaling))
    return parts


def _flash(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float, *, causal: bool = False
) -> Part:
    output, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, 0.0, causal, scale=scaling
    )
    return output, sums


def _merged(parts: list[Part]) -> torch.Tensor:
    """Merge attention over disjoint sets of keys to attention over all of them; return (1, kv_heads, q, head_dim)."""
    if len(parts) == 1:
        return parts[0][0]
    outputs = torch.stack([output for output, _ in parts])
    weights = torch.stack([sums for _, sums in parts]).softmax(0).to(outputs.dtype)
    return torch.einsum("pbhqd,pbhq->bhqd", outputs, weights)
