"""What sessions need to know of an engine, without the engine: it may run in another process."""

from __future__ import annotations

from msgspec import Struct

from af3stream.engine.contract import Capacity, Engine
from af3stream.engine.token_counter import TokenizerCounter, WordCounter
from af3stream.models.card import Frames, Notes


class CaptionerFacts(Struct, frozen=True):
    """What a captioner can do; see `af3stream.engine.captioning.Captioner`."""

    name: str
    revises: bool
    languages: tuple[str, ...]
    translates: bool
    times_words: bool


class EngineFacts(Struct, frozen=True):
    """A description of an engine, which msgspec encodes.

    Attributes:
        name: of the checkpoint, as users call it.
        capacity: what fits into one prompt.
        tokens: counts the positions of a prompt, as the engine does.
        captioner: what its captioner can do.
        frame_bytes: bytes of one projected frame.
        sure: the least confidence of a sound's name that may be told; ``None``: it names no sounds.
        voices: whether it can tell speakers apart.
        notes: which captions stand in a prompt beside the audio.
        frames: which windows stand in a prompt as audio.
        licence: what users must know about the licence, or ``None``.
    """

    name: str
    capacity: Capacity
    tokens: TokenizerCounter | WordCounter
    captioner: CaptionerFacts
    frame_bytes: int
    sure: float | None
    voices: bool
    notes: Notes = "off"
    frames: Frames = "all"
    licence: str | None = None


def facts_of(engine: Engine, notes: Notes = "off", frames: Frames = "all", licence: str | None = None) -> EngineFacts:
    """Return the description of an engine as it is now.

    Args:
        notes, frames, licence: of its checkpoint; see `EngineFacts`.
    """
    heard = engine.captioner
    assert isinstance(engine.tokens, TokenizerCounter | WordCounter), "its counts are needed in other processes"
    return EngineFacts(
        engine.name,
        engine.capacity,
        engine.tokens,
        CaptionerFacts(heard.name, heard.revises, heard.languages, heard.translates, heard.times_words),
        engine.frame_bytes,
        None if engine.sounds is None else engine.sounds.sure,
        engine.voices is not None,
        notes,
        frames,
        licence,
    )
