"""Hooks with which msgspec encodes and decodes the arrays in jobs and results."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 4  # bytes of a float32


def encode_array(value: object) -> tuple[tuple[int, ...], bytes]:
    """Return an array's shape, and its numbers as little-endian float32.

    Raises:
        NotImplementedError: for anything but an array of float32.
    """
    if not isinstance(value, np.ndarray) or value.dtype != np.float32:
        raise NotImplementedError(f"jobs and results have no {type(value).__name__}")
    return value.shape, value.astype("<f4", copy=False).tobytes()


def decode_array(_: type, value: Any) -> NDArray[np.float32]:
    """Return the array that `encode_array` encoded, in memory of its own.

    Raises:
        ValueError: if the value is no such array; msgspec turns it into a `ValidationError`.
    """
    match value:
        case [[*shape], bytes() as data] if _is_shape(shape) and prod(shape) * WIDTH == len(data):
            return np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)
    raise ValueError("expected the shape and the bytes of an array")


def _is_shape(shape: list[Any]) -> bool:
    return all(type(size) is int and size >= 0 for size in shape)
