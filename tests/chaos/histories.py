"""A session's life under faults: what its client does, what happens to its connections and its server, what must hold.

The client, the sockets, the server's process and its journal on disk are real; the engine is scripted. A history is a
list of steps, so that hypothesis makes one up from a seed and shrinks one that fails.
"""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from unittest.mock import patch

import numpy as np
import soundfile
import soxr
from hypothesis import strategies as st

from af3stream.audio.pcm import AudioFormat
from af3stream.client import Session, connect
from af3stream.client import transport as client_line
from af3stream.client.answers import AnswerStream
from af3stream.client.errors import AdmissionError
from af3stream.config import JournalConfig
from af3stream.journal.export import export
from af3stream.journal.journal import Journal
from af3stream.journal.records import AudioRecord
from af3stream.protocol import messages as m
from af3stream.session.event_log import Cut as Closed
from af3stream.session.event_log import Numbered, decode_event
from tests.chaos.processes import Forks, Server
from tests.chaos.proxy import Proxy, Way
from tests.conftest import RECORDINGS
from tests.session.conversation import Conversation

RATE: Final = 16_000  # of the recordings
PATIENCE_S: Final = 60.0  # for a whole history
RETRY_S: Final = 0.2
CHANCE: Final = 0.1  # in place of the client's jitter: reconnecting takes little time
QUESTIONS: Final = 4  # under way at once, as the server takes
SPLITS: Final = (1, 2, 7, 100, 1_448)  # bytes
LENGTHS_MS: Final = (1, 20, 333, 1_000, 3_000, 8_000)  # of speech
FORMATS: Final = (AudioFormat(), AudioFormat("pcm_f32le", 24_000, 2), AudioFormat("mulaw", 8_000))


@dataclass(frozen=True, slots=True)
class Speak:
    """Send so much of what is said."""

    ms: int


@dataclass(frozen=True, slots=True)
class Lose:
    """Declare the next stretch lost."""

    ms: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask, and do not wait for the answer; or think better of it."""

    cancelled: bool


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take back the question that has waited longest."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Put a standing question."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Have everything captioned, so many times at one offset, and do not wait for it."""

    times: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Let things take their course."""

    ms: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Reset the connection: now, or when so many more bytes have gone one way."""

    way: Way
    after: int | None


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing goes one way for some time."""

    way: Way
    ms: int


@dataclass(frozen=True, slots=True)
class Split:
    """What goes one way goes in small pieces."""

    way: Way
    size: int


@dataclass(frozen=True, slots=True)
class Restart:
    """SIGKILL or SIGTERM, and a new server after some time."""

    how: Literal["SIGKILL", "SIGTERM"]
    ms: int


@dataclass(frozen=True, slots=True)
class History:
    """Attributes:
    format: of the audio.
    spooled: whether the client keeps audio in a file.
    ends: whether the session is ended; otherwise its client dies after the last step, and its server with it.
    """

    format: AudioFormat
    spooled: bool
    ends: bool
    steps: tuple[Any, ...]


_WAYS: Final = st.sampled_from(["up", "down"])
_RESTARTS: Final = st.builds(Restart, st.sampled_from(["SIGKILL", "SIGKILL", "SIGTERM"]), st.integers(0, 400))
_CUTS: Final = st.builds(Cut, _WAYS, st.none() | st.integers(0, 60_000) | st.integers(0, 600))
_FLUSHES: Final = st.builds(Flush, st.integers(1, 3))
_ASKS: Final = st.builds(Ask, st.booleans())
_AT_ONE_OFFSET: Final = st.lists(
    st.one_of(_FLUSHES, _ASKS, st.builds(Cancel), _RESTARTS, _CUTS), min_size=2, max_size=4
)
_STEPS: Final = st.one_of(
    st.builds(Speak, st.sampled_from(LENGTHS_MS)),
    st.builds(Speak, st.sampled_from(LENGTHS_MS)),
    _RESTARTS,
    _RESTARTS.map(lambda restart: restart),  # as often again
    _CUTS,
    st.builds(Wait, st.integers(0, 400)),
    _ASKS,
    st.builds(Cancel),
    st.builds(Split, _WAYS, st.sampled_from(SPLITS)),
    st.builds(Stall, _WAYS, st.integers(0, 400)),
    st.builds(Lose, st.integers(1, 2_000)),
    _FLUSHES,
    st.builds(Watch),
)


def cluster_histories(least: int, most: int, more: Sequence[st.SearchStrategy[Any]]) -> st.SearchStrategy[History]:
    """Histories with further steps. Half of them leave utterances as they are in one process, so answers are equal."""
    anything = histories(least, most, more)
    return st.booleans().flatmap(lambda same: anything.map(exact) if same else anything)


def histories(least: int, most: int, more: Sequence[st.SearchStrategy[Any]] = ()) -> st.SearchStrategy[History]:
    """Histories of so many steps, some of them several at one offset; ``more``: further steps."""
    single = [st.one_of(_STEPS, *more).map(lambda step: [step]) for _ in range(4)]
    several = st.lists(st.one_of(*single, _AT_ONE_OFFSET), min_size=least, max_size=most)
    steps = several.map(lambda parts: tuple(step for part in parts for step in part)[:most])
    ends = st.sampled_from([True, True, True, False])
    return st.builds(History, st.sampled_from(FORMATS), st.booleans(), ends, steps)


def exact(history: History) -> History:
    """The same without what moves the ends of utterances: flushes, and servers that finish what is open."""
    steps = [step for step in history.steps if not isinstance(step, Flush)]
    killed = (Restart("SIGKILL", step.ms) if isinstance(step, Restart) else step for step in steps)
    return replace(history, steps=tuple(killed))


async def play(history: History, folder: Path, forks: Forks) -> None:
    """Live a history, and check what must hold; an assertion fails where it does not."""
    lived = await live(history, Server(folder / "journal", forks), folder)
    check(history, lived, folder)


class Site(Protocol):
    """What runs the servers of a history."""

    @property
    def port(self) -> int | None:
        """Where the client's next connection goes."""

    def standing(self) -> AbstractAsyncContextManager[None]:
        """Run while the context lasts."""

    async def restart(self, how: signal.Signals, seconds: float) -> None:
        """End the server that the client has, and start it again after some time."""

    async def kill(self) -> None:
        """End every server at once."""


class Step(Protocol):
    """A step that a site does."""

    async def do(self, site: Any, proxy: Proxy) -> None:
        """Do it."""


async def live(
    history: History, site: Site, folder: Path, *, examined: bool = False, patience_s: float = PATIENCE_S
) -> Lived:
    """Live a history; returns what its client knows at the end.

    Args:
        examined: whether the client asks one question about everything before it ends the session.
        patience_s: for the whole history.
    """
    proxy = Proxy(lambda: site.port)
    with patch.object(client_line, "random", lambda: CHANCE):
        async with asyncio.timeout(patience_s), proxy.listening(), site.standing():
            return await _Life(history, site, proxy, examined).live(folder)


@dataclass
class Lived:
    """What the client knows at the end.

    Attributes:
        session: its id.
        parts: what was sent, in order; an ``int`` for so many lost sample frames.
        durable: what the server promised to keep, in sample frames.
        said: every message it was told.
        answers: of the questions it asked.
    """

    session: str = ""
    parts: list[bytes | int] = field(default_factory=list)
    durable: int = 0
    said: list[m.ServerMessage] = field(default_factory=list)
    answers: list[m.Answer] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    examined: m.Answer | None = None


class _Life:
    """Does the steps of a history, one after another."""

    def __init__(self, history: History, site: Site, proxy: Proxy, examined: bool) -> None:
        self._history, self._site, self._proxy, self._examined = history, site, proxy, examined
        self._lived = Lived()
        self._talk, self._at = talk(history.format), 0
        self._asking: list[asyncio.Task[m.Answer]] = []
        self._streams: list[AnswerStream] = []
        self._flushing: list[asyncio.Task[m.Flushed]] = []
        self._restarting: asyncio.Task[None] | None = None

    async def live(self, folder: Path) -> Lived:
        """From the session's beginning to its end."""
        sound = self._history.format
        spool = folder if self._history.spooled else None
        opening = partial(connect, f"http://127.0.0.1:{self._proxy.port}", format=sound.format, rate=sound.rate)
        async with AsyncExitStack() as stack:
            session = await self._opened(stack, partial(opening, channels=sound.channels, spool=spool))
            self._lived.session = session.ready.session
            reading = asyncio.create_task(self._read(session))
            for step in self._history.steps:
                await self._do(step, session)
            await (self._end if self._history.ends else self._die)(session)
            self._lived.durable = session.durable
            assert session.missed_events == 0
        await reading
        return self._lived

    async def _opened(
        self, stack: AsyncExitStack, opening: Callable[[], AbstractAsyncContextManager[Session]]
    ) -> Session:
        """A new session. A gateway that has lost every engine admits none, so its client tries again."""
        while True:
            try:
                return await stack.enter_async_context(opening())
            except AdmissionError:
                await asyncio.sleep(RETRY_S)

    async def _do(self, step: Step, session: Session) -> None:
        sound = self._history.format
        match step:
            case Speak(ms):
                frames = max(1, ms * sound.rate // 1_000)
                pcm = next_of(self._talk, self._at, frames * sound.bytes_per_frame)
                self._at += len(pcm)
                await session.send(pcm)
                self._lived.parts.append(pcm)
            case Lose(ms):
                frames = max(1, ms * sound.rate // 1_000)
                await session.gap(frames)
                self._lived.parts.append(frames)
            case Ask(cancelled):
                await self._ask(session, cancelled)
            case Watch():
                await session.watch(f"Watch {len(self._lived.said)}?")
            case Cancel():
                if waiting := [
                    stream for stream, task in zip(self._streams, self._asking, strict=True) if not task.done()
                ]:
                    await waiting[0].cancel()
            case Flush(times):
                for _ in range(times):
                    self._flushing.append(asyncio.create_task(session.flush()))
                    await asyncio.sleep(0)  # it is asked for before what follows
            case Wait(ms):
                await asyncio.sleep(ms / 1_000)
            case Cut(_, None):
                self._proxy.cut()
            case Cut(way, int(after)):
                self._proxy.cut_after(way, after)
            case Stall(way, ms):
                self._proxy.stall(way, ms / 1_000)
            case Split(way, size):
                self._proxy.split(way, size)
            case Restart(how, ms):
                await self._settled()
                self._restarting = asyncio.create_task(self._site.restart(signal.Signals[how], ms / 1_000))
                await asyncio.sleep(0)
            case _:
                await step.do(self._site, self._proxy)

    async def _ask(self, session: Session, cancelled: bool) -> None:
        under_way = [asking for asking in self._asking if not asking.done()]
        if len(under_way) >= QUESTIONS:
            await asyncio.wait(under_way, return_when="FIRST_COMPLETED")
        text = f"Question {len(self._asking)}?"
        stream = session.ask_stream(text)
        await stream.start()
        self._asking.append(asyncio.create_task(stream.answer()))
        self._streams.append(stream)
        self._lived.asked.append(stream.id)
        if cancelled:
            await stream.cancel()

    async def _end(self, session: Session) -> None:
        if self._examined:
            await session.flush()
            await asyncio.gather(*self._asking)
            await self._ask(session, cancelled=False)
            self._lived.examined = await self._asking[-1]
        ended = await session.end()
        assert ended.total == session.sent
        self._lived.answers = await asyncio.gather(*self._asking)
        await asyncio.gather(*self._flushing)
        await self._settled()

    async def _die(self, session: Session) -> None:
        await self._settled()
        self._proxy.cut()
        await self._site.kill()
        for task in [*self._asking, *self._flushing]:
            task.cancel()
        await asyncio.wait([*self._asking, *self._flushing, asyncio.create_task(asyncio.sleep(0))])

    async def _read(self, session: Session) -> None:
        async for message in session:
            self._lived.said.append(message)

    async def _settled(self) -> None:
        if self._restarting:
            await self._restarting


# ---- what must hold --------------------------------------------------------------------------------------------------


def check(history: History, lived: Lived, folder: Path) -> None:
    """Every acknowledged sample is kept, bit for bit, once; every event was told once; the totals agree."""
    kept = Kept.of(lived.session, history.format, folder)
    size = history.format.bytes_per_frame
    sent = b"".join(part if isinstance(part, bytes) else bytes(part * size) for part in lived.parts)
    lost = b"".join(bytes(len(part) // size) if isinstance(part, bytes) else b"\1" * part for part in lived.parts)
    told = [message for message in lived.said if isinstance(message, Numbered) and message.event]
    finals = [message for message in told if isinstance(message, m.Caption)]

    assert lived.durable <= kept.durable <= len(lost)
    assert kept.pcm == sent[: kept.durable * size]
    assert kept.lost == lost[: kept.durable]
    assert kept.events[: len(told)] == told
    assert len({final.utterance for final in finals}) == len(finals)
    assert all(a.end <= b.start for a, b in pairwise(finals))
    if not history.ends:
        return
    (ended,) = (message for message in lived.said if isinstance(message, m.Ended))
    assert lived.said[-1] == ended
    assert ended.total == kept.durable == len(lost)
    assert abs(ended.received_s - ended.heard_s - ended.skipped_s) < 0.002  # each is rounded to a millisecond
    assert ended.utterances >= len(finals)
    assert kept.events == told
    answers = {message.id: message for message in told if isinstance(message, m.Answer)}
    assert sum(isinstance(message, m.Answer) for message in told) == len(answers)
    assert answers == {answer.id: answer for answer in lived.answers}
    assert list(answers.keys() ^ lived.asked) == []
    if any(isinstance(step, Flush) or (isinstance(step, Restart) and step.how == "SIGTERM") for step in history.steps):
        return
    question = f"Question {len(lived.asked) - 1}?" if lived.examined else None
    answer = lived.examined.text if lived.examined else ""
    captions, expected = undisturbed(history.format, lived.parts, question)
    assert spans(finals) == spans(captions)
    assert answer == expected


@dataclass(frozen=True, slots=True)
class Kept:
    """What the journal has of a session.

    Attributes:
        durable: sample frames.
        pcm: all audio, zeros where it was lost.
        lost: a byte for each sample frame: whether it was declared lost.
        events: all that was told, or was to be.
    """

    durable: int
    pcm: bytes
    lost: bytes
    events: list[Numbered]

    @classmethod
    def of(cls, session: str, sound: AudioFormat, folder: Path) -> Kept:
        """Read a journal that nobody writes; its records follow one another, and an exported file says the same."""
        journal = Journal(JournalConfig(folder=str(folder / "journal")))
        try:
            recovered = journal.recover(session)
            heard = list(recovered.audio)
            numbered = [(record.number, decode_event(record)) for record in recovered.events]
            (wav,) = export(journal, session, folder / "export", ("wav",))
        finally:
            journal.stop()
        size, bounds = sound.bytes_per_frame, [0, *(record.end for record in heard)]
        assert [record.offset for record in heard] == bounds[:-1]
        assert bounds[-1] == recovered.durable
        pcm = b"".join(r.pcm if isinstance(r, AudioRecord) else bytes(r.frames * size) for r in heard)
        lost = b"".join((b"\0" if isinstance(r, AudioRecord) else b"\1") * r.frames for r in heard)
        if sound.format != "mulaw":  # which is exported as what it stands for
            dtype = "int16" if sound.format == "pcm_s16le" else "float32"
            assert soundfile.read(wav, dtype=dtype)[0].tobytes() == pcm
        assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1))
        cuts = [event.offset for _, event in numbered if isinstance(event, Closed)]
        assert cuts == sorted(set(cuts))
        events = [event for _, event in numbered if isinstance(event, Numbered)]
        assert [event.event for event in events] == list(range(1, len(events) + 1))
        return cls(recovered.durable, pcm, lost, events)


def spans(finals: Sequence[m.Caption]) -> list[tuple[int, str, float, float]]:
    """What captions say, and where."""
    return [(final.utterance, final.text, final.start, final.end) for final in finals]


def undisturbed(sound: AudioFormat, parts: Sequence[bytes | int], question: str | None) -> tuple[list[m.Caption], str]:
    """The final captions of a session to which nothing happens, and its answer about everything, if it is asked."""
    alone, at = _told(sound, parts)
    if question is not None:
        alone.tell(m.Flush("all"))
        alone.tell(m.Ask("everything", question))
    alone.tell(m.End(at))
    return alone.finals, alone.of(m.Answer)[-1].text if question is not None else ""


def _told(sound: AudioFormat, parts: Sequence[bytes | int]) -> tuple[Conversation, int]:
    """A session in one thread that has heard everything, and the number of its sample frames."""
    alone = Conversation(m.Start(sound.format, sound.rate, sound.channels), scenes=False)
    at = 0
    for part in parts:
        if isinstance(part, bytes):
            alone.tell(m.Audio(at, part))
            at += len(part) // sound.bytes_per_frame
        else:
            alone.tell(m.Gap(at, part))
            at += part
    return alone, at


# ---- what is said ----------------------------------------------------------------------------------------------------


@cache
def talk(sound: AudioFormat) -> bytes:
    """Sentences with pauses between them, in a format."""
    pause = np.zeros(RATE, np.int16)
    read = [soundfile.read(path, dtype="int16")[0] for path in sorted(RECORDINGS.glob("*.wav"))]
    speech = np.concatenate([piece for sentence in read for piece in (sentence, pause)])
    if sound.format == "pcm_s16le":
        return speech.tobytes()
    resampled = soxr.resample(speech.astype(np.float32) / 32_768, RATE, sound.rate)
    if sound.format == "pcm_f32le":
        return np.repeat(resampled[:, None], sound.channels, axis=1).astype("<f4").tobytes()
    spelled = io.BytesIO()
    soundfile.write(spelled, resampled, sound.rate, "ULAW", format="RAW")
    return spelled.getvalue()


def next_of(said: bytes, at: int, size: int) -> bytes:
    """The next so many bytes of what is said over and over."""
    begin = at % len(said)
    return (said[begin:] + said * (size // len(said) + 1))[:size]
