"""The preallocated KV cache: written in place, read as views, rolled back by moving a length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from af3stream.errors import ContextFull


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values: (batch, kv_heads, capacity, head_dim) each, of which ``length`` positions are held.

    The memory is asked for once and touched only as it fills.
    """

    is_sliding = False

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)
        self.is_initialized = True
        self.capacity = shape[2]
        self.length = 0
        self.written = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Everything is allocated from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write (batch, kv_heads, q, head_dim) after what is held; return views of all that is held now.

        Raises:
            ContextFull: where it does not fit.
        """
        end = self.length + key_states.shape[-2]
        if end > self.capacity:
            raise ContextFull(end, self.capacity)
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        self.written = max(self.written, end)
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a query of this length sees, and the first one's position."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Positions held."""
        return self.length

    def get_max_length(self) -> int:
        """Positions allocated."""
        return self.capacity


@dataclass(frozen=True, eq=False)
class SetAside:
    """A slot's last positions, copied: each layer's keys and values (batch, kv_heads, n, head_dim) after ``length``."""

    length: int
    copies: list[tuple[torch.Tensor, torch.Tensor]]


class Slot(Cache):
    """The cache of one sequence, or of a batch of equal length: a `SlotLayer` a layer of the language model.

    Args:
        text_config: the language model's configuration.
        capacity: positions to allocate.
        batch: sequences side by side.
    """

    def __init__(
        self, text_config: Any, capacity: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> None:
        heads = text_config.num_attention_heads
        head_dim = getattr(text_config, "head_dim", None) or text_config.hidden_size // heads
        kv_heads = getattr(text_config, "num_key_value_heads", None) or heads
        shape = (batch, kv_heads, capacity, head_dim)
        super().__init__(layers=[SlotLayer(shape, dtype, device) for _ in range(text_config.num_hidden_layers)])
        self.capacity = capacity
        self.device = device

    @property
    def length(self) -> int:
        """Positions held."""
        length: int = self.layers[0].length
        return length

    def roll_back(self, length: int) -> None:
        """Hold only the first ``length`` positions; nothing is copied or cleared."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot roll back to {length} of {self.length} positions")
        for layer in self.layers:
            layer.length = length

    def set_aside(self, length: int) -> SetAside:
        """Roll back to ``length`` positions, keeping a copy of the rest for `put_back`."""
        rest = slice(length, self.length)
        copies = [(layer.keys[:, :, rest].clone(), layer.values[:, :, rest].clone()) for layer in self.layers]
        self.roll_back(length)
        return SetAside(length, copies)

    def put_back(self, aside: SetAside) -> None:
        """Hold again exactly what was held when ``aside`` was made."""
        self.roll_back(aside.length)
        for layer, (keys, values) in zip(self.layers, aside.copies, strict=True):
            layer.update(keys, values)

    @property
    def written(self) -> int:
        """Positions ever held: what the slot has touched of its memory."""
        written: int = self.layers[0].written
        return written

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)
