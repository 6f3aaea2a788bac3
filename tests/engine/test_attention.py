"""Attention over slots, and matrix products, are what the plain formulas give, wherever the cuts fall."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from af3stream.engine.af3 import linear
from af3stream.engine.af3.attention import BLOCKS, LONG, _over_slot
from af3stream.engine.af3.linear import BLOCKS as ROW_BLOCKS
from af3stream.engine.af3.linear import (
    FEW,
    FEW_BYTES,
    MANY,
    EightBitLinear,
    FewRowsLinear,
    keep_in_eight_bits,
    read_with_all_cores,
)

KV_HEADS, GROUP, HEAD_DIM = 3, 3, 16
HELD = (1, 2, 127, 600, LONG, LONG + 1, LONG + BLOCKS - 1, 3 * LONG + 5)


def plain(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
    """Softmax attention in float64, the last query seeing the last key: (1, q, heads, head_dim)."""
    keys, values = (view.double().repeat_interleave(GROUP, dim=1) for view in (keys, values))
    scores = query.double() @ keys.transpose(2, 3) * scaling
    new, held = scores.shape[2:]
    later = torch.ones(new, held, dtype=torch.bool).triu(held - new + 1)
    return (scores.masked_fill(later, -torch.inf).softmax(-1) @ values).transpose(1, 2)


@pytest.mark.parametrize(("new", "held"), [(new, held) for new in (1, 2, 24, 128) for held in HELD if new <= held])
def test_attention_over_a_slot_is_softmax_attention(new: int, held: int) -> None:
    torch.manual_seed(held)
    slot = torch.randn(2, 1, KV_HEADS, held + 50, HEAD_DIM)
    slot[:, :, :, held:] = torch.nan  # what is not held yet is not looked at
    query = torch.randn(1, new, KV_HEADS * GROUP, HEAD_DIM).transpose(1, 2)
    keys, values = slot[0, :, :, :held], slot[1, :, :, :held]
    result = _over_slot(query, keys, values, 0.3)
    assert result.shape == (1, new, KV_HEADS * GROUP, HEAD_DIM)
    torch.testing.assert_close(result.double(), plain(query, keys, values, 0.3), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rows", [(1,), (1, 1), (FEW, 1), (1, FEW), (FEW + 1,), (2, 7), (MANY + 1,)])
@pytest.mark.parametrize("out", [ROW_BLOCKS * 4, ROW_BLOCKS * 4 + 3, 5])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_few_rows_times_a_matrix(
    monkeypatch: pytest.MonkeyPatch, rows: tuple[int, ...], out: int, bias: bool, shared: bool
) -> None:
    """Also where the library leaves few rows to one core."""
    monkeypatch.setattr(linear, "shared_by_the_library", lambda: shared)
    torch.manual_seed(out)
    layer = nn.Linear(24, out, bias=bias)
    read = nn.Linear(24, out, bias=bias)
    read.load_state_dict(layer.state_dict())
    read_with_all_cores(nn.ModuleList([read]))
    given = torch.randn(*rows, 24)
    assert type(read) is FewRowsLinear and read(given).is_contiguous()
    torch.testing.assert_close(read(given), layer(given), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rows", [(1,), (3, 2), (FEW_BYTES,), (FEW_BYTES + 1,), (2, 100)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_in_eight_bits_give_nearly_the_same(rows: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(len(rows))
    layer = nn.Linear(64, 48, bias=bias).requires_grad_(False).to(dtype)
    narrow = nn.ModuleList([layer])
    keep_in_eight_bits(narrow)
    given = torch.randn(*rows, 64).to(dtype)
    product, plain = narrow[0](given), layer(given)
    assert isinstance(narrow[0], EightBitLinear) and not list(narrow[0].parameters())[int(bias) :]
    assert (product.shape, product.dtype) == (plain.shape, plain.dtype)
    assert (product - plain).norm() < 0.02 * plain.norm()


def test_a_row_of_zeros_stays_zero() -> None:
    layer = nn.Linear(64, 32, bias=False).requires_grad_(False)
    layer.weight[5] = 0.0
    assert EightBitLinear(layer)(torch.ones(1, 64))[0, 5] == 0.0
