"""Carry a session over one connection after another: write its outgoing messages, read the incoming ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import random
from typing import Literal

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from af3stream.client.backoff import Backoff
from af3stream.client.client_protocol import ClientProtocol
from af3stream.client.closing import is_final, why_closed
from af3stream.client.errors import AuthenticationError, ConnectionLost, ServerError, TemporaryError
from af3stream.errors import Af3StreamError, BadMessage
from af3stream.protocol.codec import ClientCodec
from af3stream.protocol.messages import Error, Ready, Start

State = Literal["open", "reconnecting", "over"]


@dataclass(frozen=True, slots=True)
class Connection:
    """An open socket, and the ``ready`` message that it received."""

    socket: ClientConnection
    ready: Ready


@dataclass(frozen=True, slots=True)
class _Loss:
    """Why the connection was lost, how long to wait, and whether reconnecting is pointless (``final``)."""

    reason: Af3StreamError
    retry_after_s: float = 0.0
    final: bool = False


class ReconnectingTransport:
    """Connect one session to the service, and reconnect after a loss. Every wait of the session happens here.

    Attributes:
        protocol: the state of the session.
        on_state: called with every new state, from the event loop.
    """

    def __init__(
        self,
        protocol: ClientProtocol,
        socket: ClientConnection,
        codec: ClientCodec,
        dial: Callable[[Start], Awaitable[Connection]],
        backoff: Backoff,
        on_state: Callable[[State], None] | None,
    ) -> None:
        self.protocol, self.on_state = protocol, on_state
        self._socket: ClientConnection | None = socket
        self._codec, self._dial, self._backoff = codec, dial, backoff
        self._changed = asyncio.Condition()  # notified after every change of the protocol or the connection
        self._told: State = "open"
        self._backoff.opened(asyncio.get_running_loop().time())
        self._running = asyncio.create_task(self._run())

    @property
    def state(self) -> State:
        """Whether the session is connected, is reconnecting, or is over."""
        if self.protocol.over:
            return "over"
        return "open" if self._socket else "reconnecting"

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until ``done()``; raise the error that ended the session if that comes first."""
        async with self._changed:
            await self._changed.wait_for(lambda: done() or self.protocol.over is not None)
            if self.protocol.over and not done():
                raise self.protocol.over

    async def deliver(self, said: Callable[[], bool]) -> None:
        """Wait until a message is sent, or kept for the next connection."""
        await self._change()
        await self.until(lambda: said() or self.state == "reconnecting")

    async def close(self, reason: Af3StreamError) -> None:
        """End every wait with ``reason``, unless the session is over already."""
        self.protocol.over = self.protocol.over or reason
        await self._change()

    async def disconnect(self) -> None:
        """Close the connection, or stop reconnecting. The session is over."""
        if self._socket:
            await self._socket.close()
        else:
            self._running.cancel()
        await asyncio.wait((self._running,))
        if not self._running.cancelled():
            self._running.result()

    async def _run(self) -> None:
        """Exchange messages, and reconnect, until the session is over."""
        while self._socket:
            loss = await self._exchange(self._socket)
            if loss.final or not self.protocol.resumable:
                await self.close(loss.reason)
            if self.protocol.over:
                return
            self._socket = None
            self.protocol.cut()
            await self._change()
            await self._reconnect(loss)

    async def _exchange(self, socket: ClientConnection) -> _Loss:
        """Write and read until the connection is lost."""
        writing = asyncio.create_task(self._write(socket))
        try:
            while True:
                if message := self._codec.decode_known(await socket.recv()):
                    self.protocol.receive(message)
                    await self._change()
        except BadMessage as error:
            problem = f"the server sent something that is no message of {self._codec.subprotocol}: {error}"
            return _Loss(ConnectionLost(problem), final=True)
        except ConnectionClosed as closed:
            return _Loss(ConnectionLost(why_closed(closed)), _wait_s(self.protocol.parting), is_final(closed))
        finally:
            writing.cancel()
            await asyncio.wait((writing,))
            await socket.close()

    async def _write(self, socket: ClientConnection) -> None:
        protocol = self.protocol
        try:
            while True:
                await self.until(lambda: protocol.outgoing.has_next and not protocol.over)
                await socket.send(self._codec.encode(protocol.outgoing.next()))
                await self._change()
        except ConnectionClosed:
            pass  # the reading side reports the reason
        except Af3StreamError as error:  # the session is over, or the spool cannot be read
            await self.close(error)

    async def _reconnect(self, loss: _Loss) -> None:
        """Get another connection, or end the session."""
        clock = asyncio.get_running_loop().time
        self._backoff.lost(clock(), self.protocol.progress)
        while not loss.final:
            delay = self._backoff.next_delay_s(clock(), random(), loss.retry_after_s)
            if delay is None:
                tried = f"no other connection within {self._backoff.give_up_after_s:g} s"
                loss = _Loss(ConnectionLost(f"{loss.reason}; {tried}"), final=True)
                continue
            await asyncio.sleep(delay)
            try:
                self._socket = await self._resume()
            except Af3StreamError as error:
                loss = _loss(error)
            else:
                self._backoff.opened(clock())
                await self._change()
                return
        await self.close(loss.reason)

    async def _resume(self) -> ClientConnection:
        connection = await self._dial(self.protocol.resuming())
        try:
            self.protocol.resumed(connection.ready)
        except ServerError:
            await connection.socket.close()
            raise
        return connection.socket

    async def _change(self) -> None:
        """Notify every waiter of a change."""
        if self.on_state and self.state != self._told:
            asyncio.get_running_loop().call_soon(self.on_state, self.state)
        self._told = self.state
        async with self._changed:
            self._changed.notify_all()


def _loss(error: Af3StreamError) -> _Loss:
    """Classify why an attempt to reconnect failed."""
    match error:
        case TemporaryError():
            return _Loss(error, error.retry_after_s)
        case ServerError():
            return _Loss(error, _wait_s(error.error), final=not error.error.retryable)
        case AuthenticationError():
            refusal = ServerError(Error("not_admitted", str(error), fatal=True, retryable=False))
            return _Loss(refusal, final=True)
        case _:
            return _Loss(ConnectionLost(str(error)), final=True)


def _wait_s(error: Error | None) -> float:
    return (error.retry_after_ms or 0) / 1_000 if error else 0.0
