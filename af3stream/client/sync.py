"""The client for programs without an event loop: the same session, run on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from af3stream.client.answers import Answered
from af3stream.client.connecting import connect as connect_async
from af3stream.client.errors import SessionEnded
from af3stream.client.session import Session
from af3stream.client.transport import State
from af3stream.protocol.messages import Answer, Ended, Flushed, Ready, ServerMessage

P = ParamSpec("P")
T = TypeVar("T")


class _Loop:
    """An event loop on a daemon thread."""

    def __init__(self) -> None:
        self._running = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),), name="af3stream-client", daemon=True)
        self._thread.start()
        self._running.wait()

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._running.set()
        await self._stop.wait()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` to its end; an interrupted wait cancels it."""
        if self._loop.is_closed():
            work.close()
            raise SessionEnded("the session was left")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield every item of an asynchronous iterator without ``None`` among its items."""
        while (item := self.call(_next(items))) is not None:
            yield item

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


class SyncSession:
    """:class:`~af3stream.client.Session` with methods that block; they may be called from several threads."""

    def __init__(self, loop: _Loop, session: Session) -> None:
        self._loop, self._session = loop, session

    @property
    def ready(self) -> Ready:
        """How the server set the session up."""
        return self._session.ready

    @property
    def state(self) -> State:
        """See :attr:`Session.state`."""
        return self._session.state

    @property
    def sent(self) -> int:
        """Sample frames sent or declared lost."""
        return self._session.sent

    @property
    def received(self) -> int:
        """Sample frames that the server says it has."""
        return self._session.received

    @property
    def processed(self) -> int:
        """Sample frames that the server says are captioned and encoded."""
        return self._session.processed

    @property
    def durable(self) -> int:
        """See :attr:`Session.durable`."""
        return self._session.durable

    @property
    def ahead_s(self) -> float:
        """See :attr:`Session.ahead_s`."""
        return self._session.ahead_s

    def send(self, pcm: bytes) -> None:
        """See :meth:`Session.send`."""
        self._loop.call(self._session.send(pcm))

    def gap(self, frames: int) -> None:
        """See :meth:`Session.gap`."""
        self._loop.call(self._session.gap(frames))

    def __iter__(self) -> Iterator[ServerMessage]:
        """See :meth:`Session.__aiter__`."""
        return self._loop.iterate(self._session)

    def ask(
        self,
        text: str,
        *,
        last_s: float | None = None,
        max_tokens: int | None = None,
        after: Answered | None = None,
    ) -> Answer:
        """See :meth:`Session.ask`."""
        return self._loop.call(self._session.ask(text, last_s=last_s, max_tokens=max_tokens, after=after))

    def ask_stream(
        self,
        text: str,
        *,
        last_s: float | None = None,
        max_tokens: int | None = None,
        after: Answered | None = None,
    ) -> Iterator[str]:
        """The answer piece by piece. An iterator that is closed early cancels the question."""
        stream = self._session.ask_stream(text, last_s=last_s, max_tokens=max_tokens, after=after)
        try:
            yield from self._loop.iterate(stream)
        finally:
            self._loop.call(stream.cancel())

    def watch(self, text: str, *, every_s: float | None = None) -> str:
        """See :meth:`Session.watch`."""
        return self._loop.call(self._session.watch(text, every_s=every_s))

    def unwatch(self, watch_id: str) -> None:
        """See :meth:`Session.unwatch`."""
        self._loop.call(self._session.unwatch(watch_id))

    def name_speaker(self, speaker: int, name: str) -> None:
        """See :meth:`Session.name_speaker`."""
        self._loop.call(self._session.name_speaker(speaker, name))

    def flush(self) -> Flushed:
        """See :meth:`Session.flush`."""
        return self._loop.call(self._session.flush())

    def end(self) -> Ended:
        """See :meth:`Session.end`."""
        return self._loop.call(self._session.end())


def _on_a_thread(
    opening: Callable[P, AbstractAsyncContextManager[Session]],
) -> Callable[P, AbstractContextManager[SyncSession]]:
    @wraps(opening, assigned=("__name__", "__qualname__"))  # whose signature it shows
    @contextmanager
    def on_a_thread(*args: P.args, **kwargs: P.kwargs) -> Iterator[SyncSession]:
        """As :func:`af3stream.client.connect`, in a plain ``with``; ``on_state`` is called on the session's thread."""
        session = opening(*args, **kwargs)
        loop = _Loop()
        try:
            entered = loop.call(_enter(session))
            try:
                yield SyncSession(loop, entered)
            finally:
                loop.call(_leave(session))
        finally:
            loop.close()

    return on_a_thread


connect = _on_a_thread(connect_async)


async def _enter(session: AbstractAsyncContextManager[Session]) -> Session:
    return await session.__aenter__()


async def _leave(session: AbstractAsyncContextManager[Session]) -> None:
    await session.__aexit__(None, None, None)


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)
