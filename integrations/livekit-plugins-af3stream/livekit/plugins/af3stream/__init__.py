"""af3stream for LiveKit Agents.

`STT` transcribes over protocol v1: it resumes after lost connections, tells speakers apart and times words. `LLM`
answers questions about the audio that an `STT` hears.
"""

from livekit.agents import Plugin

from .llm import LLM
from .log import logger
from .stt import STT, SpeechStream
from .version import __version__

__all__ = ["LLM", "STT", "SpeechStream", "__version__"]


class Af3streamPlugin(Plugin):
    """Registers the package with LiveKit Agents."""

    def __init__(self) -> None:
        super().__init__(__name__, __version__, __package__, logger)


Plugin.register_plugin(Af3streamPlugin())
