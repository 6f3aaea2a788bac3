"""Turn windows into projected frames, at a cost that follows their length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from af3stream.engine.af3.alignment import Alignment, additive_mask, conv_length, padding_mask, pooled_length
from af3stream.engine.captioning import Samples

CONTEXT_FRAMES = 4  # mel frames of padding after the audio that reach into its frames through the two convolutions


class Encoder:
    """The audio tower and the projector of one checkpoint.

    The tower's position table is sliced to the window's length, so a window of 3 s is computed as 3 s. Its frames equal
    those of the same audio in a window that is padded to 30 s.

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
        long_enough = [window for window in windows if self._alignment.frames(len(window))]
        encoded = iter(self._encode(long_enough) if long_enough else [])
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
        """Log-mel of windows, (batch, mels, max(L_mel) + context) in the tower's dtype, padded as transformers pads."""
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
        """Return a mask of the keys that hold audio, as the attention implementation takes it; ``None`` if all do."""
        if len(set(valid)) == 1:
            return None
        keys = padding_mask(valid, max(valid))
        if "flash" in self._tower.config._attn_implementation:
            return torch.from_numpy(keys).to(hidden.device)
        return torch.from_numpy(additive_mask(keys)).to(hidden.device, hidden.dtype)
