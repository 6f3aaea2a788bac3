"""How a session introduces itself."""

from __future__ import annotations

from af3stream import __version__
from af3stream.audio.pcm import AudioFormat
from af3stream.config import Config
from af3stream.engine.contract import Engine
from af3stream.protocol.features import FEATURES
from af3stream.protocol.messages import Mode, Ready
from af3stream.session.ledger import seconds


def describe(engine: Engine, config: Config, audio: AudioFormat, mode: Mode) -> Ready:
    """What holds for every session that is set up like this; its name and where it stands are left open."""
    return Ready(
        session="",
        server=f"af3stream/{__version__}",
        model=engine.name,
        captioner=engine.captioner.name,
        format=audio.format,
        rate=audio.rate,
        channels=audio.channels,
        mode=mode,
        window_s=seconds(engine.capacity.window_samples),
        horizon_windows=engine.capacity.windows,
        credit_s=config.server.credit_s,
        max_frame_bytes=config.server.max_frame_bytes,
        max_question_chars=config.questions.max_chars,
        max_questions=config.questions.max_waiting,
        features=FEATURES,
    )
