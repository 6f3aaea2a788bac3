"""Matrix products with few rows, by all cores: a CPU's libraries give one row to one core, a hundred badly to two."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

FEW: Final = 4  # rows, up to which reading the weights outweighs computing with them
MANY: Final = 384  # rows, above which the library's own product is as quick
BLOCKS: Final = 8  # of a weight's rows, that few rows are multiplied with side by side


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
