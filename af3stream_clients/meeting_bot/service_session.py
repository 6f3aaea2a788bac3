"""One session with the service: send the recording, ask the due questions, store captions and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import random
from typing import Any, Final

import numpy as np

from af3stream.client import ServerError, Session
from af3stream.client.backoff import delay_s
from af3stream.protocol.messages import Answer, Caption, CaptionUpdate, Error, SpeakerNamed, SpeakerUpdate, WatchHit
from af3stream_clients.meeting_bot import digest
from af3stream_clients.meeting_bot.audio_receiver import AudioReceiver
from af3stream_clients.meeting_bot.events import QUOTE, Event, RuleEngine, says_yes
from af3stream_clients.meeting_bot.grounding import ground
from af3stream_clients.meeting_bot.outbox import Outbox
from af3stream_clients.meeting_bot.passages import LONGEST_S, SHORTEST_S, find_passage_end
from af3stream_clients.meeting_bot.recording import RATE, Recording
from af3stream_clients.meeting_bot.rules import MinutesOptions
from af3stream_clients.meeting_bot.state import FinalCaption, SectionAnswer, State

SPEAKER_SHARE: Final = 0.25  # of the main speaker's time in a caption; a speaker with less is not named
SHORTEST_SECTION: Final = RATE
ATTEMPTS: Final = 3  # to ask a question that failed with a retryable error


@dataclass(frozen=True, slots=True)
class Meeting:
    """What the sessions of one meeting share."""

    state: State
    recording: Recording
    receiver: AudioReceiver
    rules: RuleEngine
    minutes: MinutesOptions
    outbox: Outbox
    note: Callable[[str], None]


class ServiceSession:
    """Sends the recording to one session, and stores what the service replies.

    Args:
        base: position of the session's first sample in the recording, in sample frames.
    """

    def __init__(self, meeting: Meeting, session: Session, base: int) -> None:
        self._meeting, self._state, self._session = meeting, meeting.state, session
        self._base = base
        self._known_cut: tuple[int, int, int | None] = (-1, 0, None)  # begin, frames known, end
        self._watches: dict[str, str] = {}  # name of the rule, by id of its watch

    async def run(self) -> None:
        """Run until the recording is complete and all of it is processed.

        Raises:
            ConnectionLost, ServerError, SessionEnded: if the session breaks off.
        """
        await _run_all(self._receive(), self._stream())

    async def _stream(self) -> None:
        session = self._session
        for watch in self._state.fact("watches").split():
            await session.unwatch(watch)
        self._watches = {
            await session.watch(text): name for name, text in self._meeting.rules.watched_questions.items()
        }
        self._state.set_facts(watches=" ".join(self._watches))
        await self._send_recording()
        await self._end_passage(self._meeting.recording.frames, at_end=True)
        await session.end()

    async def _send_recording(self) -> None:
        """Send the recording, and ask the due questions at the end of each passage."""
        session, recording, receiver = self._session, self._meeting.recording, self._meeting.receiver
        while True:
            at = self._base + session.sent
            passage_end = self._passage_end()
            end = min(recording.frames, at + RATE, recording.frames if passage_end is None else passage_end)
            receiver.changed.clear()
            if passage_end is not None and at >= passage_end:
                await self._end_passage(at)
            elif at < end:
                lost = self._state.lost(at, end)
                if lost and lost[0] == at:
                    await session.gap(lost[1] - at)
                else:
                    await session.send(await asyncio.to_thread(recording.read, at, lost[0] if lost else end))
            elif receiver.complete:
                return
            else:
                await receiver.changed.wait()

    # Questions.

    def _passage_end(self) -> int | None:
        """Return the end of the current passage, or ``None`` while it is unknown.

        New audio is examined in steps of at least half a second.
        """
        recording, begin = self._meeting.recording, int(self._state.fact("passage", "0"))
        if begin + RATE * SHORTEST_S > recording.frames:
            return None
        known = self._known_cut
        if known[0] != begin or (known[2] is None and recording.frames - known[1] >= RATE // 2):
            to = min(recording.frames, begin + round(LONGEST_S * RATE))
            length = find_passage_end(np.frombuffer(recording.read(begin, to), "<i2"))
            known = self._known_cut = begin, recording.frames, None if length is None else begin + length
        return known[2]

    async def _end_passage(self, at: int, *, at_end: bool = False) -> None:
        """Flush, so that captions and windows of the passage are complete, and ask the due questions."""
        await self._session.flush()
        for name, minutes in {"": self._meeting.minutes.section_minutes, **self._meeting.rules.ask_intervals}.items():
            begin = int(self._state.fact(f"asked {name}", "0"))
            if at - begin >= (SHORTEST_SECTION if at_end else minutes * 60 * RATE):
                await (self._ask_about_rule(name, begin, at) if name else self._ask_about_section(begin, at))
                self._state.set_facts(**{f"asked {name}": at})
        if at_end and self._meeting.minutes.summary:
            self._state.set_facts(summary=await self._summarise(0, at))
        self._state.set_facts(passage=at)

    async def _ask_about_section(self, begin: int, end: int) -> None:
        known = {answered.question for answered in self._state.answers() if answered.section_end == end}
        for question in self._meeting.minutes.asked:
            if question not in known:
                self._state.add_answer(await self._ask(begin, end, question))

    async def _ask_about_rule(self, name: str, begin: int, end: int) -> None:
        rules, outbox = self._meeting.rules, self._meeting.outbox
        rule = rules.named(name)
        if rule.every_minutes:
            text = (await self._ask(begin, end, rule.ask)).text if rule.ask else await self._summarise(begin, end)
            if text:
                outbox.post(Event(rule, "summary", begin / RATE, end / RATE, text))
            return
        asked = await self._reply(begin, end, rules.condition(rule))
        yes = isinstance(asked, Answer) and says_yes(asked.text)
        quoted = await self._reply(begin, end, QUOTE, after=asked) if isinstance(asked, Answer) and yes else None
        quote = quoted.text if isinstance(quoted, Answer) else ""
        with self._state.transaction():
            for event in rules.passage_checked(
                rule, yes, quote, digest.within(list(self._state.captions()), begin, end)
            ):
                outbox.post(event)
            self._state.set_facts(**{f"told {name}": rules.last_sent[name]})

    async def _summarise(self, begin: int, end: int) -> str:
        """Summarise the section summaries of a range, in groups that fit into a prompt, until one text is left."""
        texts = digest.summaries(self._state, self._meeting.minutes, begin, end)
        while len(texts) > 1:
            texts = [await self._summary_of(group, end) for group in digest.groups(texts)]
        return texts[0] if texts else ""

    async def _summary_of(self, texts: Sequence[str], end: int) -> str:
        """Combine several texts into one. The question covers only the newest caption of the recording."""
        if len(texts) == 1:
            return texts[0]
        newest = round(self._state.caption_begin() * RATE)
        reply = await self._reply(newest, end, digest.NOTES.format(" ".join(texts)))
        text = reply.text if isinstance(reply, Answer) else ""
        return (
            " ".join(item.text for item in ground(text, [FinalCaption(0, 0, each) for each in texts], anywhere=True))
            or texts[0]
        )

    async def _ask(self, begin: int, end: int, question: str) -> SectionAnswer:
        reply = await self._reply(begin, end, question)
        if isinstance(reply, Error):
            return SectionAnswer(end, question, "", begin / RATE, end / RATE, reply.message)
        base_s = self._base / RATE
        return SectionAnswer(end, question, reply.text, base_s + reply.start, base_s + reply.end)

    async def _reply(self, begin: int, end: int, question: str, after: Answer | None = None) -> Answer | Error:
        """Ask about a range that ends at the session's current position; return the answer or the error."""
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

    # Messages of the service.

    async def _receive(self) -> None:
        async for message in self._session:
            with self._state.transaction():
                if isinstance(message, Caption | Answer | WatchHit | SpeakerNamed) and message.event is not None:
                    self._state.set_facts(last_event=message.event)
                match message:
                    case Caption(final=True) if message.text:
                        self._on_caption(message)
                    case CaptionUpdate():
                        self._state.correct_caption(message.utterance, message.text)
                        self._set_voice(message.utterance, message.speaker)
                    case SpeakerUpdate():
                        self._set_voice(message.utterance, message.speaker)
                    case SpeakerNamed():
                        self._state.set_name(self._voice(message.speaker), message.name)
                    case WatchHit() if message.id in self._watches:
                        self._on_hit(message)
                    case Error():
                        self._meeting.note(f"the service: {message.message}")
        self._state.set_facts(ended=1)

    def _on_caption(self, caption: Caption) -> None:
        begin, end = (self._base / RATE + at for at in (caption.start, caption.end))
        said = FinalCaption(begin, end, caption.text, self._speakers(begin, end) or self._voices(caption.speaker))
        self._state.add_caption(said, caption.utterance)
        for event in self._meeting.rules.caption(said):
            self._meeting.outbox.post(event)

    def _on_hit(self, hit: WatchHit) -> None:
        name, base_s = self._watches[hit.id], self._base / RATE
        events = self._meeting.rules.answer_changed(name, hit.text, base_s + hit.start, base_s + hit.end)
        self._state.set_facts(**{f"told {name}": hit.text})
        for event in events:
            self._meeting.outbox.post(event)

    def _set_voice(self, utterance: int, speaker: int | None) -> None:
        """Correct who speaks in a caption, unless the source names participants for it."""
        said = self._state.caption(utterance)
        if said and speaker is not None and not self._speakers(said.begin, said.end):
            self._state.set_speakers(utterance, self._voices(speaker))

    def _voices(self, speaker: int | None) -> tuple[str, ...]:
        return () if speaker is None else (self._voice(speaker),)

    def _voice(self, speaker: int) -> str:
        """Return the id of a voice. A new session counts from 1 again, so its voices get the next numbers."""
        number = int(self._state.fact("voices_before", "0")) + speaker
        if number > int(self._state.fact("voices", "0")):
            self._state.set_facts(voices=number)
        return f"Speaker {number}"

    def _speakers(self, begin: float, end: float) -> tuple[str, ...]:
        """Return the participants who speak in a caption, the longest first."""
        heard = self._state.turns(round(begin * RATE), round(end * RATE))
        most = heard[0][1] if heard else 0
        return tuple(who for who, frames in heard if frames >= SPEAKER_SHARE * most)


async def _run_all(*work: Coroutine[Any, Any, None]) -> None:
    """Run all coroutines; the first failure cancels the others."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
