"""Windows to projected frames, at the cost of their length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from af3stream.engine.af3.alignment import Alignment, additive_mask, conv_length, padding_mask, pooled_length
from af3stream.engine.contract import Samples

CONTEXT_FRAMES = 4  # mel frames of padding that the two convolutions can see beyond the audio


class Encoder:
    """The audio tower and the projector of one checkpoint.

    The tower's position table is sliced to the window's length, so that 3 s cost what 3 s cost; on the frames that hold
    audio the numbers are those of the padded 30 s window.

    Args:
        model: an `AudioFlamingo3ForConditionalGeneration`.
        feature_extractor: its `WhisperFeatureExtractor`.
    """

    def __init__(self, model: Any, feature_extractor: Any, alignment: Alignment) -> None:
        self._tower = model.model.audio_tower
        self._projector = model.model.multi_modal_projector
        self._extract = feature_extractor
        self._alignment = alignment
        self.passes = 0

    @torch.inference_mode()
    def encode(self, windows: Sequence[Samples]) -> list[torch.Tensor]:
        """Encode windows of any lengths in one pass.

        Args:
            windows: float32 (n_i,) at 16 kHz, each at most the longest window.

        Returns:
            For each window (K_i, hidden), in the model's dtype, on its device. K is 0 below three mel frames.
        """
        heard = [window for window in windows if self._alignment.frames(len(window))]
        encoded = iter(self._encode(heard) if heard else [])
        empty = self._tower.conv1.weight.new_empty(0, len(self._projector.linear_2.weight))
        return [next(encoded) if self._alignment.frames(len(window)) else empty for window in windows]

    def _encode(self, windows: Sequence[Samples]) -> list[torch.Tensor]:
        lengths = [self._alignment.mel_frames(len(window)) for window in windows]
        mels = self.mel(windows)  # (batch, mels, max(L_mel) + context)
        hidden = nn.functional.gelu(self._tower.conv1(mels))
        hidden = nn.functional.gelu(self._tower.conv2(hidden)).transpose(1, 2)  # (batch, L1 + context, d)
        valid = [conv_length(length) for length in lengths]
        hidden = hidden[:, : max(valid)] + self._tower.embed_positions.weight[: max(valid)]
        mask = self._mask(hidden, valid)
        for layer in self._tower.layers:
            hidden = layer(hidden, mask)
        hidden = self._tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2)
        projected = self._projector(self._tower.layer_norm(hidden))  # (batch, max(K), hidden)
        self.passes += 1
        return [row[: pooled_length(length)].clone() for row, length in zip(projected, valid, strict=True)]

    def mel(self, windows: Sequence[Samples]) -> torch.Tensor:
        """Log-mel of windows, (batch, mels, max(L_mel) + context) in the tower's dtype, padded as stock windows are."""
        hop = self._alignment.hop_length
        width = max(self._alignment.mel_frames(len(window)) for window in windows) + CONTEXT_FRAMES
        longest = self._alignment.window_samples // hop
        features = self._extract(
            [np.asarray(window, np.float32) for window in windows],
            sampling_rate=self._alignment.sampling_rate,
            padding="max_length",
            max_length=min(width, longest) * hop,
            return_tensors="pt",
        )["input_features"]
        weight = self._tower.conv1.weight
        mels: torch.Tensor = features.to(weight.device, weight.dtype)
        return mels

    def _mask(self, hidden: torch.Tensor, valid: Sequence[int]) -> torch.Tensor | None:
        """Which keys hold audio, in the form the attention implementation takes; none where every row is full."""
        if len(set(valid)) == 1:
            return None
        keys = padding_mask(valid, max(valid))
        if "flash" in self._tower.config._attn_implementation:
            return torch.from_numpy(keys).to(hidden.device)
        return torch.from_numpy(additive_mask(keys)).to(hidden.device, hidden.dtype)
