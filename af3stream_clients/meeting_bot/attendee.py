"""Attendee's realtime audio: decode its messages, and mix the participants' streams into one timeline.

Attendee connects to the bot, and sends JSON: ``{bot_id, trigger, data: {chunk, sample_rate, timestamp_ms, sequence}}``.
The trigger is ``realtime_audio.mixed``, or ``realtime_audio.per_participant`` with ``data.participant_uuid``.
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
from af3stream_clients.meeting_bot.recording import RATE

MIXED: Final = "realtime_audio.mixed"
PARTICIPANT: Final = "realtime_audio.per_participant"
SPEECH_RMS: Final = 0.005  # of full scale; a participant below it is silent
JITTER: Final = RATE // 4  # a smaller deviation of a time stamp is ignored
REORDER_DELAY: Final = RATE // 2  # how long audio waits for that of other participants
MAX_JUMP: Final = 3_600 * RATE  # a larger deviation of a time stamp is ignored as invalid


class Data(msgspec.Struct, frozen=True):
    """The used fields of ``data``; others are ignored."""

    chunk: str = ""
    sample_rate: int = RATE
    timestamp_ms: int | None = None
    participant_uuid: str | None = None
    participant_name: str | None = None
    sequence: int | None = None


class Envelope(msgspec.Struct, frozen=True):
    """One message of Attendee."""

    trigger: str
    bot_id: str = ""
    data: Data = Data()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Audio of one participant, or of all if ``None``: mono 16-bit ``pcm`` at ``rate`` Hz."""

    participant: str | None
    pcm: bytes
    rate: int
    at_ms: int | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a participant."""

    participant: str
    name: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A participant speaks, from sample frame ``begin`` to ``end``."""

    participant: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Missing:
    """A gap of ``frames`` lost sample frames."""

    frames: int


class InvalidMessage(ValueError):
    """The message is not one of Attendee's."""


def read(text: str | bytes) -> tuple[str, list[Chunk | Name]]:
    """Decode a message into the bot's id and its content; an unknown trigger has no content.

    Raises:
        InvalidMessage: if it is malformed; no part of it is used.
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
    """The position of one participant's stream on the timeline."""

    decoder: PcmDecoder
    at: int  # the next sample frame
    sequence: int | None = None


@dataclass
class Mixer:
    """Mixes chunks by their time stamps; yields mixed audio and turns in order.

    No received audio is dropped: a chunk that arrives late is placed at the current end of the output, and the next
    pause makes up for it. If Attendee sends mixed audio, the participants' streams are used for turns only. A pause
    between chunks is silence; a gap after a reconnection or a skipped ``sequence`` is ``Missing``.

    Attributes:
        given: sample frames of the output so far.
        origin_ms: time stamp of the start of the timeline; the caller keeps it over a restart.
    """

    given: int = 0
    origin_ms: int | None = None
    _streams: dict[str | None, _Stream] = field(default_factory=dict)
    _pending: list[tuple[int, NDArray[np.float32]]] = field(default_factory=list)  # position, samples
    _turns: list[Turn] = field(default_factory=list)
    _missing: list[tuple[int, int]] = field(default_factory=list)
    _cut: bool = False  # the next chunk is the first since a reconnection

    def __post_init__(self) -> None:
        self._newest, self._cut = self.given, self.given > 0

    def reconnected(self) -> None:
        """Note that Attendee has reconnected: the audio between is lost."""
        self._cut = True

    def push(self, chunk: Chunk) -> None:
        """Add a chunk."""
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
        """Extend the timeline by ``frames`` of silence."""
        self._newest += frames

    def pull(self, *, all_of_it: bool = False) -> Iterator[NDArray[np.float32] | Missing | Turn]:
        """Yield the complete output, turns first, audio in pieces of at most a second.

        Args:
            all_of_it: also yield audio that still waits for other participants.
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
        """Return the position of a chunk, and record a gap before it."""
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
        """Mix the pending audio from ``given`` to ``stop``."""
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
