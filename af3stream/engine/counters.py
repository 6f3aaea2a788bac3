"""Count what an engine does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """How much an engine has done. Tests compare counts, because times vary.

    Attributes:
        encoder_passes: passes of the audio encoder over windows.
        sounds_encoded: windows that were encoded.
        caption_encodes: utterances, or parts of them, that the captioner encoded.
        forward_passes: passes of the language model.
        prefill_tokens: positions that were read.
        decoded_tokens: tokens that were written.
        rebuilds: KV prefixes that were built beside another one.
    """

    encoder_passes: int = 0
    sounds_encoded: int = 0
    caption_encodes: int = 0
    alignments: int = 0
    forward_passes: int = 0
    prefill_tokens: int = 0
    decoded_tokens: int = 0
    rebuilds: int = 0
