"""Load a checkpoint: one class, of any size, device, dtype and attention implementation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor
from transformers.utils.logging import disable_progress_bar

from af3stream.config import ModelConfig
from af3stream.engine.af3.alignment import Alignment
from af3stream.engine.af3.linear import keep_in_eight_bits, keep_in_half
from af3stream.errors import ModelError


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model ready to run, its processor, and its sizes.

    Attributes:
        model: `AudioFlamingo3ForConditionalGeneration`, in evaluation mode.
        processor: `AudioFlamingo3Processor`.
        positions: positions that the language model can read.
        stop: ids of the tokens that end a reply.
        prefill_chunk: positions to read in one pass.
        compiled: whether decoding runs compiled code.
    """

    model: Any
    processor: Any
    alignment: Alignment
    positions: int
    stop: frozenset[int]
    prefill_chunk: int
    compiled: bool


def load_checkpoint(folder: Path, config: ModelConfig) -> LoadedCheckpoint:
    """Load a folder in the transformers layout.

    Raises:
        ModelError: if the folder, the device, or the attention implementation cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    disable_progress_bar()
    try:
        device = torch.device(config.device)
        model = AudioFlamingo3ForConditionalGeneration.from_pretrained(
            folder, dtype=getattr(torch, config.dtype), attn_implementation=config.attention
        )
        _share(model)
        model = model.to(device).eval()
        if config.weights == "int8":
            _narrow(model, config)
        if model.device.type == "cpu":  # windows are long, so widening the tower's weights costs little
            keep_in_half(model if config.compile else model.model.audio_tower, compiles=config.compile)
        processor = AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError, ImportError, RuntimeError, AssertionError, SafetensorError) as error:
        raise ModelError(f"cannot load {folder} on {config.device}: {str(error).splitlines()[0]}") from error
    return describe(model, processor, config)


def _share(model: Any) -> None:
    """Share the memory of a head that equals the table of embeddings; the layout cannot say that they are tied."""
    table, head = model.get_input_embeddings(), model.lm_head
    if head.weight.shape == table.weight.shape and torch.equal(head.weight, table.weight):
        head.weight = table.weight


def _narrow(model: Any, config: ModelConfig) -> None:
    """Keep the language model's layers in eight bits; embeddings, head, encoder and projector are not changed.

    Raises:
        ValueError: if the device is no CPU, or the code is to be compiled.
    """
    if model.device.type != "cpu":
        raise ValueError("model.weights = 'int8' is for a CPU")
    if config.compile:
        raise ValueError("model.compile reads no weights in eight bits")
    keep_in_eight_bits(model.model.language_model)


def describe(model: Any, processor: Any, config: ModelConfig) -> LoadedCheckpoint:
    """Read a checkpoint's sizes from its own configuration.

    Raises:
        ModelError: if the language model uses sliding-window attention; its KV prefix could not be kept.
    """
    text = model.config.text_config
    if any(kind != "full_attention" for kind in getattr(text, "layer_types", None) or ()):
        raise ModelError("the language model uses sliding-window attention, and needs full attention here")
    extractor = processor.feature_extractor
    ends = model.generation_config.eos_token_id
    if ends is None:
        ends = processor.tokenizer.eos_token_id
    return LoadedCheckpoint(
        model=model,
        processor=processor,
        alignment=Alignment(
            sampling_rate=extractor.sampling_rate,
            chunk_length=extractor.chunk_length,
            hop_length=extractor.hop_length,
            max_windows=config.max_windows,
        ),
        positions=text.max_position_embeddings,
        stop=frozenset([ends] if isinstance(ends, int) else ends or ()),
        prefill_chunk=config.prefill_chunk,
        compiled=config.compile,
    )
