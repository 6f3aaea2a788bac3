"""Attendee's realtime audio: its messages, and one timeline out of many participants' streams. No clock, no socket.

Attendee dials the bot, and sends JSON: ``{bot_id, trigger, data: {chunk, sample_rate, timestamp_ms, sequence}}`` with
``realtime_audio.mixed``, or ``realtime_audio.per_participant`` and ``data.participant_uuid``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from af3stream.audio.pcm import AudioFormat, PcmDecoder
from af3stream.errors import BadFormat
from clients.meeting_bot.recording import RATE

MIXED: Final = "realtime_audio.mixed"
PARTICIPANT: Final = "realtime_audio.per_participant"
SPEECH_RMS: Final = 0.005  # of full scale; below it a participant is silent
JITTER: Final = RATE // 4  # a time stamp that is off by less is jitter
REORDER_DELAY: Final = RATE // 2  # how long a stretch waits for the other participants' part of it
MAX_JUMP: Final = 3_600 * RATE  # a time stamp that leaps by more is not believed


class Data(msgspec.Struct, frozen=True):
    """What is used of ``data``; other fields may come."""

    chunk: str = ""
    sample_rate: int = RATE
    timestamp_ms: int | None = None
    participant_uuid: str | None = None
    participant_name: str | None = None
    sequence: int | None = None


class Envelope(msgspec.Struct, frozen=True):
    """One message."""

    trigger: str
    bot_id: str = ""
    data: Data = Data()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Sound from one participant, or with ``None`` from all: mono 16-bit ``pcm`` at ``rate`` Hz."""

    participant: str | None
    pcm: bytes
    rate: int
    at_ms: int | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """What a participant is called."""

    participant: str
    name: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A participant is heard, from one sample frame to another."""

    participant: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Missing:
    """So many sample frames never arrived."""

    frames: int


class InvalidMessage(ValueError):
    """A message that is none of Attendee's."""


def read(text: str | bytes) -> tuple[str, list[Chunk | Name]]:
    """The bot's id, and what the message says; a trigger that is of no use here says nothing.

    Raises:
        Nonsense: for what is no such message; nothing of it is used.
    """
    try:
        envelope = msgspec.json.decode(text, type=Envelope)
        pcm = base64.b64decode(envelope.data.chunk, validate=True)
        AudioFormat("pcm_s16le", envelope.data.sample_rate)
    except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError, BadFormat) as error:
        raise InvalidMessage(str(error)) from None
    data, said = envelope.data, list[Chunk | Name]()
    if data.participant_uuid and data.participant_name:
        said.append(Name(data.participant_uuid, data.participant_name))
    if envelope.trigger == PARTICIPANT and not data.participant_uuid:
        raise InvalidMessage(f"{PARTICIPANT} without participant_uuid")
    if envelope.trigger in (MIXED, PARTICIPANT):
        who = data.participant_uuid if envelope.trigger == PARTICIPANT else None
        whole = pcm[: len(pcm) // 2 * 2]
        if whole:
            said.append(Chunk(who, whole, data.sample_rate, data.timestamp_ms, data.sequence))
    return envelope.bot_id, said


@dataclass
class _Stream:
    """One participant's place on the timeline."""

    decoder: PcmDecoder
    at: int  # the next sample frame
    sequence: int | None = None


@dataclass
class Mixer:
    """Chunks go in where their time stamps say, mixed sound and turns come out in order.

    Nothing that arrives is left out: a chunk that comes after its time was given out is put where the timeline stands,
    and the next pause makes up for it. Where mixed sound comes, participants only tell who is heard. Silence that
    nobody sends is silence; what a reconnection or a skipped ``sequence`` leaves open is :class:`Missing`.

    Attributes:
        given: sample frames that were given out.
        origin_ms: the time stamp at which the timeline begins; kept over a restart by the caller.
    """

    given: int = 0
    origin_ms: int | None = None
    _streams: dict[str | None, _Stream] = field(default_factory=dict)
    _pending: list[tuple[int, NDArray[np.float32]]] = field(default_factory=list)  # where, samples
    _turns: list[Turn] = field(default_factory=list)
    _missing: list[tuple[int, int]] = field(default_factory=list)
    _cut: bool = False  # the next chunk is the first since a reconnection

    def __post_init__(self) -> None:
        self._newest, self._cut = self.given, self.given > 0

    def reconnected(self) -> None:
        """Attendee has dialled anew: what is between was lost."""
        self._cut = True

    def push(self, chunk: Chunk) -> None:
        """Take in a chunk."""
        stream = self._streams.get(chunk.participant)
        if stream is None or stream.decoder.format.rate != chunk.rate:
            stream = _Stream(PcmDecoder(AudioFormat("pcm_s16le", chunk.rate)), stream.at if stream else self._newest)
            self._streams[chunk.participant] = stream
        stream.at = self._place(stream, chunk)
        second = chunk.rate * 2
        pieces = [stream.decoder.decode(chunk.pcm[i : i + second]) for i in range(0, len(chunk.pcm), second)]
        samples = np.concatenate(pieces)
        begin, stream.at = stream.at, stream.at + len(samples)
        self._newest = max(self._newest, stream.at)
        if chunk.participant is not None and _rms(samples) >= SPEECH_RMS:
            self._turns.append(Turn(chunk.participant, begin, stream.at))
        if chunk.participant is None or None not in self._streams:
            self._pending.append((begin, samples))

    def quiet(self, frames: int) -> None:
        """Nobody has sent anything for so long: the timeline goes on in silence."""
        self._newest += frames

    def pull(self, *, all_of_it: bool = False) -> Iterator[NDArray[np.float32] | Missing | Turn]:
        """What is complete, at most a second in a piece; turns first.

        Args:
            all_of_it: nothing more comes to what is held.
        """
        turns, self._turns = self._turns, []
        yield from turns
        until = self._newest if all_of_it else self._newest - REORDER_DELAY
        while self.given < until:
            begin, end = self._missing[0] if self._missing else (until, until)
            if begin <= self.given:
                del self._missing[0]
                yield Missing(end - self.given)
                self._give(end)
            else:
                stop = min(begin, until, self.given + RATE)
                sound = self._sum(stop)
                self._give(stop)
                yield sound

    def _place(self, stream: _Stream, chunk: Chunk) -> int:
        """Where the chunk begins; what is lost before it is noted."""
        begin, skipped = stream.at, None not in (stream.sequence, chunk.sequence)
        skipped = skipped and chunk.sequence != (stream.sequence or 0) + 1
        lossy, self._cut, stream.sequence = skipped or self._cut, False, chunk.sequence
        if chunk.at_ms is not None:
            if self.origin_ms is None:
                self.origin_ms = chunk.at_ms - begin * 1_000 // RATE
            stamped = (chunk.at_ms - self.origin_ms) * RATE // 1_000
            if JITTER < abs(stamped - begin) < MAX_JUMP:
                begin = stamped
            if lossy and begin > self._newest:
                self._missing.append((self._newest, begin))
        return max(begin, self.given)

    def _sum(self, stop: int) -> NDArray[np.float32]:
        """The held sound from ``given`` to ``stop``."""
        sound = np.zeros(stop - self.given, np.float32)
        for at, samples in self._pending:
            begin, end = max(at, self.given), min(at + len(samples), stop)
            if begin < end:
                sound[begin - self.given : end - self.given] += samples[begin - at : end - at]
        return sound.clip(-1, 1)

    def _give(self, stop: int) -> None:
        self.given = stop
        self._pending = [(at, samples) for at, samples in self._pending if at + len(samples) > stop]


def _rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0
