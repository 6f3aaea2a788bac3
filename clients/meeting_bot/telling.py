"""One session with the service: it is told the recording and asked what is due, and its words are noted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import random
from typing import Any, Final

from af3stream.client import ServerError, Session
from af3stream.client.backoff import delay_s
from af3stream.protocol.messages import Answer, Caption, Error, WatchHit
from clients.meeting_bot.events import Event, Rules
from clients.meeting_bot.intake import Intake
from clients.meeting_bot.outbox import Outbox
from clients.meeting_bot.recording import RATE, Recording
from clients.meeting_bot.rules import MinutesOptions
from clients.meeting_bot.state import Answered, Said, State

SHARE: Final = 0.25  # of a caption's time: who is heard for less of it is not named
SHORTEST_CHAPTER: Final = RATE
WINDOWS_BEHIND: Final = 2  # the open one, and the silence after it that does not close it yet; less would never come
ATTEMPTS: Final = 3  # at a question that the service could not answer then


@dataclass(frozen=True, slots=True)
class Meeting:
    """What is told from, and what is noted in: the same for every session of a meeting."""

    state: State
    recording: Recording
    intake: Intake
    rules: Rules
    minutes: MinutesOptions
    outbox: Outbox
    note: Callable[[str], None]


class Telling:
    """One session.

    Args:
        base: sample frames of the recording before the session's first.
        live: whether the source comes at its own pace.
    """

    def __init__(self, meeting: Meeting, session: Session, base: int, *, live: bool) -> None:
        self._meeting, self._state, self._session = meeting, meeting.state, session
        self._base, self._live = base, live
        self._watches: dict[str, str] = {}  # the rule, by the service's name for its watch

    async def run(self) -> None:
        """To the end of the recording, once nothing more comes to it.

        Raises:
            ConnectionLost, ServerError, SessionEnded: where the session breaks off.
        """
        await _together(self._read(), self._tell())

    async def _tell(self) -> None:
        session = self._session
        for watch in self._state.fact("watches").split():
            await session.unwatch(watch)
        self._watches = {await session.watch(text): name for name, text in self._meeting.rules.standing.items()}
        self._state.note(watches=" ".join(self._watches))
        await self._send()
        await session.flush()
        await self._ask_due(self._meeting.recording.frames, at_end=True)
        await session.end()

    async def _send(self) -> None:
        """Everything in the recording, and the questions where they are due."""
        session, recording, intake = self._session, self._meeting.recording, self._meeting.intake
        while True:
            at = self._base + session.sent
            due = min(self._due().values())
            end = min(recording.frames, at + RATE, due)
            intake.news.clear()
            if at >= due:
                await self._ask_due(at)
            elif at < end:
                lost = self._state.lost(at, end)
                if lost and lost[0] == at:
                    await session.gap(lost[1] - at)
                else:
                    await session.send(await asyncio.to_thread(recording.read, at, lost[0] if lost else end))
            elif intake.complete:
                return
            else:
                await intake.news.wait()

    # Questions.

    def _due(self) -> dict[str, int]:
        """Where the chapter, and each rule of every so many minutes, is asked about next."""
        periods = {"": self._meeting.minutes.chapter_minutes}
        periods |= {rule.name: rule.every_minutes or 0 for rule in self._meeting.rules.periodic}
        return {name: self._asked_to(name) + round(minutes * 60 * RATE) for name, minutes in periods.items()}

    def _asked_to(self, name: str) -> int:
        return int(self._state.fact(f"asked {name}", "0"))

    async def _ask_due(self, at: int, *, at_end: bool = False) -> None:
        """Ask about what is due at ``at``, or at the end about all that was not asked about."""
        behind_s = WINDOWS_BEHIND * self._session.ready.window_s
        while not self._live and self._session.ahead_s > behind_s:  # noqa: ASYNC110 - a file runs ahead
            await asyncio.sleep(0.05)
        for name, due in self._due().items():
            begin = self._asked_to(name)
            if due > at and not (at_end and at - begin >= SHORTEST_CHAPTER):
                continue
            if name:
                await self._ask_for_rule(name, begin, at)
            else:
                await self._ask_chapter(begin, at)

    async def _ask_for_rule(self, name: str, begin: int, end: int) -> None:
        rule = next(rule for rule in self._meeting.rules.periodic if rule.name == name)
        answered = await self._ask(begin, end, rule.ask)
        with self._state.transaction():
            if answered.text:
                self._meeting.outbox.post(Event(rule, "summary", answered.begin, answered.end, answered.text))
            self._state.note(**{f"asked {name}": end})

    async def _ask_chapter(self, begin: int, end: int) -> None:
        known = {answered.question for answered in self._state.answers() if answered.chapter == end}
        options = self._meeting.minutes
        for question in filter(None, (options.summary, *options.questions)):
            if question not in known:
                self._state.add_answer(await self._ask(begin, end, question))
        self._state.note(**{"asked ": end})

    async def _ask(self, begin: int, end: int, question: str) -> Answered:
        for attempt in range(ATTEMPTS):
            try:
                answer = await self._session.ask(question, last_s=(end - begin) / RATE)
            except ServerError as error:
                if error.error.fatal or self._session.state == "over":
                    raise
                problem = error.error.message
                if not error.error.retryable:
                    break
                await asyncio.sleep(delay_s(attempt, random()))
            else:
                base_s = self._base / RATE
                return Answered(end, question, answer.text, base_s + answer.start, base_s + answer.end)
        return Answered(end, question, "", begin / RATE, end / RATE, problem)

    # What the service says.

    async def _read(self) -> None:
        async for message in self._session.messages():
            with self._state.transaction():
                if isinstance(message, Caption | Answer | WatchHit) and message.event is not None:
                    self._state.note(last_event=message.event)
                match message:
                    case Caption(final=True) if message.text:
                        self._on_caption(message)
                    case WatchHit() if message.id in self._watches:
                        self._on_hit(message)
                    case Error():
                        self._meeting.note(f"the service: {message.message}")
        self._state.note(ended=1)

    def _on_caption(self, caption: Caption) -> None:
        begin, end = (self._base / RATE + at for at in (caption.start, caption.end))
        said = Said(begin, end, caption.text, self._speakers(begin, end))
        self._state.add_caption(said)
        for event in self._meeting.rules.caption(said):
            self._meeting.outbox.post(event)

    def _on_hit(self, hit: WatchHit) -> None:
        name, base_s = self._watches[hit.id], self._base / RATE
        events = self._meeting.rules.hit(name, hit.text, base_s + hit.start, base_s + hit.end)
        self._state.note(**{f"told {name}": hit.text})
        for event in events:
            self._meeting.outbox.post(event)

    def _speakers(self, begin: float, end: float) -> tuple[str, ...]:
        """Who is heard while a caption is spoken."""
        heard = self._state.turns(round(begin * RATE), round(end * RATE))
        most = heard[0][1] if heard else 0
        return tuple(who for who, frames in heard if frames >= SHARE * most)


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
