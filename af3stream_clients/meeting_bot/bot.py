"""Run the bot of one meeting; a later run continues after any stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import random
from typing import Any, Final, TypeVar

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
from af3stream_clients.meeting_bot import minutes
from af3stream_clients.meeting_bot.audio_receiver import AudioReceiver
from af3stream_clients.meeting_bot.delivery import FIRST_DELAY_S, Deliverer, drained
from af3stream_clients.meeting_bot.events import RuleEngine
from af3stream_clients.meeting_bot.outbox import Outbox, now
from af3stream_clients.meeting_bot.recording import RATE, Recording
from af3stream_clients.meeting_bot.rules import RulesFile
from af3stream_clients.meeting_bot.service_session import Meeting, ServiceSession
from af3stream_clients.meeting_bot.sources import open_source
from af3stream_clients.meeting_bot.state import State

Result = TypeVar("Result")

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
    """Options of the bot.

    Attributes:
        out: folder of the minutes.
        state: folder of the bot's state until the minutes are written.
        end_after_s: the meeting is over after so many seconds without Attendee, or without a live source.
        give_up_after_s: the bot exits after so many seconds without the service; it can be started again.
        drain_s: how long the bot waits at the end for the delivery of events.
        first_delay_s: delay before the second attempt to deliver an event.
        note: called with messages for people.
    """

    source: str
    server: str
    out: Path
    state: Path
    token: str | None = None
    end_after_s: float = 90.0
    give_up_after_s: float = 3_600.0
    drain_s: float = 120.0
    first_delay_s: float = FIRST_DELAY_S
    note: Callable[[str], None] = print


class Bot:
    """The bot of one meeting. Another bot on the same folders continues where this one stopped, even if it was killed.

    Attributes:
        address: URL for Attendee to connect to; empty until it is served.
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
        self._receiver = AudioReceiver(self._state, self._recording, options.note)
        self._rules = RuleEngine(rules, {r.name: t for r in rules.rule if (t := self._state.fact(f"told {r.name}"))})
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
        """Why the source broke off; empty if it did not."""
        return self._receiver.problem

    def stop(self) -> None:
        """End the meeting, and finish what was received."""
        self._stopping.set()

    async def run(self) -> bool:
        """Run until the meeting is over and its events are delivered.

        Returns:
            Whether all events were taken or given up; if not, another run continues with them.

        Raises:
            SourceError: if the source or the service cannot be reached at the start.
            ConnectionLost, ServerError: if the service stays unreachable, or refuses the meeting.
        """
        delivering = [asyncio.create_task(deliverer.run()) for deliverer in self._deliverers.values()]
        try:
            return await _run_first(self._run_meeting(), *delivering)
        finally:
            for task in delivering:
                task.cancel()
            await asyncio.gather(*delivering, return_exceptions=True)
            self._recording.close()
            self._state.close()

    async def _run_meeting(self) -> bool:
        self._state.set_facts(source=self._options.source, begun=self._state.fact("begun") or now())
        if not self._state.fact("ended"):
            await self._listen()
        if not self._state.fact("finished"):
            self._finish()
        return await drained(self._state, self._options.drain_s)

    async def _listen(self) -> None:
        if self._receiver.complete:
            await self._run_sessions()
            return
        async with open_source(self._options.source, self._receiver.resume_point, self._options.end_after_s) as source:
            self.address = source.address
            if source.address:
                self._options.note(f"Attendee may dial {source.address}")
            taking = asyncio.create_task(self._receiver.receive(source, self._stopping))
            try:
                await _run_first(self._run_sessions(), taking)
            finally:
                taking.cancel()
                await asyncio.wait((taking,))

    async def _run_sessions(self) -> None:
        """Run one session after another until the whole recording is processed."""
        clock = asyncio.get_running_loop().time
        good_until, attempt = clock(), 0
        while True:
            known, heard = bool(self._state.fact("session")), self._state.caption_end()
            try:
                await self._run_session()
                return
            except RETRIED as error:
                self._raise_if_permanent(error, known=known)
                if self._state.caption_end() > heard:
                    good_until, attempt = clock(), 0
                if clock() - good_until > self._options.give_up_after_s:
                    raise
                self._options.note(f"{error}; trying again")
                await asyncio.sleep(delay_s(attempt, random()))
                attempt += 1

    def _raise_if_permanent(self, error: Exception, *, known: bool) -> None:
        """Raise an error that a new session would not solve: a refusal of a new session, or of the first one."""
        if isinstance(error, ServerError) and not error.error.retryable:
            if not self._state.fact("token"):
                raise error
            self._state.set_facts(token="")
        elif not known and not self._state.fact("session"):
            raise error

    async def _run_session(self) -> None:
        """Resume the session, or begin a new one at the end of the last caption."""
        token = self._state.fact("token")
        earlier = ResumeToken(token, int(self._state.fact("last_event", "0"))) if token else None
        captions = self._file.captions
        opening = connect(
            self._options.server,
            token=self._options.token,
            rate=RATE,
            interims=False,
            language=captions.language,
            languages=captions.languages,
            vocabulary=captions.vocabulary,
            speakers=captions.speakers,
            reconnect_for=self._options.give_up_after_s,
            resume=earlier,
            on_state=lambda state: self._note_token(session) if state == "open" else None,
        )
        async with opening as session:
            base = self._resume_session(session) if earlier else self._begin_session()
            self._note_token(session)
            meeting = Meeting(
                self._state,
                self._recording,
                self._receiver,
                self._rules,
                self._file.minutes,
                self._outbox,
                self._options.note,
            )
            await ServiceSession(meeting, session, base).run()

    def _resume_session(self, session: Session) -> int:
        """Return the start of a resumed session; audio that it has and the recording lacks becomes a gap."""
        base = int(self._state.fact("base"))
        self._receiver.add_gap(max(0, base + session.sent - self._recording.frames))
        return base

    def _begin_session(self) -> int:
        """Return the start of a new session, and store it."""
        base = min(round(self._state.caption_end() * RATE), self._recording.frames)
        with self._state.transaction():
            self._state.set_facts(base=base, last_event=0, voices_before=self._state.fact("voices", "0"))
            self._state.begin_session()
        return base

    def _note_token(self, session: Session) -> None:
        self._state.set_facts(token=session.ready.resume, session=session.ready.session)

    def _finish(self) -> None:
        """Write the minutes, and post them to the rules with ``at_end``."""
        self._state.set_facts(frames=self._recording.frames)
        try:
            written = minutes.write(self._options.out, self._state, self._file, self._recording)
        except OSError as error:
            raise SourceError(f"cannot write the minutes to {self._options.out}: {error.strerror}") from None
        folder = str(self._options.out.absolute())
        with self._state.transaction():
            for rule in self._rules.at_end():
                self._outbox.post_minutes(rule, folder, written)
            self._state.set_facts(finished=1)
        with suppress(OSError):
            self._recording.path.unlink()
        self._options.note(f"minutes: {self._options.out / 'minutes.md'}")


async def _run_first(main: Coroutine[Any, Any, Result], *others: asyncio.Task[None]) -> Result:
    """Return the result of ``main``, which is cancelled if another task fails."""
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
