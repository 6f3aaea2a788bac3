"""What a session tells and what it keeps: nothing that is kept is told before it is durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, TypeGuard

import msgspec

from af3stream.journal.records import AudioRecord, EventRecord, GapRecord, Record
from af3stream.protocol.messages import (
    Answer,
    Caption,
    CaptionUpdate,
    Flushed,
    ServerMessage,
    SpeakerNamed,
    SpeakerUpdate,
    WatchHit,
)
from af3stream.session.exchanges import Exchanges


class Cut(msgspec.Struct, frozen=True, tag="cut", tag_field="type"):
    """Everything that was open was closed at this sample frame: a flush, or a server that went away."""

    offset: int


class Revised(msgspec.Struct, frozen=True, tag="revised", tag_field="type"):
    """The captions of this window were heard a second time."""

    window: int


class Divided(msgspec.Struct, frozen=True, tag="divided", tag_field="type"):
    """An utterance was divided into parts with one speaker each, by their voices.

    Attributes:
        utterance: the number of the first part.
        ends: where the parts end, in samples from the utterance's start.
        speakers: of the parts; ``None``: too short to tell.
        voices: of the parts, float16 (d,) little-endian each; empty: none.
    """

    utterance: int
    ends: tuple[int, ...]
    speakers: tuple[int | None, ...]
    voices: tuple[bytes, ...]


Numbered = Caption | Answer | WatchHit | SpeakerNamed
Unnumbered = CaptionUpdate | SpeakerUpdate
Told = Numbered | Unnumbered
KeptMessage = Told | Cut | Revised | Divided

_DECODER: Final = msgspec.json.Decoder(KeptMessage)


def decode_event(record: EventRecord) -> KeptMessage:
    """An event as it was kept."""
    kept: KeptMessage = _DECODER.decode(record.message)
    return kept


class EventLog:
    """One session's messages on their way out, and its records on their way to the disk.

    Events are what clients are told: they are numbered 1, 2, 3 and so on. Updates of captions and of their speakers are
    kept without a number: a client that resumes is sent again all that came after the newest event that it saw. The
    journal numbers its records by itself, for it keeps cuts, revised windows and divided utterances among them, which
    no client is told of.

    Attributes:
        durable: sample frames of audio that are on disk.
        answered: ids of the questions whose answers are kept.
        exchanges: the answers that can be followed up.

    Args:
        journaled: whether anything is kept; otherwise everything may be told at once.
    """

    def __init__(self, *, journaled: bool) -> None:
        self.journaled = journaled
        self.durable = 0
        self.answered: set[str] = set()
        self._event = 0  # number of the newest event
        self._kept = self._committed = 0  # number of the newest record, and of the newest that is durable
        self._cut_at = 0  # where everything was closed last; there is nothing to close before any audio
        self._history: list[tuple[int, int, Told]] = []  # record, newest event up to there, message
        self._messages: deque[tuple[int, ServerMessage]] = deque()  # each with the record that is to be durable before
        self.exchanges = Exchanges()
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
        """Keep that everything open was closed here; once is enough, however often it is asked for at one offset."""
        if self.journaled and offset > self._cut_at:
            self._keep(Cut(offset))
            self._cut_at = offset

    def revised(self, window: int) -> None:
        """Keep that a window's captions are revised, after their updates."""
        if self.journaled:
            self._keep(Revised(window))

    def divided(self, divided: Divided) -> None:
        """Keep how an utterance was divided, before its captions."""
        if self.journaled:
            self._keep(divided)

    def say(self, messages: Iterable[ServerMessage]) -> None:
        """Tell something, after all that was said before.

        Final captions and their updates, answers and watch hits are kept first. `flushed` waits until the cut
        it answers for is durable.
        """
        for message in messages:
            if self.journaled and _lasts(message):
                told = message
                if not isinstance(told, Unnumbered):
                    told = msgspec.structs.replace(told, event=self._event + 1)
                self._keep(told)
                self._remember(self._kept, told)
                self._messages.append((self._kept, told))
            else:
                if isinstance(message, Answer):
                    self.exchanges.add(message)
                self._messages.append((self._kept if isinstance(message, Flushed) else 0, message))

    def take_messages(self) -> list[ServerMessage]:
        """What may be sent now, in order; what waits for the disk holds back what follows it."""
        ready: list[ServerMessage] = []
        while self._messages and self._messages[0][0] <= self._committed:
            ready.append(self._messages.popleft()[1])
        return ready

    @property
    def waiting(self) -> bool:
        """Whether messages are held back."""
        return bool(self._messages)

    def take_records(self) -> list[Record]:
        """What is to be written."""
        records, self._records = self._records, []
        return records

    def committed(self, durable: int, record: int) -> None:
        """The journal has come this far: in sample frames, and in records of events and cuts."""
        self.durable = max(self.durable, durable)
        self._committed = max(self._committed, record)

    def restore(self, durable: int, events: Iterable[tuple[int, KeptMessage]]) -> None:
        """Begin where the journal ends."""
        for record, kept in events:
            self._kept = self._committed = record
            if isinstance(kept, Cut):
                self._cut_at = kept.offset
            elif not isinstance(kept, Revised | Divided):
                self._remember(record, kept)
        self.durable = durable
        self._messages.clear()

    @property
    def last_event(self) -> int:
        """The number of the newest event that may be told."""
        return next((event for record, event, _ in reversed(self._history) if record <= self._committed), 0)

    def since(self, event: int) -> list[ServerMessage]:
        """The kept messages after an event, for a client that resumes; those still held back follow by themselves."""
        return [
            told
            for record, newest, told in self._history
            if record <= self._committed and (event < newest or (event == newest and isinstance(told, Unnumbered)))
        ]

    def _remember(self, record: int, told: Told) -> None:
        if not isinstance(told, Unnumbered):
            self._event = told.event or self._event
        self._history.append((record, self._event, told))
        if isinstance(told, Answer):
            self.answered.add(told.id)
            self.exchanges.add(told)

    def _keep(self, kept: KeptMessage) -> None:
        self._kept += 1
        self._records.append(EventRecord(self._kept, msgspec.json.encode(kept)))


def _lasts(message: ServerMessage) -> TypeGuard[Told]:
    if isinstance(message, Caption):
        return message.final
    return isinstance(message, Answer | WatchHit | SpeakerNamed | Unnumbered)
