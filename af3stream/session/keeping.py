"""What a session tells and what it keeps: nothing that is kept is told before it is durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from af3stream.journal.records import AudioRecord, EventRecord, GapRecord, Record
from af3stream.protocol.messages import Answer, Caption, ServerMessage, WatchHit
from af3stream.session.exchanges import Exchanges


class Cut(msgspec.Struct, frozen=True, tag="cut", tag_field="type"):
    """Everything that was open was closed at this sample frame: a flush, or a server that went away."""

    offset: int


Kept = Caption | Answer | WatchHit | Cut
Told = Caption | Answer | WatchHit

_DECODER: Final = msgspec.json.Decoder(Kept)


def decode_event(record: EventRecord) -> Kept:
    """An event as it was kept."""
    kept: Kept = _DECODER.decode(record.message)
    return kept


class Keeping:
    """One session's messages on their way out, and its records on their way to the disk.

    Attributes:
        durable: sample frames of audio that are on disk.
        event: the number of the newest event.
        answered: ids of the questions whose answers are kept.
        exchanges: the answers that can be followed up.

    Args:
        journaled: whether anything is kept; otherwise everything may be told at once.
    """

    def __init__(self, *, journaled: bool) -> None:
        self.journaled = journaled
        self.durable = 0
        self.event = 0
        self.answered: set[str] = set()
        self.exchanges = Exchanges()
        self._committed = 0
        self._history: list[Told] = []
        self._messages: deque[ServerMessage] = deque()
        self._records: list[Record] = []

    def audio(self, offset: int, pcm: bytes, frames: int) -> None:
        """Keep sample frames as they came."""
        if self.journaled:
            self._records.append(AudioRecord(offset, pcm, frames))

    def gap(self, offset: int, frames: int) -> None:
        """Keep a declared gap."""
        if self.journaled:
            self._records.append(GapRecord(offset, frames))

    def cut(self, offset: int) -> None:
        """Keep that everything open was closed here."""
        if self.journaled:
            self._keep(Cut(offset))

    def say(self, messages: Iterable[ServerMessage]) -> None:
        """Tell something, after all that was said before; final captions, answers and watch hits are kept first."""
        for message in messages:
            lasting = isinstance(message, Answer | WatchHit) or (isinstance(message, Caption) and message.final)
            if self.journaled and lasting:
                assert isinstance(message, Caption | Answer | WatchHit)
                told = msgspec.structs.replace(message, event=self.event + 1)
                self._keep(told)
                self._remember(told)
                self._messages.append(told)
            else:
                if isinstance(message, Answer):
                    self.exchanges.add(message)
                self._messages.append(message)

    def take_messages(self) -> list[ServerMessage]:
        """What may be sent now, in order; an event that is not durable yet holds back what follows it."""
        ready: list[ServerMessage] = []
        while self._messages and (_number(self._messages[0]) or 0) <= self._committed:
            ready.append(self._messages.popleft())
        return ready

    @property
    def waiting(self) -> bool:
        """Whether messages are held back."""
        return bool(self._messages)

    def take_records(self) -> list[Record]:
        """What is to be written."""
        records, self._records = self._records, []
        return records

    def committed(self, durable: int, event: int) -> None:
        """The journal has come this far."""
        self.durable = max(self.durable, durable)
        self._committed = max(self._committed, event)

    def restore(self, durable: int, events: Iterable[tuple[int, Kept]]) -> None:
        """Begin where the journal ends."""
        for number, kept in events:
            self.event = self._committed = number
            if not isinstance(kept, Cut):
                self._remember(kept)
        self.durable = durable
        self._messages.clear()

    def since(self, event: int) -> list[ServerMessage]:
        """The kept messages after an event, for a client that resumes; those still held back follow by themselves."""
        return [told for told in self._history if event < (told.event or 0) <= self._committed]

    def _remember(self, told: Told) -> None:
        self._history.append(told)
        if isinstance(told, Answer):
            self.answered.add(told.id)
            self.exchanges.add(told)

    def _keep(self, kept: Kept) -> None:
        self.event += 1
        self._records.append(EventRecord(self.event, msgspec.json.encode(kept)))


def _number(message: ServerMessage) -> int | None:
    return message.event if isinstance(message, Caption | Answer | WatchHit) else None
