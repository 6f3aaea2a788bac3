"""Does what a client's messages ask for."""

from __future__ import annotations

from collections.abc import Sequence

from af3stream.audio.pcm import AudioFormat
from af3stream.config import QuestionsConfig
from af3stream.engine.facts import EngineFacts
from af3stream.errors import BadFormat, Refusal
from af3stream.protocol import messages as m
from af3stream.session.acknowledgements import Acknowledgements
from af3stream.session.audio_pipeline import AudioPipeline
from af3stream.session.event_log import EventLog
from af3stream.session.lifecycle import Event, State, illegal
from af3stream.session.question_text import clean_instructions
from af3stream.session.questions import Questions
from af3stream.session.rate_limiter import RateLimiter


class ClientMessages:
    """Hands each message of a client to the part of the session that it concerns.

    Args:
        config: how long instructions may be, and how many messages a client may send.
        facts: of the engine.
    """

    def __init__(
        self,
        config: QuestionsConfig,
        facts: EngineFacts,
        *,
        audio_format: AudioFormat,
        pipeline: AudioPipeline,
        questions: Questions,
        acknowledgements: Acknowledgements,
        log: EventLog,
    ) -> None:
        self._config = config
        self._facts = facts
        self._format = audio_format
        self._pipeline = pipeline
        self._questions = questions
        self._acknowledgements = acknowledgements
        self._log = log
        self._rate_limiter = RateLimiter(config.per_s)

    def take(self, message: m.ClientMessage, state: State, now: float) -> Sequence[m.ServerMessage]:
        """Do what a message asks for; returns messages for the client.

        Args:
            state: of the session.

        Raises:
            Refusal: if it is refused; it has no effect then.
        """
        if isinstance(message, m.Ask | m.Cancel | m.Watch | m.Unwatch | m.Flush):
            self._rate_limiter.spend(message.id, now)
        match message:
            case m.Audio() | m.Gap():
                return self._take_audio(message, state, now)
            case m.Ask():
                self._questions.ask(message, now)
            case m.Cancel(id=question):
                return self._questions.cancel(question)
            case m.Watch():
                self._questions.watch(message)
            case m.Unwatch(id=watch):
                self._questions.unwatch(watch)
            case m.Flush(id=flush):
                self._acknowledgements.check_flush(flush)
                messages = self.cut()
                self._acknowledgements.flush(flush)
                return messages
            case m.NameSpeaker(speaker=speaker, name=name):
                self._rate_limiter.spend(None, now)
                return self._pipeline.name_speaker(speaker, name)
            case m.Instruct(text=text):
                self._rate_limiter.spend(None, now)
                self.instruct(text)
            case m.End(total=total):
                return self._pipeline.end(total, now)
            case m.Start():
                if (found := AudioFormat(message.format, message.rate, message.channels)) != self._format:
                    raise BadFormat(f"the session's audio is {self._format}, and stays so; found {found}")
                raise illegal(state, Event.START)
        return ()

    def instruct(self, text: str) -> None:
        """Begin the prompts of later questions with these instructions. Raises as `clean_instructions` does."""
        self._pipeline.context.instruct(clean_instructions(text, self._config, self._facts))

    def cut(self) -> Sequence[m.ServerMessage]:
        """Close the open utterance and window. The journal keeps where: a restored session is cut there, too."""
        self._log.cut(self._pipeline.receiver.received)
        return self._pipeline.cut()

    def _take_audio(self, message: m.Audio | m.Gap, state: State, now: float) -> Sequence[m.ServerMessage]:
        heard: list[m.ServerMessage] | None
        limit = self._acknowledgements.limit(state)
        try:
            if isinstance(message, m.Gap):
                heard = self._pipeline.gap(message.offset, message.frames, limit, now)
                self._log.gap(message.offset, message.frames)
            else:
                heard = self._pipeline.audio(message.offset, message.pcm, limit, now)
                if heard is not None:
                    self._log.audio(message.offset, message.pcm, self._format.frames(message.pcm))
        except Refusal as refusal:
            refusal.expected_offset = self._pipeline.receiver.received
            raise
        return heard or ()
