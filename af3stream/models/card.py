"""Read and write ``af3stream.json``: the facts of a checkpoint that ``config.json`` does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from af3stream.errors import ModelError

CARD = "af3stream.json"

Notes = Literal["off", "forgotten", "all"]
Frames = Literal["all", "uncaptioned"]


@dataclass(frozen=True, slots=True)
class Wording:
    """The text around a question in its prompt.

    Attributes:
        system: the system turn; ``None``: that of the chat template.
        instruction: text directly before each question; ``None``: none.
    """

    system: str | None = None
    instruction: str | None = None


PLAIN: Final = Wording()


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of the file.

    Attributes:
        name: the name that the service shows.
        model: the folder of the transformers layout, relative to the card.
        captioner: the folder of a faster-whisper checkpoint, relative to the card; ``None``: AF3 makes the captions.
        notes: which captions the prompt holds beside the audio.
        frames: which windows the prompt holds as audio: all, or, with notes `all`, only those with sound that captions
            do not cover.
        system, instruction: see `Wording`.
        sounds: the least confidence, 0 to 1, with which it may name a sound that is no speech; ``None``: it has not
            learned to.
        licence: the licence, in a few words.
    """

    name: str
    model: str = "."
    captioner: str | None = None
    notes: Notes = "forgotten"
    frames: Frames = "all"
    system: str | None = None
    instruction: str | None = None
    sounds: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    licence: str | None = None

    @property
    def wording(self) -> Wording:
        """The text around a question."""
        return Wording(self.system, self.instruction)


def read(folder: Path) -> Card | None:
    """Read the card of a folder; return ``None`` if it has none.

    Raises:
        ModelError: if the file cannot be read, or has an unknown field or an invalid value.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{path} cannot be used: {error}") from None


def write(folder: Path, card: Card) -> None:
    """Write the card of a folder."""
    (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2))
