"""Compute how audio aligns with tokens: windows, mel frames, projected frames, placeholders and masks.

The arithmetic is that of transformers' `AudioFlamingo3Processor` and `AudioFlamingo3Encoder`, for each window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from af3stream.engine.captioning import Samples
from af3stream.errors import AlignmentMismatch, PlaceholderMismatch, TooManyWindows


@dataclass(frozen=True, slots=True)
class Alignment:
    """The sizes of one checkpoint's audio path.

    Attributes:
        sampling_rate: Hz.
        chunk_length: seconds of the longest window.
        hop_length: samples in a mel frame.
        max_windows: windows that one prompt may hold.
    """

    sampling_rate: int
    chunk_length: int
    hop_length: int
    max_windows: int

    @property
    def window_samples(self) -> int:
        """Samples of the longest window."""
        return self.sampling_rate * self.chunk_length

    def mel_frames(self, samples: int) -> int:
        """Return L_mel, the mel frames that hold audio, of a window of ``samples``."""
        return -(-samples // self.hop_length)

    def frames(self, samples: int) -> int:
        """Return K, the projected frames, and so the placeholders, of a window of ``samples``."""
        return pooled_length(conv_length(self.mel_frames(samples)))

    def split(self, samples: Samples) -> list[Samples]:
        """Cut (n,) into windows: full ones, then the rest; one empty window if there is no audio.

        Raises:
            TooManyWindows: if transformers' processor would truncate.
        """
        windows = max(1, -(-len(samples) // self.window_samples))
        if windows > self.max_windows:
            raise TooManyWindows(windows, self.max_windows)
        return [samples[i * self.window_samples : (i + 1) * self.window_samples] for i in range(windows)]


def conv_length(mel_frames: int) -> int:
    """Return L1, the frames after the stride-2 convolution."""
    return (mel_frames - 1) // 2 + 1


def pooled_length(conv_frames: int) -> int:
    """Return K, the frames after the average pool of two."""
    return (conv_frames - 2) // 2 + 1


def expand(text: str, placeholder: str, counts: Sequence[int], sample: int = 0) -> str:
    """Expand ``placeholder`` to one copy for each projected frame.

    If ``text`` has no placeholder, all copies are put before it. Otherwise each placeholder stands for one window.

    Args:
        counts: K of each window.
        sample: the text's place in its batch, for the error.

    Raises:
        PlaceholderMismatch: if placeholders and windows differ in number.
    """
    pieces = text.split(placeholder)
    found = len(pieces) - 1
    if not found:
        return placeholder * sum(counts) + text
    if found != len(counts):
        raise PlaceholderMismatch(sample, found, len(counts))
    return pieces[0] + "".join(placeholder * k + piece for k, piece in zip(counts, pieces[1:], strict=True))


def check_alignment(input_ids: NDArray[np.int64] | Any, placeholder_id: int, frames: int) -> None:
    """Check that a prompt has as many placeholders as projected frames.

    Raises:
        AlignmentMismatch: if it has not; with both numbers.
    """
    placeholders = int((input_ids == placeholder_id).sum())
    if placeholders != frames:
        raise AlignmentMismatch(placeholders, frames)


def padding_mask(lengths: Sequence[int], width: int) -> NDArray[np.bool_]:
    """Return a mask (batch, width) of right-padded rows: true where a row holds content."""
    return np.arange(width)[None, :] < np.asarray(lengths)[:, None]


def additive_mask(valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return a mask (batch, 1, width, width) of a mask (batch, width): 0 for a valid key, else -inf."""
    width = valid.shape[1]
    row = np.where(valid, np.float32(0), np.float32(-np.inf))
    return np.broadcast_to(row[:, None, None, :], (len(valid), 1, width, width)).copy()
