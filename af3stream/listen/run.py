"""Run the ``listen`` command: send audio and questions on time, and print the server's messages."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Final

from af3stream.caption_writer import CaptionWriter
from af3stream.client import ClientError, ConnectionLost, ServerError, Session, connect
from af3stream.errors import SourceError
from af3stream.listen.microphone import Lost
from af3stream.listen.options import ListenOptions, Question, question
from af3stream.listen.screen import Screen, open_screen
from af3stream.listen.sources import Source, open_source
from af3stream.protocol.features import FOLLOW_UPS
from af3stream.protocol.final_captions import FinalCaptions, sound_caption
from af3stream.protocol.messages import Caption, Sound

TAIL_S: Final = 15.0  # after Ctrl-C: how long the server may be silent before its last caption or answer
LOST, INTERRUPTED = 1, 130


async def listen(options: ListenOptions) -> int:
    """Stream the source to the service until it ends, or Ctrl-C; print what comes back.

    Returns:
        The exit code: 0, also after one Ctrl-C; 1 if the session broke off; 130 after a second Ctrl-C.

    Raises:
        SetupError: if the run cannot begin, or the source or the caption file fails later.
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
        except BrokenPipeError:  # the reader of the output has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except ClientError as error:
            print(error, file=sys.stderr)
            return LOST
    return 0


class Listening:
    """Open a source, stream it, and show its session until it ends.

    Attributes:
        session: the session; ``None`` until the service has answered.
        stopping: whether the audio has been stopped.
        leaving: whether the run has been cancelled.
    """

    session: Session | None = None
    stopping = leaving = False
    _exchange: _Exchange | None = None

    def __init__(self, options: ListenOptions, open_screen: Callable[[], Screen]) -> None:
        self._options, self._open_screen = options, open_screen

    def begin(self) -> asyncio.Task[None]:
        """Start the run as a task.

        It raises what ``listen`` raises, ``TimeoutError`` when it was stopped and the last captions did not come,
        and the ``ClientError`` that ended the session early.
        """
        self._work = asyncio.create_task(self._run())
        return self._work

    def stop(self) -> None:
        """Stop the audio and finish what was sent. The second call, or one before audio flows, cancels the run."""
        if self._exchange and not self.stopping:
            self.stopping = True
            self._exchange.stop()
            self._wait_on()
        else:
            self.leaving = True
            self._work.cancel()

    @property
    def takes_follow_ups(self) -> bool:
        """Whether the service takes questions that follow up others; not before it has answered."""
        return self.session is not None and FOLLOW_UPS in self.session.ready.features

    def ask(self, text: str, *, follows_up: bool = False) -> None:
        """Ask a question now; its answer goes to the screen. Do nothing if no session is open or the audio has stopped.

        Args:
            follows_up: whether the question follows up the one asked before it.
        """
        if self._exchange and not self.stopping:
            self._exchange.ask(Question(text, None, follows_up))

    def _wait_on(self) -> None:
        """Once the audio has been stopped, wait as long as the server goes on."""
        if self.stopping:
            self._deadline.reschedule(asyncio.get_running_loop().time() + TAIL_S)

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
            self._deadline = await stack.enter_async_context(asyncio.timeout(None))
            self._exchange = _Exchange(self.session, screen, writer, questions, self._wait_on)
            await self._exchange.run(source, options.pace == "realtime" and not source.live, options.watches)


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
        language=options.language,
        languages=options.languages,
        task="translate" if options.translate else None,
        vocabulary=options.vocabulary,
        words=options.words,
        instructions=options.instructions,
        speakers=options.speakers,
        on_state=screen.state,
    )
    try:
        return await stack.enter_async_context(opening)
    except ClientError as error:
        raise SourceError(str(error)) from None


class _Exchange:
    """Run the tasks of one session: send audio, ask questions, show messages."""

    def __init__(
        self,
        session: Session,
        screen: Screen,
        writer: CaptionWriter | None,
        questions: list[Question],
        on_message: Callable[[], None],
    ) -> None:
        self._session, self._screen, self._writer, self._on_message = session, screen, writer, on_message
        self._timed = sorted((q for q in questions if q.at is not None), key=lambda q: q.at or 0.0)
        self._last = [q for q in questions if q.at is None]
        self._finals = FinalCaptions()
        self._asking: set[asyncio.Task[None]] = set()
        self._asked: str | None = None  # the id of the newest question
        self._places = asyncio.Semaphore(max(1, session.ready.max_questions))

    async def run(self, source: Source, paced: bool, watches: tuple[str, ...]) -> None:
        """Run until the session ends. If the source fails, finish what was sent of it, then raise its error."""
        showing = asyncio.create_task(self._show())
        sending = self._sending = asyncio.create_task(self._send(source, paced, watches))
        try:
            await asyncio.wait((showing, sending), return_when=asyncio.FIRST_COMPLETED)
            failure = await self._finish() if sending.done() else None
            if failure and self._session.state != "over":  # a refusal that does not end the session
                raise failure
            await showing  # after a broken session, print what has arrived, then raise the reason
            if sending.done() and not sending.cancelled():
                sending.result()
        finally:
            tasks = {showing, sending, *self._asking}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._writer:
                self._writer.finish(self._finals)

    def stop(self) -> None:
        """Stop sending audio."""
        self._sending.cancel()

    def ask(self, question: Question) -> None:
        """Ask as soon as the session admits another question."""
        self._asking.add(asyncio.create_task(self._ask(question)))

    async def _send(self, source: Source, paced: bool, watches: tuple[str, ...]) -> None:
        for text in watches:
            self._screen.asked(await self._session.watch(text), text)
        loop, audio = asyncio.get_running_loop(), source.format
        began = loop.time()
        async for block in source.blocks:
            frames = block.frames if isinstance(block, Lost) else len(block) // audio.bytes_per_frame
            if paced:  # send a block when its last sample is due; absolute deadlines do not drift
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
                await asyncio.sleep(0)  # let the question go out before the next block

    async def _finish(self) -> ClientError | None:
        """Ask the remaining questions about all the audio, and end the session; return why that failed."""
        try:
            if remaining := self._timed + self._last:
                await self._session.flush()
            for later in remaining:
                self.ask(later)
            await asyncio.gather(*self._asking)
            await self._session.end()
        except (ConnectionLost, ServerError) as error:
            return error
        return None

    async def _show(self) -> None:
        self._screen.show(self._session.ready)
        try:
            async for message in self._session:
                self._on_message()
                self._finals.add(message)
                if self._writer and isinstance(message, Caption) and message.final:
                    self._writer.add(message)
                elif self._writer and isinstance(message, Sound):
                    self._writer.add(sound_caption(message))
                self._screen.show(message)
        except ServerError as error:
            if error.error.fatal:
                self._screen.show(error.error)
            raise

    async def _ask(self, question: Question) -> None:
        """Ask, and wait for the answer. A refusal is shown as one of the messages."""
        with suppress(ServerError):
            async with self._places:
                before = self._asked if question.follows_up else None
                stream = self._session.ask_stream(question.text, after=before)
                self._asked = stream.id
                self._screen.asked(stream.id, question.text, before)
                await stream.start()
                await stream.answer()
