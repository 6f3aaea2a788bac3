"""Matrix products on a CPU: with few rows by all cores, which libraries give to one; and with weights in eight bits."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import linear

FEW: Final = 4  # rows, up to which reading the weights outweighs computing with them
MANY: Final = 384  # rows, above which the library's own product is as quick
BLOCKS: Final = 8  # of a weight's rows, that few rows are multiplied with side by side
FEW_BYTES: Final = 16  # rows, up to which torch's own product with bytes is quicker than one with the bytes made wider


class FewRowsLinear(nn.Linear):
    """`nn.Linear` that cuts its weights into blocks of rows, without moving them, which the cores share."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        given = rows.reshape(-1, self.in_features)
        if len(given) > MANY:
            return super().forward(rows)
        blocks = BLOCKS if len(given) <= FEW else torch.get_num_threads()
        even = self.out_features // blocks * blocks
        weights = self.weight[:even].view(blocks, -1, self.in_features)
        if len(given) <= FEW:
            product = torch.bmm(weights, given.T.expand(blocks, -1, -1)).flatten(0, 1).T
        else:
            product = torch.bmm(given.expand(blocks, -1, -1), weights.transpose(1, 2)).transpose(0, 1).flatten(1)
        if even < self.out_features:
            product = torch.cat([product, given @ self.weight[even:].T], dim=1)
        product = product.contiguous().view(*rows.shape[:-1], self.out_features)
        return product if self.bias is None else product + self.bias


def read_with_all_cores(model: Any) -> None:
    """Make every linear layer of a float32 CPU model one that does; weights stay where they are."""
    for layer in model.modules():
        if type(layer) is nn.Linear and layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32:
            layer.__class__ = FewRowsLinear


class EightBitLinear(nn.Module):
    """`nn.Linear` with weights in eight bits and a scale a row of them; what it is given is rounded to bfloat16."""

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
        """(..., in) to (..., out)."""
        given = rows.reshape(-1, rows.shape[-1]).bfloat16()
        if len(given) <= FEW_BYTES:
            product: torch.Tensor = torch.ops.aten._weight_int8pack_mm(given, self.weight, self.scales).to(rows.dtype)
        else:
            product = linear(given, self.weight.bfloat16()).to(rows.dtype) * self.scales.to(rows.dtype)
        product = product.view(*rows.shape[:-1], -1)
        return product if self.bias is None else product + self.bias


def keep_in_eight_bits(model: Any) -> None:
    """Put every linear layer's weights into eight bits; the wider ones are given up."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, EightBitLinear(layer))
