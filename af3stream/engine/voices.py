"""Voices as vectors, by CAM++."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from af3stream.engine.captioning import Samples, Voices
from af3stream.errors import ModelError
from af3stream.models.voices import NAME, NETWORK, WEIGHTS

MELS: Final = 80
FRAME, HOP, FFT = 400, 160, 512  # samples at 16 kHz: Kaldi's frames of 25 ms every 10 ms
PREEMPHASIS: Final = 0.97
FLOOR: Final = 1.1920929e-07  # of a filter's power; Kaldi's own
SCALE: Final = 32_768  # Kaldi's samples are 16-bit numbers
SIZE: Final = 192  # numbers of a vector
# The mean of the mean vectors of two sets: 109 readers of LibriSpeech (train-clean-100), and seven voices of Asterisk's
# prompts in five languages (Debian's asterisk-core-sounds and asterisk-prompt packages), 8 kHz.
MEAN: Final = Path(__file__).with_name("campplus_mean.npy")
TOGETHER: Final = 8  # pieces in one pass: more take memory and save no time on a CPU


class CampplusVoices:
    """Implements `af3stream.engine.contract.VoiceEncoder`. The weights are loaded when the first voice is heard.

    Features are Kaldi's: 80 logarithmic mel filters without dither, their mean over the piece taken off, as the network
    was trained.

    Args:
        folder: of `af3stream.models.voices.assemble`.
        device: any torch device.
    """

    name = NAME

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._folder = folder
        self._device = device

    def embed(self, pieces: Sequence[Samples]) -> Iterator[Voices | None]:
        """Hear the voices of pieces of speech; those of one length are heard together. Yields after each pass.

        Raises:
            ModelError: if the weights cannot be loaded.
        """
        by_length: defaultdict[int, list[int]] = defaultdict(list)
        for number, piece in enumerate(pieces):
            by_length[len(piece)].append(number)
        passes = [
            group[first : first + TOGETHER] for group in by_length.values() for first in range(0, len(group), TOGETHER)
        ]
        vectors = np.zeros((len(pieces), SIZE), np.float32)
        for done, chosen in enumerate(passes):
            if done:
                yield None
            vectors[chosen] = self._embed(np.stack([pieces[number] for number in chosen]))
        yield Voices(vectors)

    def _embed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Voices of (n, samples) float32.  # (n, SIZE), each of length 1"""
        import torch

        with torch.inference_mode():
            features = self._features(torch.from_numpy(samples).to(self._device))
            voices = self._network(features - features.mean(1, keepdim=True))
            found: NDArray[np.float32] = torch.nn.functional.normalize(voices, dim=-1).cpu().numpy()
        found -= self._mean
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found

    def _features(self, samples: Any) -> Any:
        """Logarithmic mel filters of (n, samples).  # (n, frames, MELS)"""
        import torch

        filters, window = self._filters
        frames = samples.mul(SCALE).unfold(-1, FRAME, HOP)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * window, FFT)
        return (spectrum.abs().square() @ filters).clamp(min=FLOOR).log()

    @cached_property
    def _filters(self) -> tuple[Any, Any]:
        """Mel filters (FFT / 2 + 1, MELS) and the window (FRAME,)."""
        import torch
        from transformers.audio_utils import mel_filter_bank, window_function

        filters = mel_filter_bank(
            num_frequency_bins=FFT // 2 + 1,
            num_mel_filters=MELS,
            min_frequency=20,
            max_frequency=8_000,
            sampling_rate=16_000,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        window = window_function(FRAME, "povey", periodic=False)
        on_device = [torch.from_numpy(array.astype(np.float32)).to(self._device) for array in (filters, window)]
        return on_device[0], on_device[1]

    @cached_property
    def _mean(self) -> NDArray[np.float32]:
        """What all voices have in common, which would make any two alike.  # (SIZE,)"""
        return np.load(MEAN).astype(np.float32)  # type: ignore[no-any-return]

    @cached_property
    def _network(self) -> Any:
        import torch

        try:
            spec = importlib.util.spec_from_file_location("af3stream_campplus", self._folder / NETWORK)
            assert spec and spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            network = module.CAMPPlus(feat_dim=MELS, embedding_size=SIZE)
            network.load_state_dict(torch.load(self._folder / WEIGHTS, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, UnpicklingError, ValueError) as error:
            raise ModelError(f"cannot load the voice encoder {self._folder}: {str(error).splitlines()[0]}") from error
        return network.eval().to(self._device)
