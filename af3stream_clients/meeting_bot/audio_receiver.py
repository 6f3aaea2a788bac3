"""Write audio, speaker turns and gaps from the source to disk, independently of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from af3stream.errors import SourceError
from af3stream_clients.meeting_bot.attendee import Missing, Name, Turn
from af3stream_clients.meeting_bot.recording import RATE, Recording
from af3stream_clients.meeting_bot.sources import Piece, ResumePoint, Source
from af3stream_clients.meeting_bot.state import State

TURN_JOINS: Final = RATE  # a shorter pause does not end a turn


class AudioReceiver:
    """Receives a source until it ends or is stopped.

    Attributes:
        complete: whether the source has ended.
        changed: set when something was received.
        problem: why the source broke off; empty if it did not.
    """

    def __init__(self, state: State, recording: Recording, note: Callable[[str], None]) -> None:
        self._state, self._recording, self._note = state, recording, note
        self.complete = bool(state.fact("complete"))
        self.changed = asyncio.Event()
        self.problem = ""

    @property
    def resume_point(self) -> ResumePoint:
        """What an earlier run has received already."""
        origin = self._state.fact("origin_ms")
        return ResumePoint(self._recording.frames, int(origin) if origin else None)

    async def receive(self, source: Source, stopping: asyncio.Event) -> None:
        """Receive the whole source. A source that is not live starts again, and its known part is skipped."""
        skip = 0 if source.live else self._recording.frames * 2  # bytes
        if source.live and not source.timed and self._recording.frames:
            self.add_gap(round(self._recording.idle_s * RATE))
        stop = asyncio.create_task(stopping.wait())
        pieces = aiter(source.pieces)
        try:
            while True:
                following = asyncio.ensure_future(anext(pieces))
                await asyncio.wait((following, stop), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    break
                piece = following.result()
                if isinstance(piece, bytes) and skip:
                    piece, skip = piece[skip:], max(0, skip - len(piece))
                self._take(piece, source)
        except StopAsyncIteration:
            pass
        except SourceError as error:
            self.problem = str(error)
            self._note(f"{error}; the meeting ends here")
        finally:
            stop.cancel()
        self.complete = True
        self._state.set_facts(complete=1)
        self.changed.set()

    def add_gap(self, frames: int) -> None:
        """Record ``frames`` lost sample frames as silence."""
        begin = self._recording.frames
        if frames:
            self._state.add_lost(begin, begin + frames)  # first, or the silence would count as audio
            self._recording.append_silence(frames)

    def _take(self, piece: Piece, source: Source) -> None:
        match piece:
            case Missing():
                self.add_gap(piece.frames)
            case Turn():
                self._state.add_turn(piece.participant, piece.begin, piece.end, TURN_JOINS)
            case Name():
                self._state.set_name(piece.participant, piece.name)
            case _:
                self._recording.append(piece)
        if not self._state.fact("origin_ms") and (origin := source.origin_ms()) is not None:
            self._state.set_facts(origin_ms=origin)
        self.changed.set()
