"""Use the client without an event loop: the same session, run on a background thread."""

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
    """Run an event loop on a daemon thread."""

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
        """Run ``work`` and return its result. An interrupt cancels it."""
        if self._loop.is_closed():
            work.close()
            raise SessionEnded("the session was left")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield every item of an asynchronous iterator whose items are not ``None``."""
        while (item := self.call(_next(items))) is not None:
            yield item

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


class SyncSession:
    """``Session`` with methods that block. Several threads may call them."""

    def __init__(self, loop: _Loop, session: Session) -> None:
        self._loop, self._session = loop, session

    @property
    def ready(self) -> Ready:
        """See ``Session.ready``."""
        return self._session.ready

    @property
    def state(self) -> State:
        """See ``Session.state``."""
        return self._session.state

    @property
    def sent(self) -> int:
        """See ``Session.sent``."""
        return self._session.sent

    @property
    def received(self) -> int:
        """See ``Session.received``."""
        return self._session.received

    @property
    def processed(self) -> int:
        """See ``Session.processed``."""
        return self._session.processed

    @property
    def durable(self) -> int:
        """See ``Session.durable``."""
        return self._session.durable

    @property
    def ahead_s(self) -> float:
        """See ``Session.ahead_s``."""
        return self._session.ahead_s

    def send(self, pcm: bytes) -> None:
        """See ``Session.send``."""
        self._loop.call(self._session.send(pcm))

    def gap(self, frames: int) -> None:
        """See ``Session.gap``."""
        self._loop.call(self._session.gap(frames))

    def __iter__(self) -> Iterator[ServerMessage]:
        """See ``Session.__aiter__``."""
        return self._loop.iterate(self._session)

    def ask(
        self,
        text: str,
        *,
        last_s: float | None = None,
        max_tokens: int | None = None,
        after: Answered | None = None,
    ) -> Answer:
        """See ``Session.ask``."""
        return self._loop.call(self._session.ask(text, last_s=last_s, max_tokens=max_tokens, after=after))

    def ask_stream(
        self,
        text: str,
        *,
        last_s: float | None = None,
        max_tokens: int | None = None,
        after: Answered | None = None,
    ) -> Iterator[str]:
        """Ask, and yield the answer piece by piece. Closing the iterator early cancels the question."""
        stream = self._session.ask_stream(text, last_s=last_s, max_tokens=max_tokens, after=after)
        try:
            yield from self._loop.iterate(stream)
        finally:
            self._loop.call(stream.cancel())

    def watch(self, text: str, *, every_s: float | None = None) -> str:
        """See ``Session.watch``."""
        return self._loop.call(self._session.watch(text, every_s=every_s))

    def unwatch(self, watch_id: str) -> None:
        """See ``Session.unwatch``."""
        self._loop.call(self._session.unwatch(watch_id))

    def instruct(self, text: str) -> None:
        """See :meth:`Session.instruct`."""
        self._loop.call(self._session.instruct(text))

    def name_speaker(self, speaker: int, name: str) -> None:
        """See :meth:`Session.name_speaker`."""
        self._loop.call(self._session.name_speaker(speaker, name))

    def flush(self) -> Flushed:
        """See ``Session.flush``."""
        return self._loop.call(self._session.flush())

    def end(self) -> Ended:
        """See ``Session.end``."""
        return self._loop.call(self._session.end())


def _on_a_thread(
    opening: Callable[P, AbstractAsyncContextManager[Session]],
) -> Callable[P, AbstractContextManager[SyncSession]]:
    @wraps(opening, assigned=("__name__", "__qualname__"))  # keep its signature
    @contextmanager
    def on_a_thread(*args: P.args, **kwargs: P.kwargs) -> Iterator[SyncSession]:
        """Open a session on a background thread, and close it when the block ends."""
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
"""Open a session in a plain ``with`` block. The arguments and errors are those of ``af3stream.client.connect``.

``on_state`` is called on the background thread.
"""


async def _enter(session: AbstractAsyncContextManager[Session]) -> Session:
    return await session.__aenter__()


async def _leave(session: AbstractAsyncContextManager[Session]) -> None:
    await session.__aexit__(None, None, None)


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)
