"""One meeting: taken in to the disk, told to the service, noted, delivered; gone on with after any stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import random
from typing import Any, Final

from af3stream.client import (
    AdmissionError,
    AuthenticationError,
    NetworkError,
    ProtocolError,
    ResumeToken,
    ServerError,
    Session,
    SessionEnded,
    connect,
)
from af3stream.client.backoff import delay_s
from af3stream.errors import SourceError
from clients.meeting_bot import minutes
from clients.meeting_bot.delivery import FIRST_S, Deliverer, drained
from clients.meeting_bot.events import Rules
from clients.meeting_bot.intake import Intake
from clients.meeting_bot.outbox import Outbox, now
from clients.meeting_bot.recording import RATE, Recording
from clients.meeting_bot.rules import RulesFile
from clients.meeting_bot.sources import open_source
from clients.meeting_bot.state import State
from clients.meeting_bot.telling import Meeting, Telling

RETRIED: Final = (  # errors after which another session is tried
    SourceError,
    ServerError,
    NetworkError,
    AdmissionError,
    AuthenticationError,
    ProtocolError,
    SessionEnded,
)


@dataclass(frozen=True, slots=True)
class Options:
    """What to do.

    Attributes:
        out: where the minutes are written.
        state: where the bot keeps what it knows until they are.
        end_after_s: seconds without Attendee, or without a live source that broke off, after which the meeting is over.
        give_up_after_s: seconds without the service after which the bot leaves, to be started again.
        drain_s: how long the last events may take.
        first_delay_s: before the second attempt to deliver an event.
        note: told what happens, for people.
    """

    source: str
    server: str
    out: Path
    state: Path
    token: str | None = None
    end_after_s: float = 90.0
    give_up_after_s: float = 3_600.0
    drain_s: float = 120.0
    first_delay_s: float = FIRST_S
    note: Callable[[str], None] = print


class Bot:
    """One meeting's bot. Another one on the same folders goes on where this one stopped, however it stopped.

    Attributes:
        address: where Attendee may dial the bot, once it may.
    """

    def __init__(self, options: Options, rules: RulesFile) -> None:
        self._options, self._file = options, rules
        try:
            options.state.mkdir(parents=True, exist_ok=True)
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"cannot write to {error.filename}: {error.strerror}") from None
        self._state = State(options.state / "state.db")
        if (known := self._state.fact("source", options.source)) != options.source:
            self._state.close()
            raise SourceError(f"{options.state} is of a meeting from {known}, choose another --out")
        self._recording = Recording(options.state / "recording.pcm")
        self._intake = Intake(self._state, self._recording, options.note)
        self._rules = Rules(rules, {r.name: t for r in rules.rule if (t := self._state.fact(f"told {r.name}"))})
        dead = options.state / "dead-letters.jsonl"
        self._deliverers = {
            name: Deliverer(name, action, self._state, dead, options.first_delay_s, options.note)
            for name, action in rules.action.items()
        }
        self._outbox = Outbox(self._state, rules, self._deliverers)
        self._stopping = asyncio.Event()
        self.address = ""

    @property
    def problem(self) -> str:
        """Why the source broke off; empty where it did not."""
        return self._intake.problem

    def stop(self) -> None:
        """The meeting is over: what was heard is finished."""
        self._stopping.set()

    async def run(self) -> bool:
        """To the end of the meeting, and of what is to be told about it.

        Returns:
            Whether all events were taken or given up; if not, another run goes on with them.

        Raises:
            SourceError: for a source or a service that cannot be reached when nothing was heard yet.
            ConnectionLost, ServerError: where the service stayed away, or does not take the meeting.
        """
        delivering = [asyncio.create_task(deliverer.run()) for deliverer in self._deliverers.values()]
        try:
            return bool(await _first(self._meet(), *delivering))
        finally:
            for task in delivering:
                task.cancel()
            await asyncio.gather(*delivering, return_exceptions=True)
            self._recording.close()
            self._state.close()

    async def _meet(self) -> bool:
        self._state.note(source=self._options.source, begun=self._state.fact("begun") or now())
        if not self._state.fact("ended"):
            await self._listen()
        if not self._state.fact("finished"):
            self._finish()
        return await drained(self._state, self._options.drain_s)

    async def _listen(self) -> None:
        if self._intake.complete:
            await self._hold_sessions()
            return
        async with open_source(self._options.source, self._intake.before, self._options.end_after_s) as source:
            self.address = source.address
            if source.address:
                self._options.note(f"Attendee may dial {source.address}")
            taking = asyncio.create_task(self._intake.take_in(source, self._stopping))
            try:
                await _first(self._hold_sessions(), taking)
            finally:
                taking.cancel()
                await asyncio.wait((taking,))

    async def _hold_sessions(self) -> None:
        """One session after another, until one has heard everything."""
        clock = asyncio.get_running_loop().time
        good_until, attempt = clock(), 0
        while True:
            known, heard = bool(self._state.fact("session")), self._state.caption_end()
            try:
                await self._converse()
                return
            except RETRIED as error:
                self._forgive(error, known=known)
                if self._state.caption_end() > heard:
                    good_until, attempt = clock(), 0
                if clock() - good_until > self._options.give_up_after_s:
                    raise
                self._options.note(f"{error}; trying again")
                await asyncio.sleep(delay_s(attempt, random()))
                attempt += 1

    def _forgive(self, error: Exception, *, known: bool) -> None:
        """Raise what another session would not mend: a refusal of a new one, or of the first of all."""
        if isinstance(error, ServerError) and not error.error.retryable:
            if not self._state.fact("token"):
                raise error
            self._state.note(token="")
        elif not known and not self._state.fact("session"):
            raise error

    async def _converse(self) -> None:
        """One session: gone on with, or begun where the last caption ends."""
        token = self._state.fact("token")
        earlier = ResumeToken(token, int(self._state.fact("last_event", "0"))) if token else None
        opening = connect(
            self._options.server,
            token=self._options.token,
            rate=RATE,
            interims=False,
            reconnect_for=self._options.give_up_after_s,
            resume=earlier,
            on_state=lambda state: self._note_token(session) if state == "open" else None,
        )
        async with opening as session:
            base = self._resumed(session) if earlier else self._begun()
            self._note_token(session)
            meeting = Meeting(
                self._state,
                self._recording,
                self._intake,
                self._rules,
                self._file.minutes,
                self._outbox,
                self._options.note,
            )
            await Telling(meeting, session, base).run()

    def _resumed(self, session: Session) -> int:
        """Where a session that goes on began; what it has and the recording does not was lost here."""
        base = int(self._state.fact("base"))
        self._intake.lose(max(0, base + session.sent - self._recording.frames))
        return base

    def _begun(self) -> int:
        """Where a new session begins."""
        base = min(round(self._state.caption_end() * RATE), self._recording.frames)
        with self._state.transaction():
            self._state.note(base=base, last_event=0)
        return base

    def _note_token(self, session: Session) -> None:
        self._state.note(token=session.ready.resume, session=session.ready.session)

    def _finish(self) -> None:
        """Write the minutes, and tell who wants them."""
        self._state.note(frames=self._recording.frames)
        try:
            written = minutes.write(self._options.out, self._state, self._file, self._recording)
        except OSError as error:
            raise SourceError(f"cannot write the minutes to {self._options.out}: {error.strerror}") from None
        folder = str(self._options.out.absolute())
        with self._state.transaction():
            for rule in self._rules.at_end():
                self._outbox.post_minutes(rule, folder, written)
            self._state.note(finished=1)
        with suppress(OSError):
            self._recording.path.unlink()
        self._options.note(f"minutes: {self._options.out / 'minutes.md'}")


async def _first(main: Coroutine[Any, Any, Any], *others: asyncio.Task[None]) -> Any:
    """The result of ``main``; the failure of another ends it."""
    working = asyncio.ensure_future(main)
    pending: set[asyncio.Future[Any]] = {working, *others}
    try:
        while not working.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return working.result()
    finally:
        working.cancel()
        await asyncio.wait((working,))
        if not working.cancelled():
            working.exception()
