"""The preallocated KV cache: written in place, read as views, rolled back by moving a length."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers
from transformers.cache_utils import Cache, CacheLayerMixin

from af3stream.errors import ContextFull

TRANSFORMERS: Final = tuple(int(part) for part in transformers.__version__.split(".")[:2])
CACHE_ARGUMENT: Final = "cache" if TRANSFORMERS >= (5, 24) else "past_key_values"  # of a language model's forward pass


class SlotLayer:
    """One layer's keys and values: (1, kv_heads, capacity, head_dim) each, of which ``length`` positions are held.

    The memory is allocated once. On a CPU the system provides it page by page as it is written.
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        both = reserved((2, *shape), dtype, device)
        self.keys, self.values = both[0], both[1]
        self.length = 0
        self.copied = 0

    def write(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put (1, kv_heads, q, head_dim) each after what is held.

        Raises:
            ContextFull: if they do not fit.
        """
        new = keys.shape[2]
        end, capacity = self.length + new, self.keys.shape[2]
        if end > capacity:
            raise ContextFull(end, capacity)
        self.keys.narrow(2, self.length, new).copy_(keys)
        self.values.narrow(2, self.length, new).copy_(values)
        self.length = end
        self.copied += keys.nbytes + values.nbytes

    def held(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return views of what is held, (1, kv_heads, length, head_dim) each."""
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A slot's last positions, copied: each layer's keys and values (1, kv_heads, n, head_dim) after ``length``."""

    length: int
    copies: list[tuple[torch.Tensor, torch.Tensor]]


class Slot:
    """The keys and values of one sequence: a `SlotLayer` a layer of the language model.

    Args:
        text_config: the language model's configuration.
        capacity: positions to allocate.
    """

    def __init__(self, text_config: Any, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        heads = text_config.num_attention_heads
        head_dim = getattr(text_config, "head_dim", None) or text_config.hidden_size // heads
        kv_heads = getattr(text_config, "num_key_value_heads", None) or heads
        shape = (1, kv_heads, capacity, head_dim)
        self.layers = [SlotLayer(shape, dtype, device) for _ in range(text_config.num_hidden_layers)]
        self.capacity = capacity
        self.device = device
        self._most = 0

    @property
    def length(self) -> int:
        """Positions held."""
        return self.layers[0].length

    def roll_back(self, length: int) -> None:
        """Hold only the first ``length`` positions; nothing is copied or cleared.

        Raises:
            ValueError: if fewer positions are held.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot roll back to {length} of {self.length} positions")
        self._most = self.written
        for layer in self.layers:
            layer.length = length

    def snapshot(self, length: int) -> Snapshot:
        """Roll back to ``length`` positions, keeping a copy of the rest for `restore`."""
        rest = slice(length, self.length)
        copies = [(layer.keys[:, :, rest].clone(), layer.values[:, :, rest].clone()) for layer in self.layers]
        self.roll_back(length)
        return Snapshot(length, copies)

    def restore(self, aside: Snapshot) -> None:
        """Hold again what was held when ``aside`` was made."""
        self.roll_back(aside.length)
        for layer, (keys, values) in zip(self.layers, aside.copies, strict=True):
            layer.write(keys, values)

    @property
    def written(self) -> int:
        """Most positions ever held: what the slot has used of its memory."""
        return max(self.length, self._most)

    @property
    def copied(self) -> int:
        """Bytes of keys and values ever written."""
        return sum(layer.copied for layer in self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)


def reserved(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return an uninitialised tensor; on a CPU the system provides its memory page by page as it is written.

    torch's allocator would reuse memory that is resident already, and the system might provide large pages.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # Linux
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


class Rows(Cache):
    """Slots side by side, as the cache of one pass with a row for each; rows may hold different lengths.

    Its layers return a list of views, one a slot, which `af3stream.engine.af3.attention` reads.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        super().__init__(layers=[RowsLayer(layers) for layers in zip(*(slot.layers for slot in slots), strict=True)])


class RowsLayer(CacheLayerMixin):
    """One layer of several slots."""

    is_sliding = False

    def __init__(self, layers: Sequence[SlotLayer]) -> None:
        super().__init__()
        self._layers = layers
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing: everything is allocated from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Write (rows, kv_heads, q, head_dim), a row into each slot; return each slot's views of what it then holds."""
        rows = zip(torch.split(key_states, 1), torch.split(value_states, 1), strict=True)
        for layer, (keys, values) in zip(self._layers, rows, strict=True):
            layer.write(keys, values)
        held = [layer.held() for layer in self._layers]
        return [keys for keys, _ in held], [values for _, values in held]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a query of this length sees at most, and the first one's position."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Positions that the longest row holds."""
        return max(layer.length for layer in self._layers)

    def get_max_length(self) -> int:
        """Positions that the shortest row has room for."""
        return min(layer.keys.shape[2] for layer in self._layers)
