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
    import torch
    from transformers import (
        AudioFlamingo3Config,
        AudioFlamingo3EncoderConfig,
        AudioFlamingo3ForConditionalGeneration,
        AudioFlamingo3Processor,
        GenerationConfig,
        LlamaConfig,
        Qwen2Config,
        WhisperFeatureExtractor,
    )

    tokenizer = make_tokenizer()
    end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    text_config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[text](
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    audio_config = AudioFlamingo3EncoderConfig(
        num_mel_bins=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_size=32,
        max_source_positions=50 * chunk_length,
    )
    config = AudioFlamingo3Config(
        audio_config=audio_config,
        text_config=text_config,
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )
    model = AudioFlamingo3ForConditionalGeneration(config).float().eval()
    with torch.no_grad():
        _fill(model, torch.Generator().manual_seed(seed))
        model.lm_head.weight[_never_said(tokenizer)] = 0.0
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=pad)
    model.save_pretrained(folder)
    AudioFlamingo3Processor(
        WhisperFeatureExtractor(feature_size=80, chunk_length=chunk_length),
        tokenizer,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder


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
