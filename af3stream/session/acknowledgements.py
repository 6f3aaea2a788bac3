"""What a client is told about the audio it sent: how far it is received, processed and durable, and its flushes."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from af3stream.errors import QueryLimit
from af3stream.protocol import messages as m
from af3stream.session.audio_pipeline import AudioPipeline
from af3stream.session.event_log import EventLog
from af3stream.session.lifecycle import State

ACK_EVERY_S: Final = 0.2
MOST_FLUSHES: Final = 64  # that wait for captions


class Acknowledgements:
    """One session's acknowledgements. Offsets are client frames.

    Args:
        credit: frames that a client may send beyond those that are processed.
    """

    def __init__(self, pipeline: AudioPipeline, log: EventLog, credit: int) -> None:
        self._pipeline = pipeline
        self._log = log
        self._credit = credit
        self._sent = m.Ack(0, 0, self.durable)
        self._sent_at = -inf
        self._flushes: deque[tuple[int, m.Flushed]] = deque()  # with the utterances before each

    @property
    def durable(self) -> int | None:
        """Frames that are on disk; ``None`` if nothing is kept."""
        return self._log.durable if self._log.journaled else None

    def newest(self, state: State) -> m.Ack:
        """Return how far the audio has come. What counts as processed never falls."""
        processed = self._pipeline.processed(receiving=state is State.OPEN)
        if self.durable is not None:
            processed = min(processed, self.durable)
        return m.Ack(self._pipeline.receiver.received, max(self._sent.processed, processed), self.durable)

    def limit(self, state: State) -> int:
        """Return the first frame that the client may not send yet."""
        return self.newest(state).processed + self._credit

    def check_flush(self, name: str) -> None:
        """Raise `QueryLimit` if too many flushes wait to add another one."""
        if len(self._flushes) >= MOST_FLUSHES:
            raise QueryLimit(f"at most {MOST_FLUSHES} flushes may wait at once", ref=name)

    def flush(self, name: str) -> None:
        """Add a flush of all audio so far, which is cut here: it is told when the captions before it are final."""
        self._flushes.append((self._pipeline.utterances, m.Flushed(name, self._pipeline.receiver.received)))

    def take_due(self, now: float, state: State) -> list[m.ServerMessage]:
        """Return the messages that are due: an ack, and the flushes whose captions are final."""
        messages: list[m.ServerMessage] = []
        ack = self.newest(state)
        if ack != self._sent and (now >= self._sent_at + ACK_EVERY_S or state is not State.OPEN):
            self._sent, self._sent_at = ack, now
            messages.append(ack)
        while self._flushes and self._pipeline.track.has_finals(self._flushes[0][0]):
            messages.append(self._flushes.popleft()[1])
        return messages

    def deadline(self, state: State) -> float | None:
        """Return when the next ack is due, in clock seconds; ``None`` if there is nothing new to tell."""
        return self._sent_at + ACK_EVERY_S if self.newest(state) != self._sent else None
