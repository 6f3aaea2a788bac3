"""``af3stream.json``: what the service must know of a checkpoint and its ``config.json`` does not say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from af3stream.errors import ModelError

CARD = "af3stream.json"

Notes = Literal["off", "forgotten", "all"]
Frames = Literal["all", "uncaptioned"]


@dataclass(frozen=True, slots=True)
class Wording:
    """What stands around a question in its prompt.

    Attributes:
        system: the system turn; ``None``: what the chat template says of its own accord.
        instruction: text right before each question, as it is; ``None``: none.
    """

    system: str | None = None
    instruction: str | None = None


PLAIN: Final = Wording()


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The file's fields.

    Attributes:
        name: what people call the checkpoint.
        model: the folder of the transformers layout, relative to the card's.
        captioner: the folder of a faster-whisper checkpoint, relative to the card's; ``None``: AF3 captions itself.
        notes: which of the transcript stands in the prompt beside the audio.
        frames: which windows stand in the prompt as audio: all, or, where notes are `all`, only those with sound that
            captions do not carry.
        system, instruction: see `Wording`.
        licence: what its use is bound to, in a few words.
    """

    name: str
    model: str = "."
    captioner: str | None = None
    notes: Notes = "forgotten"
    frames: Frames = "all"
    system: str | None = None
    instruction: str | None = None
    licence: str | None = None

    @property
    def wording(self) -> Wording:
        """What stands around a question."""
        return Wording(self.system, self.instruction)


def read(folder: Path) -> Card | None:
    """The card of a folder, or ``None`` where it has none.

    Raises:
        ModelError: if the file cannot be read, or holds an unknown field or an unfitting value.
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
