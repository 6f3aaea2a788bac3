"""Messages that describe a session's set-up, and failures of the engine."""

from __future__ import annotations

from af3stream import __version__
from af3stream.audio.pcm import AudioFormat
from af3stream.config import Config
from af3stream.engine.facts import EngineFacts
from af3stream.engine.jobs import Failed
from af3stream.errors import EngineFailed, EngineTimeout
from af3stream.protocol import messages as m
from af3stream.protocol.features import FEATURES
from af3stream.session.caption_settings import CaptionSettings
from af3stream.session.ledger import seconds


def ready(
    facts: EngineFacts,
    config: Config,
    audio: AudioFormat,
    mode: m.Mode,
    captions: CaptionSettings,
    *,
    session: str,
    resume: str,
    ack: m.Ack,
    last_event: int,
    speakers: bool | int,
) -> m.Ready:
    """Return the message that describes a session's set-up and position.

    Args:
        captions: how they are made.
        session: its id.
        resume: the token that it is resumed with.
        ack: how far its audio has come.
        last_event: the number of its newest durable event.
        speakers: whether speakers are told apart, or how many there are at most.
    """
    return m.Ready(
        session=session,
        server=f"af3stream/{__version__}",
        model=facts.name,
        captioner=facts.captioner.name,
        format=audio.format,
        rate=audio.rate,
        channels=audio.channels,
        mode=mode,
        window_s=seconds(facts.capacity.window_samples),
        horizon_windows=facts.capacity.windows,
        credit_s=config.server.credit_s,
        max_frame_bytes=config.server.max_frame_bytes,
        max_question_chars=config.questions.max_chars,
        max_questions=config.questions.max_waiting,
        max_instructions_chars=config.questions.max_instructions_chars,
        features=FEATURES,
        resume=resume,
        received=ack.received,
        processed=ack.processed,
        durable=ack.durable,
        last_event=last_event,
        language=captions.language,
        languages=captions.languages,
        task=captions.task,
        speakers=speakers,
        words=captions.words,
    )


def failure(what: str, failed: Failed, ref: str | None = None) -> m.Error:
    """Return the error message of a job that failed."""
    kind = EngineTimeout if failed.timed_out else EngineFailed
    return m.error(kind(f"{what}: {failed.reason}", ref=ref))
