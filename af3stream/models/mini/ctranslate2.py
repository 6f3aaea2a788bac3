"""Read Whisper's encoder from a CTranslate2 ``model.bin``, and name its tensors as Audio Flamingo 3 does.

The file is little-endian: version u32, spec name, revision u32, count u32; then each variable as name, rank u8,
dimensions u32 each, type u8, bytes u32, data; then aliases. A string is a u16 length, its bytes, and a NUL that the
length includes.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from af3stream.errors import ModelError

VERSION = 6
SPEC = "WhisperSpec"
DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}

LAYER_NAMES = {
    "self_attention/layer_norm/gamma": "self_attn_layer_norm.weight",
    "self_attention/layer_norm/beta": "self_attn_layer_norm.bias",
    "self_attention/linear_1/weight": "self_attn.out_proj.weight",
    "self_attention/linear_1/bias": "self_attn.out_proj.bias",
    "ffn/layer_norm/gamma": "final_layer_norm.weight",
    "ffn/layer_norm/beta": "final_layer_norm.bias",
    "ffn/linear_0/weight": "fc1.weight",
    "ffn/linear_0/bias": "fc1.bias",
    "ffn/linear_1/weight": "fc2.weight",
    "ffn/linear_1/bias": "fc2.bias",
}
TOP_NAMES = {
    "conv1/weight": "conv1.weight",
    "conv1/bias": "conv1.bias",
    "conv2/weight": "conv2.weight",
    "conv2/bias": "conv2.bias",
    "position_encodings/encodings": "embed_positions.weight",
    "layer_norm/gamma": "layer_norm.weight",
    "layer_norm/beta": "layer_norm.bias",
}


class _Reader:
    """A cursor over the bytes of the file."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def number(self, kind: str) -> int:
        (value,) = struct.unpack_from("<" + kind, self._data, self._at)
        self._at += struct.calcsize("<" + kind)
        return int(value)

    def text(self) -> str:
        return bytes(self.take(self.number("H"))[:-1]).decode("ascii")

    def take(self, size: int) -> memoryview:
        self._at += size
        if self._at > len(self._data):
            raise ValueError("the data ends early")
        return self._data[self._at - size : self._at]


def read_variables(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return every variable of the file by its CTranslate2 name, in its stored type.

    Raises:
        ModelError: if the file is not a CTranslate2 Whisper model of the known version, or is truncated.
    """
    reader = _Reader(memoryview(path.read_bytes()))
    try:
        version, spec, _revision = reader.number("I"), reader.text(), reader.number("I")
        if (version, spec) != (VERSION, SPEC):
            raise ValueError(f"found {spec!r} version {version}, expected {SPEC!r} version {VERSION}")
        variables: dict[str, NDArray[np.generic]] = {}
        for _ in range(reader.number("I")):
            name = reader.text()
            shape = [reader.number("I") for _ in range(reader.number("B"))]
            dtype = np.dtype(DTYPES[reader.number("B")])
            variables[name] = np.frombuffer(reader.take(reader.number("I")), dtype).reshape(shape)
    except (ValueError, KeyError, struct.error) as error:
        raise ModelError(f"{path} is not a CTranslate2 Whisper model: {error}") from None
    return variables


def encoder_weights(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return Whisper's encoder by the names of ``AudioFlamingo3Encoder.state_dict()``, in its stored type.

    ``self_attention/linear_0`` holds query, key and value, stacked along the first axis. The key has no bias; the file
    holds zeros in its place.

    Raises:
        ModelError: as in ``read_variables``.
    """
    weights: dict[str, NDArray[np.generic]] = {}
    for name, value in read_variables(path).items():
        side, _, rest = name.partition("/")
        if side != "encoder":
            continue
        if rest in TOP_NAMES:
            weights[TOP_NAMES[rest]] = value
        elif rest.startswith("layer_"):
            layer, _, part = rest.partition("/")
            weights |= {f"layers.{layer.removeprefix('layer_')}.{key}": array for key, array in _layer(part, value)}
    return weights


def _layer(part: str, value: NDArray[np.generic]) -> list[tuple[str, NDArray[np.generic]]]:
    if part in LAYER_NAMES:
        return [(LAYER_NAMES[part], value)]
    if part not in ("self_attention/linear_0/weight", "self_attention/linear_0/bias"):
        return []
    kind = part.rpartition("/")[2]
    return [
        (f"self_attn.{projection}_proj.{kind}", third)
        for projection, third in zip("qkv", np.split(value, 3), strict=True)
        if (projection, kind) != ("k", "bias")
    ]
