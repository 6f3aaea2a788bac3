"""Run a session on an event loop in a background thread, and report its messages as Qt signals."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from random import random
from typing import Any, Final, TypeVar

from PySide6.QtCore import QObject, Signal

from af3stream.client import AnswerStream, Session, State, connect
from af3stream.client.backoff import delay_s
from af3stream.client.errors import AdmissionError, NetworkError
from af3stream.errors import Af3StreamError, SourceError
from af3stream.listen.microphone import Lost
from af3stream.protocol.messages import Error
from af3stream_clients.captions.formatting import as_sentence
from af3stream_clients.captions.local_server import Address
from af3stream_clients.captions.session_status import Phase, Progress
from af3stream_clients.captions.settings import SpeechOptions
from af3stream_clients.captions.sources import Blocks, Choice, Source, open_source
from af3stream_clients.mute_detector import MuteDetector

REPORT_S: Final = 0.25
STOP_TIMEOUT_S: Final = 15.0

Result = TypeVar("Result")
AddressProvider = Callable[[Callable[[str], None]], Awaitable[Address]]


class EventLoopThread:
    """An asyncio event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="captions-network", daemon=True)
        self._thread.start()

    def spawn(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Schedule a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, act: Callable[..., object], *arguments: object) -> None:
        """Schedule a call on the loop."""
        self._loop.call_soon_threadsafe(act, *arguments)

    def stop(self) -> None:
        """Cancel all tasks, and wait for the thread to end."""
        self.spawn(self._cancel_all()).result(STOP_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_TIMEOUT_S)

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


class SessionWorker(QObject):
    """One session, from the first connection attempt to its end. Call its methods from the Qt thread.

    Signals:
        phase: a ``Phase``, and a reason or an empty string.
        heard: a message of the server; the first is ``Ready``.
        progress: a ``Progress``, four times a second.
        paused: whether capturing is paused, and the problem that paused it, or an empty string.
        piece, answered, refused: number of the question, and a piece of its answer, the answer, or a reason.
    """

    phase = Signal(str, str)
    heard = Signal(object)
    progress = Signal(object)
    paused = Signal(bool, str)
    piece = Signal(int, str)
    answered = Signal(int, object)
    refused = Signal(int, str)

    def __init__(
        self,
        loop_thread: EventLoopThread,
        find_address: AddressProvider,
        choice: Choice,
        speech: SpeechOptions,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._loop_thread, self._find_address, self._choice = loop_thread, find_address, choice
        self._speech = speech
        self._listening = asyncio.Event()
        self._listening.set()
        self._session: Session | None = None
        self._tasks: asyncio.TaskGroup
        self._lost_frames = 0
        self._lost_to = 0
        self._mute_detector = MuteDetector()
        self._answers: dict[int, AnswerStream] = {}
        self._running: concurrent.futures.Future[None] | None = None

    def begin(self) -> None:
        """Start the session. Connect the signals first."""
        self._running = self._loop_thread.spawn(self._run())
        self._running.add_done_callback(self._on_run_finished)

    def pause(self, paused: bool) -> None:
        """Pause or resume capturing."""
        self._loop_thread.call(self._pause, paused)

    def ask(self, number: int, text: str, last_s: float | None, after: int | None) -> None:
        """Ask a question; signals about it carry ``number``. ``after`` is the number of the question it follows up."""
        self._loop_thread.call(self._begin, number, text, last_s, after)

    def cancel(self, number: int) -> None:
        """Stop an answer."""
        self._loop_thread.call(self._stop_answer, number)

    def name_speaker(self, speaker: int, name: str) -> None:
        """Name a speaker, if there is a session."""
        self._loop_thread.call(self._name_speaker, speaker, name)

    def leave(self) -> None:
        """End the session; no further signal is sent."""
        self.blockSignals(True)
        if self._running:
            self._running.cancel()

    # on the event loop

    async def _run(self) -> None:
        try:
            address = await self._find_address(lambda reason: self.phase.emit("starting", reason))
            source = await open_source(self._choice)
            async with AsyncExitStack() as stack:
                session = await self._connected(stack, address, source)
                self.heard.emit(session.ready)
                self.phase.emit("open", "")
                async with asyncio.TaskGroup() as self._tasks:
                    self._session = session
                    work = [self._feed(session, source), self._report(session, source)]
                    others = [self._tasks.create_task(part) for part in work]
                    await self._hear(session)
                    for other in others:
                        other.cancel()
            self.phase.emit("over", "the server ended the session")
        except* (Af3StreamError, OSError) as errors:
            self.phase.emit("over", str(_first(errors)))
        finally:
            self._session = None

    def _on_run_finished(self, run: concurrent.futures.Future[None]) -> None:
        if not run.cancelled() and (error := run.exception()):
            self.phase.emit("over", f"this program made a mistake: {type(error).__name__}: {error}")
            raise error

    async def _connected(self, stack: AsyncExitStack, address: Address, source: Source) -> Session:
        """Connect, and retry with backoff while the server is unreachable."""
        attempt, reason = 0, ""
        while True:
            self.phase.emit("connecting", reason)
            opening = connect(
                address.url,
                token=address.token,
                format=source.format.format,
                rate=source.format.rate,
                channels=source.format.channels,
                language=self._speech.language,
                task=self._speech.task,
                speakers=self._speech.speakers,
                on_state=self._on_state,
            )
            try:
                return await stack.enter_async_context(opening)
            except (AdmissionError, NetworkError) as error:
                await asyncio.sleep(delay_s(attempt, 0.5 + random() / 2, error.retry_after_s))
                attempt, reason = attempt + 1, str(error)

    def _on_state(self, state: State) -> None:
        phases: dict[State, Phase] = {"open": "open", "reconnecting": "reconnecting"}
        if state in phases:
            self.phase.emit(phases[state], "")

    async def _hear(self, session: Session) -> None:
        async for message in session:
            if isinstance(message, Error) and message.expected_offset is not None:
                self._lost_frames += max(0, session.sent - max(self._lost_to, message.expected_offset))
                self._lost_to = session.sent
            self.heard.emit(message)

    async def _feed(self, session: Session, source: Source) -> None:
        while True:
            await self._listening.wait()
            try:
                async with source.listening() as blocks:
                    if await self._send(session, source, blocks):
                        break
            except (SourceError, OSError) as error:
                self._listening.clear()
                self.paused.emit(True, str(error))
            await session.flush()  # finish the captions of what was said before the pause
        await session.flush()
        self.phase.emit("finished", "")

    async def _send(self, session: Session, source: Source, blocks: Blocks) -> bool:
        """Send captured audio until the source ends or is paused; return whether it ended."""
        clock = asyncio.get_running_loop().time
        due = clock()
        async for block in blocks:
            frames = block.frames if isinstance(block, Lost) else len(block) // source.format.bytes_per_frame
            if not source.live:  # a block is due when its last sample would have been spoken
                due = max(due, clock() - 1) + frames / source.format.rate
                await asyncio.sleep(due - clock())
            if isinstance(block, Lost):
                self._lost_frames += frames
                await session.gap(frames)
            else:
                self._mute_detector.add(block, frames / source.format.rate)
                await session.send(block)
            if not self._listening.is_set():
                return False
        return True

    async def _report(self, session: Session, source: Source) -> None:
        while True:
            rate = session.ready.rate
            waiting_s = source.waiting_s
            unsent_s = (session.sent - session.received) / rate + waiting_s
            muted = self._choice.kind == "microphone" and self._mute_detector.muted
            lost_s = self._lost_frames / rate
            self.progress.emit(Progress(session.sent / rate + waiting_s, unsent_s, lost_s, muted))
            await asyncio.sleep(REPORT_S)

    def _pause(self, paused: bool) -> None:
        if paused:
            self._listening.clear()
        else:
            self._listening.set()
        self.paused.emit(paused, "")

    def _begin(self, number: int, text: str, last_s: float | None, after: int | None) -> None:
        if self._session is None:
            self.refused.emit(number, "There is no session to ask yet.")
        else:
            self._tasks.create_task(self._answer(self._session, number, text, last_s, after))

    def _stop_answer(self, number: int) -> None:
        if self._session and (stream := self._answers.get(number)):
            self._tasks.create_task(_ignore_if_over(stream.cancel()))

    def _name_speaker(self, speaker: int, name: str) -> None:
        if self._session:
            self._tasks.create_task(_ignore_if_over(self._session.name_speaker(speaker, name)))

    async def _answer(self, session: Session, number: int, text: str, last_s: float | None, after: int | None) -> None:
        followed = None if after is None else self._answers[after]
        try:
            stream = self._answers[number] = session.ask_stream(text, last_s=last_s, after=followed)
            async for piece in stream:
                self.piece.emit(number, piece)
            self.answered.emit(number, await stream.answer())
        except (Af3StreamError, ValueError) as error:
            self.refused.emit(number, as_sentence(error))


async def _ignore_if_over(request: Awaitable[object]) -> None:
    with suppress(Af3StreamError):
        await request


def _first(errors: BaseException) -> BaseException:
    return _first(errors.exceptions[0]) if isinstance(errors, BaseExceptionGroup) else errors
