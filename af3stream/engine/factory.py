"""Make an engine from a configuration. Only this module decides what is loaded; torch is imported here or below."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from af3stream.config import CaptionsConfig, Config, cache_dir
from af3stream.engine.captioning import Captioner
from af3stream.engine.contract import Engine
from af3stream.engine.facts import EngineFacts, facts_of
from af3stream.engine.loading import run_in_thread
from af3stream.engine.memory import trim_heap
from af3stream.engine.voices import CampplusVoices
from af3stream.errors import ModelError, quoted
from af3stream.models.card import Frames, Notes
from af3stream.models.manifest import Progress
from af3stream.models.registry import Checkpoint, resolve
from af3stream.models.voices import assemble

if TYPE_CHECKING:
    from af3stream.engine.af3.engine import Af3Engine

log = logging.getLogger(__name__)

SURE: Final = 0.9  # confidence of a sound's name, if the checkpoint's card has no threshold of its own
PRIMITIVES: Final = 16  # compiled kernels that oneDNN caches; its default, 1,024, holds one for each length of audio


@dataclass(frozen=True)
class Loaded:
    """An engine, and how prompts for its checkpoint are composed.

    Attributes:
        notes: which captions stand in a prompt beside the audio.
        licence: what users must know about the licence, or ``None``.
        frames: which windows stand in a prompt as audio.
    """

    engine: Engine
    notes: Notes
    licence: str | None
    frames: Frames = "all"

    @property
    def facts(self) -> EngineFacts:
        """What sessions need to know of it."""
        return facts_of(self.engine, self.notes, self.frames, self.licence)


def load_engine(config: Config, progress: Progress | None = None) -> Loaded:
    """Find the model that the configuration names, and load it.

    Args:
        progress: called with a sentence for each step that fetches or assembles the model.

    Raises:
        ModelError: if the model cannot be found or loaded.
    """
    checkpoint = resolve(config.model.name, progress)  # before torch is imported, so that a wrong name fails at once
    voices = _voices(progress or (lambda _: None)) if config.captions.speakers else None
    return run_in_thread(lambda: _load(checkpoint, voices, config))


def _voices(progress: Progress) -> Path | None:
    """Return the folder of the voice encoder. If it cannot be fetched, sessions that ask for speakers are refused."""
    try:
        return assemble(progress)
    except ModelError as error:
        log.warning("no speakers: %s", error)
        return None


def _load(checkpoint: Checkpoint, voices: Path | None, config: Config) -> Loaded:
    os.environ.setdefault(
        "TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled")
    )  # torch reads it when it is imported
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRIMITIVES))  # oneDNN reads it at the first product
    from af3stream.engine.af3.checkpoint import load_checkpoint
    from af3stream.engine.af3.engine import Af3Engine

    loaded = load_checkpoint(checkpoint.folder, config.model)
    engine = Af3Engine(
        loaded,
        checkpoint.name,
        keep_on_host=config.model.embeddings == "host",
        encode_together=config.model.encode_together,
        wording=checkpoint.wording,
        sure=_sure(checkpoint, config.captions),
    )
    captioner = _captioner(checkpoint, config, engine)
    if captioner is not None:
        engine.captioner = captioner
    if voices is not None:
        engine.voices = CampplusVoices(voices, config.model.device)
    _check(config.captions, engine.captioner)
    trim_heap()
    notes = checkpoint.notes if config.questions.notes == "auto" else config.questions.notes
    frames = checkpoint.frames if config.questions.frames == "auto" else config.questions.frames
    return Loaded(engine, notes, checkpoint.licence, frames)


def _sure(checkpoint: Checkpoint, settings: CaptionsConfig) -> float | None:
    """Return how sure the checkpoint must be of a sound's name; ``None`` if it is to name none."""
    if settings.sounds == "auto":
        return checkpoint.sounds
    return (checkpoint.sounds or SURE) if settings.sounds else None


def _captioner(checkpoint: Checkpoint, config: Config, engine: Af3Engine) -> Captioner | None:
    """Return another captioner than the checkpoint itself, if the checkpoint or the configuration names one."""
    from af3stream.engine.whisper import WhisperCaptioner
    from af3stream.engine.word_alignment import AlignedCaptioner

    def whisper(folder: Path | str) -> WhisperCaptioner:
        return WhisperCaptioner(
            folder,
            config.model.device,
            config.model.threads,
            engine.counters,
            beam=config.captions.beam,
        )

    chosen: Path | str | None = config.captions.captioner
    beside = checkpoint.captioner
    if chosen == "auto":
        chosen = beside
    if chosen == "af3" and beside is not None:
        return AlignedCaptioner(engine.captioner, lambda: whisper(beside))
    return None if chosen is None or chosen == "af3" else whisper(chosen)


def _check(settings: CaptionsConfig, captioner: Captioner) -> None:
    """Refuse a language or a task that the captioner cannot do.

    Raises:
        ModelError: naming it.
    """
    for code in (settings.language, *settings.languages):
        if code != "auto" and code not in captioner.languages:
            raise ModelError(f"the captioner {captioner.name} does not know the language {quoted(code)}")
    if settings.task == "translate" and not captioner.translates:
        raise ModelError(f"the captioner {captioner.name} does not translate")
