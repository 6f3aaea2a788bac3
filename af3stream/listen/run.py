"""One run of the ``listen`` command: audio goes out at its pace, questions at their time, messages to the screen."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Final

from af3stream.client import ConnectionLost, ReaderTooSlow, ServerError, Session, connect
from af3stream.errors import SourceError
from af3stream.listen.microphone import Lost
from af3stream.listen.options import ListenOptions, Question, question
from af3stream.listen.screen import Screen, open_screen
from af3stream.listen.sources import Source, open_source
from af3stream.protocol.features import FOLLOW_UPS
from af3stream.protocol.messages import Caption
from af3stream.subtitles import CaptionWriter

TAIL_S: Final = 15.0  # after Ctrl-C: how long the last captions and answers may take
LOST, INTERRUPTED = 1, 130


async def listen(options: ListenOptions) -> int:
    """Stream the source to the service until it ends, or Ctrl-C; print what comes back.

    Returns:
        The exit code: 0, also after one Ctrl-C; 1 when the server went away; 130 after a second Ctrl-C.

    Raises:
        SetupError: for what is wrong before audio flows, and for a source or a caption file that fails later.
    """
    listening = Listening(options, lambda: open_screen(json=options.json))
    work = listening.begin()
    with _on_ctrl_c(listening.stop):
        try:
            await work
        except asyncio.CancelledError:
            if not listening.leaving:
                raise
            return INTERRUPTED
        except TimeoutError:
            print("left before the last captions came", file=sys.stderr)
        except BrokenPipeError:  # whoever read the output has left, and wants no more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (ConnectionLost, ReaderTooSlow, ServerError) as error:
            print(error, file=sys.stderr)
            return LOST
    return 0


class Listening:
    """One run: a source is opened and streamed, and its session shown, to the end.

    Attributes:
        session: once the service has answered.
        stopping: whether the audio was stopped.
        leaving: whether the run was given up.
    """

    session: Session | None = None
    stopping = leaving = False
    _conversation: _Conversation | None = None

    def __init__(self, options: ListenOptions, open_screen: Callable[[], Screen]) -> None:
        self._options, self._open_screen = options, open_screen

    def begin(self) -> asyncio.Task[None]:
        """The run, as a task.

        It raises what :func:`listen` raises, ``TimeoutError`` when it was stopped and the last captions did not come,
        and why the session broke off: ``ConnectionLost``, ``ReaderTooSlow`` or ``ServerError``.
        """
        self._work = asyncio.create_task(self._run())
        return self._work

    def stop(self) -> None:
        """Once: the audio stops, and what was heard is finished. Again, or before audio flows: the run leaves."""
        if self._conversation and not self.stopping:
            self.stopping = True
            self._conversation.stop()
            self._patience.reschedule(asyncio.get_running_loop().time() + TAIL_S)
        else:
            self.leaving = True
            self._work.cancel()

    @property
    def takes_follow_ups(self) -> bool:
        """Whether the service takes questions that follow up others; not before it has answered."""
        return self.session is not None and FOLLOW_UPS in self.session.ready.features

    def ask(self, text: str, *, follows_up: bool = False) -> None:
        """Ask now, once a session is open and until the audio is stopped; the screen is told of the answer.

        Args:
            follows_up: whether the question follows up the one asked before it.
        """
        if self._conversation and not self.stopping:
            self._conversation.ask(Question(text, None, follows_up))

    async def _run(self) -> None:
        options = self._options
        questions = [question(spelled) for spelled in options.asks]
        async with AsyncExitStack() as stack:
            source = await stack.enter_async_context(open_source(options))
            screen = self._open_screen()
            stack.callback(screen.close)
            self.session = await _connected(stack, options, source, screen)
            if any(each.follows_up for each in questions) and not self.takes_follow_ups:
                raise SourceError(f"{options.server} takes no questions that follow up others")
            writer = stack.enter_context(CaptionWriter(options.captions)) if options.captions else None
            self._patience = await stack.enter_async_context(asyncio.timeout(None))
            self._conversation = _Conversation(self.session, screen, writer, questions)
            await self._conversation.run(source, options.pace == "realtime" and not source.live, options.watches)


@contextmanager
def _on_ctrl_c(act: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        loop.add_signal_handler(signal.SIGINT, act)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGINT)


async def _connected(stack: AsyncExitStack, options: ListenOptions, source: Source, screen: Screen) -> Session:
    audio = source.format
    opening = connect(
        options.server,
        token=options.token or os.environ.get("AF3STREAM_TOKEN"),
        format=audio.format,
        rate=audio.rate,
        channels=audio.channels,
        on_state=screen.state,
    )
    try:
        return await stack.enter_async_context(opening)
    except ServerError as error:
        raise SourceError(str(error)) from None


class _Conversation:
    """The tasks of one session: sending, asking, showing."""

    def __init__(
        self, session: Session, screen: Screen, writer: CaptionWriter | None, questions: list[Question]
    ) -> None:
        self._session, self._screen, self._writer = session, screen, writer
        self._timed = sorted((q for q in questions if q.at is not None), key=lambda q: q.at or 0.0)
        self._last = [q for q in questions if q.at is None]
        self._asking: set[asyncio.Task[None]] = set()
        self._asked: str | None = None  # the id of the newest question
        self._places = asyncio.Semaphore(max(1, session.ready.max_questions))

    async def run(self, source: Source, paced: bool, watches: tuple[str, ...]) -> None:
        """Everything, to the session's end. A source that fails is reported after what was heard of it is finished."""
        showing = asyncio.create_task(self._show())
        sending = self._sending = asyncio.create_task(self._send(source, paced, watches))
        try:
            await asyncio.wait((showing, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await self._finish()
            await showing  # where the session broke off, this prints what had come, and then raises why
            if sending.done() and not sending.cancelled():
                sending.result()
        finally:
            tasks = {showing, sending, *self._asking}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """The audio ends here."""
        self._sending.cancel()

    def ask(self, question: Question) -> None:
        """Ask as soon as the session has a place for another question."""
        self._asking.add(asyncio.create_task(self._ask(question)))

    async def _send(self, source: Source, paced: bool, watches: tuple[str, ...]) -> None:
        for text in watches:
            self._screen.asked(await self._session.watch(text), text)
        loop, audio = asyncio.get_running_loop(), source.format
        began = loop.time()
        async for block in source.blocks:
            frames = block.frames if isinstance(block, Lost) else len(block) // audio.bytes_per_frame
            if paced:  # a block exists once its last sample was heard; the deadline is absolute, so nothing drifts
                due = began + (self._session.sent + frames) / audio.rate
                await asyncio.sleep(due - loop.time())
            sent = self._session.sent
            self._screen.sending(block, sent / audio.rate, (sent + frames) / audio.rate)
            if isinstance(block, Lost):
                await self._session.gap(frames)
            else:
                await self._session.send(block)
            while self._timed and (self._timed[0].at or 0.0) * audio.rate <= self._session.sent:
                self.ask(self._timed.pop(0))
                await asyncio.sleep(0)  # its turn: where a place is free, the question goes out before the next block

    async def _finish(self) -> None:
        """Ask what is left, over everything that was sent, and end the session."""
        try:
            if remaining := self._timed + self._last:
                await self._session.flush()
            for later in remaining:
                self.ask(later)
            await asyncio.gather(*self._asking)
            await self._session.end()
        except (ConnectionLost, ServerError) as error:
            await self._session.close(error)

    async def _show(self) -> None:
        self._screen.show(self._session.ready)
        try:
            async for message in self._session.messages():
                if self._writer and isinstance(message, Caption) and message.final:
                    self._writer.add(message)
                self._screen.show(message)
        except ServerError as error:
            if error.error.fatal:
                self._screen.show(error.error)
            raise

    async def _ask(self, question: Question) -> None:
        """A refusal is among the messages."""
        with suppress(ServerError):
            async with self._places:
                before = self._asked if question.follows_up else None
                stream = self._session.ask_stream(question.text, after=before)
                self._asked = stream.id
                self._screen.asked(stream.id, question.text, before)
                await stream.start()
                await stream.answer()
