"""Tiny seeded Audio Flamingo 3 checkpoints: the real classes and layout, random weights, a few hundred kilobytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

CHAT_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'audio' -%}{{ '<sound>' }}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
{%- endif -%}
{{ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""

SENTENCES = (
    "What was said in the last minute, and who said it?",
    "Transcribe the input speech.",
    "The spoken content of the audio is the sound of rain on the roof of the house.",
    "You are a helpful assistant. Transcript: he might even have been made amiable himself.",
)


def make_tiny(
    folder: Path,
    *,
    text: Literal["llama", "qwen2"] = "llama",
    seed: int = 0,
    chunk_length: int = 30,
    positions: int = 8_192,
) -> Path:
    """Write a tiny AF3 checkpoint in the transformers layout and return its folder.

    Encoder: 2 layers, d 32, 80 mels. Language model: 2 layers, hidden 64, 4 query and 2 key-value heads. The weights
    are large enough for a greedy answer to depend on every part of the prompt, and only printable ASCII, and now and
    then ``<|im_end|>``, is ever the likeliest token. The same arguments give the same weights.

    Args:
        folder: created where it is missing.
        text: the language model's architecture.
        seed: of the weights.
        chunk_length: seconds of audio a window holds; 25 audio tokens each.
        positions: ``max_position_embeddings`` of the language model.
    """
    tokenizer = make_tokenizer()
    model = seeded(tiny_config(tokenizer, text=text, chunk_length=chunk_length, positions=positions), tokenizer, seed)
    model.save_pretrained(folder)
    make_processor(model.config, tokenizer).save_pretrained(folder)
    return folder


def tiny_config(
    tokenizer: Any,
    *,
    text: Literal["llama", "qwen2"] = "llama",
    chunk_length: int = 30,
    positions: int = 8_192,
) -> Any:
    """Return the configuration of `make_tiny`."""
    from transformers import AudioFlamingo3EncoderConfig, LlamaConfig, Qwen2Config

    text_config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[text](
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        **_special(tokenizer),
    )
    audio_config = AudioFlamingo3EncoderConfig(
        num_mel_bins=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_size=32,
        max_source_positions=50 * chunk_length,
    )
    return _config(tokenizer, audio_config, text_config)


def published_config(tokenizer: Any, *, layers: int | None = None) -> Any:
    """Return the sizes of the published 8B checkpoint: Whisper's large encoder and Qwen2.5-7B.

    Args:
        tokenizer: may know fewer tokens than the table of embeddings has rows.
        layers: of each stack; ``None``: all 32 and 28.
    """
    from transformers import AudioFlamingo3EncoderConfig, Qwen2Config

    text_config = Qwen2Config(
        vocab_size=152_064,
        hidden_size=3_584,
        intermediate_size=18_944,
        num_hidden_layers=layers or 28,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_position_embeddings=32_768,
        **_special(tokenizer),
    )
    audio_config = AudioFlamingo3EncoderConfig(num_hidden_layers=layers or 32)
    return _config(tokenizer, audio_config, text_config)


def seeded(config: Any, tokenizer: Any, seed: int = 0, *, dtype: str = "float32", device: str = "cpu") -> Any:
    """Make a model of random weights on a device, as `make_tiny` describes them, and return it.

    Args:
        config: an `AudioFlamingo3Config`.
        dtype: of the weights, as torch calls it.
    """
    import torch
    from transformers import AudioFlamingo3ForConditionalGeneration, GenerationConfig

    with torch.device(device):
        model = AudioFlamingo3ForConditionalGeneration._from_config(config, dtype=getattr(torch, dtype)).eval()
    with torch.no_grad():
        _fill(model, torch.Generator(device).manual_seed(seed))
        model.lm_head.weight[[*_never_said(tokenizer), *range(len(tokenizer), len(model.lm_head.weight))]] = 0.0
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=pad)
    return model


def make_processor(config: Any, tokenizer: Any) -> Any:
    """Return the processor of a configuration."""
    from transformers import AudioFlamingo3Processor, WhisperFeatureExtractor

    audio = config.audio_config
    extractor = WhisperFeatureExtractor(feature_size=audio.num_mel_bins, chunk_length=audio.max_source_positions // 50)
    return AudioFlamingo3Processor(extractor, tokenizer, chat_template=CHAT_TEMPLATE)


def _config(tokenizer: Any, audio_config: Any, text_config: Any) -> Any:
    from transformers import AudioFlamingo3Config

    placeholder = tokenizer.convert_tokens_to_ids("<sound>")
    return AudioFlamingo3Config(audio_config=audio_config, text_config=text_config, audio_token_id=placeholder)


def _special(tokenizer: Any) -> dict[str, int | None]:
    return {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}


def make_tokenizer() -> Any:
    """A byte-level BPE of a few hundred pieces, with the special tokens of the AF3 prompt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<sound>"],
        clean_up_tokenization_spaces=False,
    )


def _fill(model: Any, generator: Any) -> None:
    """Overwrite every parameter: matrices at unit gain or above, norms at one, biases small."""
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim == 1:
            parameter.fill_(1.0) if "norm" in name and "weight" in name else parameter.normal_(
                0, 0.1, generator=generator
            )
        elif "embed_tokens" in name or "embed_positions" in name:
            parameter.normal_(0, 1.0 if "tokens" in name else 0.3, generator=generator)
        else:
            gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
            parameter.normal_(0, gain * parameter[0].numel() ** -0.5, generator=generator)


def _never_said(tokenizer: Any) -> list[int]:
    """Ids whose text is not printable ASCII, ``<|im_end|>`` excepted."""
    return [
        number
        for number in range(len(tokenizer))
        if number != tokenizer.eos_token_id
        and (
            number in tokenizer.all_special_ids
            or not (piece := tokenizer.decode([number])).isascii()
            or not piece.isprintable()
        )
    ]
