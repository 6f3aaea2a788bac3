"""A session's outbox and its history: a message that is kept is sent only when it is durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

import msgspec

from af3stream.errors import DataLoss
from af3stream.journal.records import AudioRecord, EventRecord, GapRecord, Record
from af3stream.protocol.messages import (
    Answer,
    Caption,
    CaptionUpdate,
    Flushed,
    ServerMessage,
    Sound,
    SpeakerNamed,
    SpeakerUpdate,
    WatchHit,
)


class Cut(msgspec.Struct, frozen=True, tag="cut", tag_field="type"):
    """A record that the open utterance and window were closed at this sample frame, by a flush or a shut-down."""

    offset: int


class Revised(msgspec.Struct, frozen=True, tag="revised", tag_field="type"):
    """A record that the captions of this window were revised."""

    window: int


class Named(msgspec.Struct, frozen=True, tag="named", tag_field="type"):
    """A record that the sounds up to this sample, at 16 kHz, were asked for their names."""

    until: int


class Divided(msgspec.Struct, frozen=True, tag="divided", tag_field="type"):
    """A record that an utterance was divided into parts with one speaker each, by their voices.

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
Unnumbered = CaptionUpdate | SpeakerUpdate | Sound
Kept = Numbered | Unnumbered
KeptMessage = Kept | Cut | Revised | Divided | Named

NEWEST_KEPT: Final = 1_000  # messages of the history that stay in memory, so that an ordinary resume reads no disk

_DECODER: Final = msgspec.json.Decoder(KeptMessage)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A kept message.

    Attributes:
        record: the number of its record in the journal.
        event: the number of the newest event up to there.
    """

    record: int
    event: int
    message: Kept

    def follows(self, event: int) -> bool:
        """Return whether a client whose newest event is this one missed the message."""
        return event < self.event or (event == self.event and isinstance(self.message, Unnumbered))


def decode_event(record: EventRecord) -> KeptMessage:
    """Return the message of a record."""
    kept: KeptMessage = _DECODER.decode(record.message)
    return kept


def read_history(records: Iterable[tuple[int, KeptMessage]]) -> list[HistoryEntry]:
    """Return the history of a journal's records, each with its number; all records from the first on."""
    history, newest = list[HistoryEntry](), 0
    for number, message in records:
        if not isinstance(message, Cut | Revised | Divided | Named):
            newest = _event_of(message) or newest
            history.append(HistoryEntry(number, newest, message))
    return history


class EventLog:
    """One session's messages on their way to the client, its records on their way to the disk, and its history.

    Events are numbered 1, 2, 3 and so on. Sounds, and updates of captions and their speakers, are kept without a
    number: a client that resumes is sent again all that came after the newest event that it saw. The journal numbers
    its records by itself, because it also keeps cuts, revised windows, divided utterances and how far sounds are named,
    which no client is told of.

    The newest `NEWEST_KEPT` messages of the history stay in memory, and those that are not durable yet. Older ones are
    in the journal.

    Attributes:
        durable: sample frames of audio that are on disk.

    Args:
        journaled: whether the session is kept. If not, messages have no numbers, need not wait, and have no history.
    """

    def __init__(self, *, journaled: bool) -> None:
        self.journaled = journaled
        self.durable = 0
        self._event = 0  # number of the newest event
        self._record = self._committed = 0  # number of the newest record, and of the newest that is durable
        self._cut_at = 0  # the newest cut; before any audio there is nothing to cut
        self._history: deque[HistoryEntry] = deque()
        self._dropped: HistoryEntry | None = None  # the newest that is in the journal alone
        self._messages: deque[tuple[int, ServerMessage]] = deque()  # each with the record that must be durable before
        self._records: list[Record] = []

    # ---- in ----------------------------------------------------------------------------------------------------------

    def audio(self, offset: int, pcm: bytes, frames: int) -> None:
        """Keep sample frames as they came."""
        if self.journaled:
            self._records.append(AudioRecord(offset, pcm, frames))

    def gap(self, offset: int, frames: int) -> None:
        """Keep a declared gap."""
        if self.journaled:
            self._records.append(GapRecord(offset, frames))

    def cut(self, offset: int) -> None:
        """Keep that the open utterance and window were closed here; once for each offset."""
        if self.journaled and offset > self._cut_at:
            self._keep(Cut(offset))
            self._cut_at = offset

    def revised(self, window: int) -> None:
        """Keep that a window's captions are revised, after their updates."""
        if self.journaled:
            self._keep(Revised(window))

    def named(self, until: int) -> None:
        """Keep that the sounds up to a sample are named, after the names."""
        if self.journaled:
            self._keep(Named(until))

    def divided(self, divided: Divided) -> None:
        """Keep how an utterance was divided, before its captions."""
        if self.journaled:
            self._keep(divided)

    def tell(self, message: ServerMessage) -> ServerMessage:
        """Add a message for the client after all others; returns it with its event number.

        Final captions and their updates, sounds, speakers' names, answers and watch hits are kept. `flushed` waits
        until its cut is durable.
        """
        after = self._record if isinstance(message, Flushed) else 0
        if self.journaled and _is_kept(message):
            if not isinstance(message, Unnumbered):
                message = msgspec.structs.replace(message, event=self._event + 1)
            self._keep(message)
            self._remember(HistoryEntry(self._record, _event_of(message) or self._event, message))
            after = self._record
        self._messages.append((after, message))
        return message

    def committed(self, durable: int, record: int) -> None:
        """Take the news that the journal has so many sample frames, and records up to this one."""
        self.durable = max(self.durable, durable)
        self._committed = max(self._committed, record)
        self._trim()

    def restore(self, durable: int, records: Sequence[tuple[int, KeptMessage]]) -> None:
        """Begin where the journal ends; ``records``: all of them, each with its number."""
        self._record = self._committed = records[-1][0] if records else 0
        self._cut_at = max((kept.offset for _, kept in records if isinstance(kept, Cut)), default=0)
        for entry in read_history(records):
            self._remember(entry)
        self.durable = durable
        self._messages.clear()

    # ---- out ---------------------------------------------------------------------------------------------------------

    def take_messages(self) -> list[ServerMessage]:
        """Return the messages to send now, in order. One that waits for the disk holds back what follows it."""
        ready: list[ServerMessage] = []
        while self._messages and self._messages[0][0] <= self._committed:
            ready.append(self._messages.popleft()[1])
        return ready

    def take_records(self) -> list[Record]:
        """Return the records to write, in order."""
        records, self._records = self._records, []
        return records

    @property
    def waiting(self) -> bool:
        """Whether messages are held back."""
        return bool(self._messages)

    @property
    def last_event(self) -> int:
        """The number of the newest event that is durable."""
        newest = next((entry for entry in reversed(self._history) if entry.record <= self._committed), self._dropped)
        return newest.event if newest else 0

    # ---- history -----------------------------------------------------------------------------------------------------

    def remembers(self, event: int, older: Sequence[HistoryEntry] = ()) -> bool:
        """Return whether all messages after an event are in memory, or in ``older``, which `read_history` gave."""
        dropped = self._dropped
        return dropped is None or not dropped.follows(event) or bool(older and older[-1].record >= dropped.record)

    def since(self, event: int, older: Sequence[HistoryEntry] = ()) -> list[ServerMessage]:
        """Return the durable messages after an event, for a client that resumes. Those held back follow by themselves.

        Raises:
            DataLoss: if some are neither in memory nor in ``older``.
        """
        dropped_to = self._dropped.record if self._dropped else 0
        if self._dropped and not self.remembers(event, older):
            raise DataLoss("events", event + 1, max(event + 1, self._dropped.event) + 1)
        history = [*(entry for entry in older if entry.record <= dropped_to), *self._history]
        return [entry.message for entry in history if entry.record <= self._committed and entry.follows(event)]

    def _keep(self, kept: KeptMessage) -> None:
        self._record += 1
        self._records.append(EventRecord(self._record, msgspec.json.encode(kept)))

    def _remember(self, entry: HistoryEntry) -> None:
        self._event = entry.event
        self._history.append(entry)
        self._trim()

    def _trim(self) -> None:
        while len(self._history) > NEWEST_KEPT and self._history[0].record <= self._committed:
            self._dropped = self._history.popleft()


def _is_kept(message: ServerMessage) -> TypeGuard[Kept]:
    if isinstance(message, Caption):
        return message.final
    return isinstance(message, Answer | WatchHit | SpeakerNamed | Unnumbered)


def _event_of(message: Kept) -> int | None:
    return None if isinstance(message, Unnumbered) else message.event
