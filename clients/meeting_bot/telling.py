"""One session with the service: it is told the recording and asked what is due, and its words are noted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import random
from typing import Any, Final

import numpy as np

from af3stream.client import ServerError, Session
from af3stream.client.backoff import delay_s
from af3stream.protocol.messages import Answer, Caption, Error, WatchHit
from clients.meeting_bot import digest
from clients.meeting_bot.events import QUOTE, Event, Rules, says_yes
from clients.meeting_bot.grounding import ground
from clients.meeting_bot.intake import Intake
from clients.meeting_bot.outbox import Outbox
from clients.meeting_bot.passages import LONGEST_S, SHORTEST_S, cut
from clients.meeting_bot.recording import RATE, Recording
from clients.meeting_bot.rules import MinutesOptions
from clients.meeting_bot.state import Answered, Said, State

SHARE: Final = 0.25  # of a caption's time: who is heard for less of it is not named
SHORTEST_SECTION: Final = RATE
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
    """

    def __init__(self, meeting: Meeting, session: Session, base: int) -> None:
        self._meeting, self._state, self._session = meeting, meeting.state, session
        self._base = base
        self._cut: tuple[int, int, int | None] = (-1, 0, None)  # a passage's begin, how much was known, and its end
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
        await self._end_passage(self._meeting.recording.frames, at_end=True)
        await session.end()

    async def _send(self) -> None:
        """Everything in the recording, and the questions where a passage ends."""
        session, recording, intake = self._session, self._meeting.recording, self._meeting.intake
        while True:
            at = self._base + session.sent
            cut = self._passage_end()
            end = min(recording.frames, at + RATE, recording.frames if cut is None else cut)
            intake.news.clear()
            if cut is not None and at >= cut:
                await self._end_passage(at)
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

    def _passage_end(self) -> int | None:
        """Where the passage ends that is being told, once that is known. What has come since is looked at by half a
        second and more.
        """
        recording, begin = self._meeting.recording, int(self._state.fact("passage", "0"))
        if begin + RATE * SHORTEST_S > recording.frames:
            return None
        known = self._cut
        if known[0] != begin or (known[2] is None and recording.frames - known[1] >= RATE // 2):
            to = min(recording.frames, begin + round(LONGEST_S * RATE))
            length = cut(np.frombuffer(recording.read(begin, to), "<i2"))
            known = self._cut = begin, recording.frames, None if length is None else begin + length
        return known[2]

    async def _end_passage(self, at: int, *, at_end: bool = False) -> None:
        """Have the passage captioned and its windows closed, and ask what is due about it and those before it."""
        await self._session.flush()
        for name, minutes in {"": self._meeting.minutes.section_minutes, **self._meeting.rules.asked}.items():
            begin = int(self._state.fact(f"asked {name}", "0"))
            if at - begin >= (SHORTEST_SECTION if at_end else minutes * 60 * RATE):
                await (self._ask_about_rule(name, begin, at) if name else self._ask_about_section(begin, at))
                self._state.note(**{f"asked {name}": at})
        if at_end and self._meeting.minutes.summary:
            self._state.note(summary=await self._condense(0, at))
        self._state.note(passage=at)

    async def _ask_about_section(self, begin: int, end: int) -> None:
        known = {answered.question for answered in self._state.answers() if answered.chapter == end}
        for question in self._meeting.minutes.asked:
            if question not in known:
                self._state.add_answer(await self._ask(begin, end, question))

    async def _ask_about_rule(self, name: str, begin: int, end: int) -> None:
        rules, outbox = self._meeting.rules, self._meeting.outbox
        rule = rules.named(name)
        if rule.every_minutes:
            text = (await self._ask(begin, end, rule.ask)).text if rule.ask else await self._condense(begin, end)
            if text:
                outbox.post(Event(rule, "summary", begin / RATE, end / RATE, text))
            return
        asked = await self._reply(begin, end, rules.condition(rule))
        yes = isinstance(asked, Answer) and says_yes(asked.text)
        quoted = await self._reply(begin, end, QUOTE, after=asked) if isinstance(asked, Answer) and yes else None
        quote = quoted.text if isinstance(quoted, Answer) else ""
        with self._state.transaction():
            for event in rules.looked(rule, yes, quote, digest.within(list(self._state.captions()), begin, end)):
                outbox.post(event)
            self._state.note(**{f"told {name}": rules.told[name]})

    async def _condense(self, begin: int, end: int) -> str:
        """A summary of the summaries of the sections in a range, however many: each prompt has some of them."""
        texts = digest.summaries(self._state, self._meeting.minutes, begin, end)
        while len(texts) > 1:
            texts = [await self._summary_of(group, end) for group in digest.groups(texts)]
        return texts[0] if texts else ""

    async def _summary_of(self, texts: Sequence[str], end: int) -> str:
        """One text for several; the recording's newest caption is all that is read beside them."""
        if len(texts) == 1:
            return texts[0]
        newest = round(self._state.caption_begin() * RATE)
        reply = await self._reply(newest, end, digest.NOTES.format(" ".join(texts)))
        text = reply.text if isinstance(reply, Answer) else ""
        return (
            " ".join(item.text for item in ground(text, [Said(0, 0, each) for each in texts], anywhere=True))
            or texts[0]
        )

    async def _ask(self, begin: int, end: int, question: str) -> Answered:
        reply = await self._reply(begin, end, question)
        if isinstance(reply, Error):
            return Answered(end, question, "", begin / RATE, end / RATE, reply.message)
        base_s = self._base / RATE
        return Answered(end, question, reply.text, base_s + reply.start, base_s + reply.end)

    async def _reply(self, begin: int, end: int, question: str, after: Answer | None = None) -> Answer | Error:
        """The answer about a range that ends where the session is, or why there is none."""
        for attempt in range(ATTEMPTS):
            try:
                return await self._session.ask(question, last_s=(end - begin) / RATE, after=after)
            except ServerError as error:
                problem = error.error
                if problem.fatal or self._session.state == "over":
                    raise
                if not problem.retryable:
                    break
                await asyncio.sleep(delay_s(attempt, random()))
        return problem

    # What the service says.

    async def _read(self) -> None:
        async for message in self._session:
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
