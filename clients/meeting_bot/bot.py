"""One meeting: taken in to the disk, told to the service, noted, delivered; gone on with after any stop."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import random
from typing import Any, Final

from af3stream.client import ConnectionLost, Earlier, ServerError, Session, SessionEnded, connect
from af3stream.client.backoff import delay_s
from af3stream.errors import SourceError
from af3stream.protocol.messages import Answer, Caption, Error, WatchHit
from clients.meeting_bot import minutes
from clients.meeting_bot.attendee import Missing, Name, Turn
from clients.meeting_bot.delivery import FIRST_S, Deliverer, drained
from clients.meeting_bot.events import Event, Rules
from clients.meeting_bot.recording import RATE, Recording
from clients.meeting_bot.rules import RulesFile
from clients.meeting_bot.sources import Before, Piece, Source, open_source
from clients.meeting_bot.state import Answered, Said, State

TURN_JOINS: Final = RATE  # a breath does not end a turn
SHARE: Final = 0.25  # of a caption's time: who is heard for less of it is not named
SHORTEST_CHAPTER: Final = RATE
WINDOWS_BEHIND: Final = 2  # the open one, and the silence after it that does not close it yet; less would never come
ATTEMPTS: Final = 3  # at a question that the service could not answer then


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
    """One meeting's bot. Another one on the same folders goes on where this one stopped, however it stopped."""

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
        self._rules = Rules(rules, {r.name: t for r in rules.rule if (t := self._state.fact(f"told {r.name}"))})
        dead = options.state / "dead-letters.jsonl"
        self._deliverers = {
            name: Deliverer(name, action, self._state, dead, options.first_delay_s)
            for name, action in rules.action.items()
        }
        self._news = asyncio.Event()
        self._complete = bool(self._state.fact("complete"))
        self._stopping = asyncio.Event()
        self._base = 0  # sample frames of the recording before the session's first
        self._watches: dict[str, str] = {}
        self._live = True
        self.address = ""
        self.problem = ""

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
        self._state.note(source=self._options.source, begun=self._state.fact("begun") or _now())
        if not self._state.fact("ended"):
            await self._listen()
        if not self._state.fact("finished"):
            self._finish()
        return await drained(self._state, self._options.drain_s)

    async def _listen(self) -> None:
        if self._complete:
            await self._hold_sessions()
            return
        origin = self._state.fact("origin_ms")
        before = Before(self._recording.frames, int(origin) if origin else None)
        async with open_source(self._options.source, before, self._options.end_after_s) as source:
            self.address, self._live = source.address, source.live
            if source.address:
                self._options.note(f"Attendee may dial {source.address}")
            taking = asyncio.create_task(self._take_in(source))
            try:
                await _first(self._hold_sessions(), taking)
            finally:
                taking.cancel()
                await asyncio.wait((taking,))

    # From the source to the disk.

    async def _take_in(self, source: Source) -> None:
        skip = 0 if source.live else self._recording.frames * 2  # bytes
        if source.live and not source.timed and self._recording.frames:
            self._lose(round(self._recording.idle_s * RATE))
        stopping = asyncio.create_task(self._stopping.wait())
        pieces = aiter(source.pieces)
        try:
            while True:
                following = asyncio.ensure_future(anext(pieces))
                await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    break
                piece = following.result()
                if isinstance(piece, bytes) and skip:
                    piece, skip = piece[skip:], max(0, skip - len(piece))
                self._take(piece)
                if not self._state.fact("origin_ms") and (origin := source.origin_ms()) is not None:
                    self._state.note(origin_ms=origin)
                self._news.set()
        except StopAsyncIteration:
            pass
        except SourceError as error:
            self.problem = str(error)
            self._options.note(f"{error}; the meeting ends here")
        finally:
            stopping.cancel()
        self._complete = True
        self._state.note(complete=1)
        self._news.set()

    def _take(self, piece: Piece) -> None:
        match piece:
            case Missing():
                self._lose(piece.frames)
            case Turn():
                self._state.add_turn(piece.participant, piece.begin, piece.end, TURN_JOINS)
            case Name():
                self._state.set_name(piece.participant, piece.name)
            case _:
                self._recording.append(piece)

    def _lose(self, frames: int) -> None:
        begin = self._recording.frames
        if frames:
            self._state.add_lost(begin, begin + frames)  # first: silence that is not noted would count as heard
            self._recording.append_silence(frames)

    # From the disk to the service.

    async def _hold_sessions(self) -> None:
        """One session after another, until one has heard everything."""
        clock = asyncio.get_running_loop().time
        good_until, attempt = clock(), 0
        while True:
            known = bool(self._state.fact("session"))
            heard = self._recording_heard()
            try:
                await self._converse()
                return
            except (SourceError, ServerError, ConnectionLost, SessionEnded) as error:
                if isinstance(error, ServerError) and not error.error.retryable:
                    if not self._state.fact("token"):
                        raise
                    self._state.note(token="")
                elif not known and not self._state.fact("session"):
                    raise
                if self._recording_heard() > heard:
                    good_until, attempt = clock(), 0
                if clock() - good_until > self._options.give_up_after_s:
                    raise
                self._options.note(f"{error}; trying again")
                await asyncio.sleep(delay_s(attempt, random()))
                attempt += 1

    def _recording_heard(self) -> float:
        return self._state.caption_end()

    async def _converse(self) -> None:
        """One session: gone on with, or begun where the last caption ends."""
        token = self._state.fact("token")
        earlier = Earlier(token, int(self._state.fact("last_event", "0"))) if token else None
        opening = connect(
            self._options.server,
            token=self._options.token,
            rate=RATE,
            interims=False,
            reconnect_for=self._options.give_up_after_s,
            earlier=earlier,
            on_state=lambda state: self._note_token(session) if state == "open" else None,
        )
        async with opening as session:
            if earlier:
                self._base = int(self._state.fact("base"))
                if behind := self._base + session.sent - self._recording.frames:
                    self._lose(max(0, behind))
            else:
                self._base = min(round(self._state.caption_end() * RATE), self._recording.frames)
                with self._state.transaction():
                    self._state.note(base=self._base, last_event=0)
            self._note_token(session)
            await _together(self._read(session), self._tell(session))

    def _note_token(self, session: Session) -> None:
        self._state.note(token=session.ready.resume, session=session.ready.session)

    async def _tell(self, session: Session) -> None:
        for watch in self._state.fact("watches").split():
            await session.unwatch(watch)
        self._watches = {await session.watch(text): name for name, text in self._rules.standing.items()}
        self._state.note(watches=" ".join(self._watches))
        await self._send(session)
        await session.flush()
        await self._ask_due(session, self._recording.frames, at_end=True)
        await session.end()

    async def _send(self, session: Session) -> None:
        """Everything in the recording, and the questions where they are due."""
        while True:
            at = self._base + session.sent
            due = min(self._due().values())
            end = min(self._recording.frames, at + RATE, due)
            self._news.clear()
            if at >= due:
                await self._ask_due(session, at)
            elif at < end:
                lost = self._state.lost(at, end)
                if lost and lost[0] == at:
                    await session.gap(lost[1] - at)
                else:
                    await session.send(await asyncio.to_thread(self._recording.read, at, lost[0] if lost else end))
            elif self._complete:
                return
            else:
                await self._news.wait()

    def _due(self) -> dict[str, int]:
        """Where the chapter, and each rule of every so many minutes, is asked about next."""
        periods = {"": self._file.minutes.chapter_minutes}
        periods |= {rule.name: rule.every_minutes or 0 for rule in self._rules.periodic}
        return {name: self._asked_to(name) + round(minutes * 60 * RATE) for name, minutes in periods.items()}

    def _asked_to(self, name: str) -> int:
        return int(self._state.fact(f"asked {name}", "0"))

    async def _ask_due(self, session: Session, at: int, *, at_end: bool = False) -> None:
        """Ask about what is due at ``at``, or at the end about all that was not asked about."""
        behind_s = WINDOWS_BEHIND * session.ready.window_s
        while not self._live and session.ahead_s > behind_s:  # noqa: ASYNC110 - a file runs ahead
            await asyncio.sleep(0.05)
        for name, due in self._due().items():
            begin = self._asked_to(name)
            if due > at and not (at_end and at - begin >= SHORTEST_CHAPTER):
                continue
            if name:
                rule = next(rule for rule in self._rules.periodic if rule.name == name)
                answered = await self._ask(session, begin, at, rule.ask)
                with self._state.transaction():
                    if answered.text:
                        self._post(Event(rule, "summary", answered.begin, answered.end, answered.text))
                    self._state.note(**{f"asked {name}": at})
            else:
                await self._ask_chapter(session, begin, at)

    async def _ask_chapter(self, session: Session, begin: int, end: int) -> None:
        known = {answered.question for answered in self._state.answers() if answered.chapter == end}
        options = self._file.minutes
        for question in filter(None, (options.summary, *options.questions)):
            if question not in known:
                self._state.add_answer(await self._ask(session, begin, end, question))
        self._state.note(**{"asked ": end})

    async def _ask(self, session: Session, begin: int, end: int, question: str) -> Answered:
        for attempt in range(ATTEMPTS):
            try:
                answer = await session.ask(question, last_s=(end - begin) / RATE)
            except ServerError as error:
                if error.error.fatal or session.state == "over":
                    raise
                problem = error.error.message
                if not error.error.retryable:
                    break
                await asyncio.sleep(delay_s(attempt, random()))
            else:
                base_s = self._base / RATE
                return Answered(end, question, answer.text, base_s + answer.start, base_s + answer.end)
        return Answered(end, question, "", begin / RATE, end / RATE, problem)

    # From the service to what is known and told.

    async def _read(self, session: Session) -> None:
        base_s = self._base / RATE
        async for message in session.messages():
            with self._state.transaction():
                if isinstance(message, Caption | Answer | WatchHit) and message.event is not None:
                    self._state.note(last_event=message.event)
                match message:
                    case Caption(final=True) if message.text:
                        begin, end = base_s + message.start, base_s + message.end
                        said = Said(begin, end, message.text, self._speakers(begin, end))
                        self._state.add_caption(said)
                        for event in self._rules.caption(said):
                            self._post(event)
                    case WatchHit() if name := self._watches.get(message.id):
                        hit = self._rules.hit(name, message.text, base_s + message.start, base_s + message.end)
                        self._state.note(**{f"told {name}": message.text})
                        for event in hit:
                            self._post(event)
                    case Error():
                        self._options.note(f"the service: {message.message}")
                    case _:
                        pass
        self._state.note(ended=1)

    def _speakers(self, begin: float, end: float) -> tuple[str, ...]:
        """Who is heard while a caption is spoken."""
        heard = self._state.turns(round(begin * RATE), round(end * RATE))
        most = heard[0][1] if heard else 0
        return tuple(who for who, frames in heard if frames >= SHARE * most)

    def _post(self, event: Event) -> None:
        """Into the outbox, once for each action of the rule."""
        names = minutes.named(self._state, self._file)
        self._post_body(
            event.rule.actions,
            {
                "rule": event.rule.name,
                "kind": event.kind,
                "begin": round(event.begin, 3),
                "end": round(event.end, 3),
                "link": minutes.link(round(event.begin, 3), round(event.end, 3)),
                "text": event.text,
                "speakers": [names.get(speaker, speaker) for speaker in event.speakers],
                "keyword": event.keyword,
            },
        )

    def _post_body(self, actions: list[str], body: dict[str, object]) -> None:
        key = str(uuid.uuid4())
        event = {"id": key, "meeting": self._file.minutes.title, "created": _now(), **body}
        for action in actions:
            self._state.post(action, key, event)
            self._deliverers[action].look()

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
                self._post_body(
                    rule.actions, {"rule": rule.name, "kind": "minutes", "folder": folder, "minutes": written}
                )
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


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """All of them; the first failure ends the others."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
