"""Multiply matrices on a CPU: few rows with all cores, where the library uses one; and with narrower weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import embedding, linear

FEW: Final = 8  # rows up to which reading the weights costs more than computing with them
MANY: Final = 384  # rows above which the library's own product is as fast
BLOCKS: Final = 8  # blocks of a weight's rows that few rows are multiplied with side by side
FEW_BYTES: Final = 16  # rows up to which torch's product with int8 is faster than one with the weights widened


class FewRowsLinear(nn.Linear):
    """`nn.Linear` that uses all cores, whatever the number of rows."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (..., out) of rows (..., in)."""
        return product_by_all_cores(rows, self.weight, self.bias)


@cache
def shared_by_the_library() -> bool:
    """Return whether the library multiplies few rows with all cores. It does on Intel's CPUs, and not on AMD's."""
    return "Intel" in torch.cpu.get_capabilities().get("cpu_name", "")


def product_by_all_cores(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return rows (..., in) times weights (out, in), plus a bias (out,): (..., out).

    If the library would multiply few rows with one core, the weights are viewed as blocks of their rows.
    """
    if rows.numel() > MANY * weight.shape[1] or shared_by_the_library():
        return linear(rows, weight, bias)
    given = rows.reshape(-1, weight.shape[1])
    few = len(given) <= FEW
    blocks = BLOCKS if few else torch.get_num_threads()
    even = len(weight) // blocks * blocks
    cut = weight[:even].view(blocks, -1, weight.shape[1])
    if few:
        products = torch.bmm(cut, given.T.expand(blocks, -1, -1)).flatten(0, 1).T
    else:
        products = torch.bmm(given.expand(blocks, -1, -1), cut.transpose(1, 2)).transpose(0, 1).flatten(1)
    if even < len(weight):
        products = torch.cat([products, given @ weight[even:].T], dim=1)
    products = products.contiguous().view(*rows.shape[:-1], len(weight))
    return products if bias is None else products + bias


def read_with_all_cores(model: Any) -> None:
    """Make every float32 linear layer on a CPU a `FewRowsLinear`; weights are not moved."""
    for layer in model.modules():
        if type(layer) is nn.Linear and layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
            layer.__class__ = FewRowsLinear


class HalfLinear(nn.Module):
    """`nn.Linear` over weights in two bytes that hold them exactly, so the products are those of the wide weights.

    The weights are widened for each product, which is cheap for many rows. Few rows may use compiled code that widens
    each weight as it reads it, so that half as much memory is read.

    Args:
        weight: (out, in), float16 or bfloat16.
        bias: (out,), or ``None``.
        compiles: whether code may be compiled for few rows.
    """

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: nn.Parameter | None, *, compiles: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.bias = bias
        self._compiles = compiles

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (..., out) of rows (..., in)."""
        given = rows.reshape(-1, rows.shape[-1])
        if self._compiles and len(given) <= FEW:
            products = compiled()(given, self.weight, self.bias)
        else:
            products = linear(given, self.weight.to(rows.dtype), self.bias)
        return products.view(*rows.shape[:-1], -1)


class HalfEmbedding(nn.Module):
    """`nn.Embedding` over a table (tokens, hidden) in two bytes; its output is ``dtype``."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self._dtype = dtype

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return (..., hidden) of ids (...)."""
        return embedding(ids, self.weight).to(self._dtype)


@cache
def compiled() -> Callable[..., torch.Tensor]:
    """Return `product` to be compiled when it is first called, which takes seconds."""
    return torch.compile(product, dynamic=True)


def product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return rows (..., in) times weights (out, in), plus a bias (out,): (..., out). Written to be compiled.

    In float32 on a CPU each weight is widened where it is read, once for all rows.
    """
    if rows.device.type != "cpu" or rows.dtype != torch.float32:
        return linear(rows, weight, bias)
    products = (weight.to(rows.dtype)[:, None] * rows.reshape(-1, rows.shape[-1])).sum(-1).T
    products = products.contiguous().view(*rows.shape[:-1], len(weight))
    return products if bias is None else products + bias


def exactly_half(weight: torch.Tensor) -> torch.Tensor | None:
    """Return a tensor as float16 or bfloat16 if one of them holds it exactly, else ``None``."""
    for dtype in (torch.float16, torch.bfloat16):
        half = weight.detach().to(dtype)
        if torch.equal(half.to(weight.dtype), weight):
            return half
    return None


def keep_in_half(model: Any, *, compiles: bool) -> None:
    """Put the float32 weights that two bytes hold exactly into two bytes; shared weights stay shared.

    Args:
        compiles: see `HalfLinear`.
    """
    halves = {id(weight): exactly_half(weight) for weight in model.parameters() if weight.dtype == torch.float32}
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if not isinstance(layer, nn.Linear | nn.Embedding) or (half := halves.get(id(layer.weight))) is None:
                continue
            if isinstance(layer, nn.Embedding):
                setattr(parent, name, HalfEmbedding(half, layer.weight.dtype))
            else:
                setattr(parent, name, HalfLinear(half, layer.bias, compiles=compiles))


class EightBitLinear(nn.Module):
    """`nn.Linear` with int8 weights (out, in) and bfloat16 scales (out,); its input is rounded to bfloat16."""

    weight: torch.Tensor
    scales: torch.Tensor

    def __init__(self, given: nn.Linear) -> None:
        super().__init__()
        weight = given.weight.detach().float()
        scales = (weight.abs().amax(1) / 127).clamp(min=torch.finfo(torch.bfloat16).tiny).bfloat16()
        self.register_buffer("weight", (weight / scales[:, None]).round().clamp(-127, 127).to(torch.int8))
        self.register_buffer("scales", scales)
        self.bias = given.bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (..., out) of rows (..., in)."""
        given = rows.reshape(-1, rows.shape[-1]).bfloat16()
        if len(given) <= FEW_BYTES:
            product: torch.Tensor = torch.ops.aten._weight_int8pack_mm(given, self.weight, self.scales).to(rows.dtype)
        else:
            product = linear(given, self.weight.bfloat16()).to(rows.dtype) * self.scales.to(rows.dtype)
        product = product.view(*rows.shape[:-1], -1)
        return product if self.bias is None else product + self.bias


def keep_in_eight_bits(model: Any) -> None:
    """Put every linear layer's weights into eight bits, and drop the wider ones."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, EightBitLinear(layer))
