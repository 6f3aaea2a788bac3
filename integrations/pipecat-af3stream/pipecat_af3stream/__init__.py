"""af3stream for Pipecat.

`Af3streamSTTService` transcribes over protocol v1: it resumes after lost connections, tells speakers apart and times
words. `Af3streamQuestionProcessor` answers questions about the audio that the service hears.
"""

from pipecat_af3stream.questions import Af3streamQuestionProcessor
from pipecat_af3stream.stt import Af3streamSTTService

__all__ = ["Af3streamQuestionProcessor", "Af3streamSTTService"]
