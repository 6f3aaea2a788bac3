"""The connections under a session, one after another: what is to be said goes out, what comes in is heard."""

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
from af3stream.client.errors import ConnectionLost, NotAdmitted, ServerError, Unreachable
from af3stream.errors import Af3StreamError, BadMessage
from af3stream.protocol.codec import ClientCodec
from af3stream.protocol.messages import Error, Ready, Start

State = Literal["open", "reconnecting", "over"]


@dataclass(frozen=True, slots=True)
class Connection:
    """A socket on which a session has begun, or goes on."""

    socket: ClientConnection
    ready: Ready


@dataclass(frozen=True, slots=True)
class _Loss:
    """Why there is no connection, and how long the server asks to wait for another one."""

    reason: Af3StreamError
    retry_after_s: float = 0.0
    final: bool = False


class ReconnectingTransport:
    """One session's way to the service. Whoever waits for the session waits here.

    Attributes:
        dialogue: the session itself.
        on_state: called with every new state, from the event loop.
    """

    def __init__(
        self,
        dialogue: ClientProtocol,
        socket: ClientConnection,
        codec: ClientCodec,
        dial: Callable[[Start], Awaitable[Connection]],
        patience: Backoff,
        on_state: Callable[[State], None] | None,
    ) -> None:
        self.dialogue, self.on_state = dialogue, on_state
        self._socket: ClientConnection | None = socket
        self._codec, self._dial, self._patience = codec, dial, patience
        self._changed = asyncio.Condition()  # notified after every change of the dialogue or the connection
        self._told: State = "open"
        self._patience.opened(asyncio.get_running_loop().time())
        self._running = asyncio.create_task(self._run())

    @property
    def state(self) -> State:
        """Whether the session goes on, waits for another connection, or is over."""
        if self.dialogue.over:
            return "over"
        return "open" if self._socket else "reconnecting"

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for something; raises why the session is over where it never comes."""
        async with self._changed:
            await self._changed.wait_for(lambda: done() or self.dialogue.over is not None)
            if self.dialogue.over and not done():
                raise self.dialogue.over

    async def deliver(self, said: Callable[[], bool]) -> None:
        """Wait until something is said, or is kept to be said over another connection."""
        await self._change()
        await self.until(lambda: said() or self.state == "reconnecting")

    async def close(self, reason: Af3StreamError) -> None:
        """End every wait with ``reason``, unless the session is over already."""
        self.dialogue.over = self.dialogue.over or reason
        await self._change()

    async def hang_up(self) -> None:
        """Leave the connection, or the attempts to get one. The session is over."""
        if self._socket:
            await self._socket.close()
        else:
            self._running.cancel()
        await asyncio.wait((self._running,))
        if not self._running.cancelled():
            self._running.result()

    async def _run(self) -> None:
        """Converse until the session is over."""
        while self._socket:
            loss = await self._converse(self._socket)
            if loss.final or not self.dialogue.resumable:
                await self.close(loss.reason)
            if self.dialogue.over:
                return
            self._socket = None
            self.dialogue.cut()
            await self._change()
            await self._reconnect(loss)

    async def _converse(self, socket: ClientConnection) -> _Loss:
        """Say and hear until the connection is gone."""
        writing = asyncio.create_task(self._write(socket))
        try:
            while True:
                if message := self._codec.decode_known(await socket.recv()):
                    self.dialogue.receive(message)
                    await self._change()
        except BadMessage as error:
            nonsense = f"the server sent something that is no message of {self._codec.subprotocol}: {error}"
            return _Loss(ConnectionLost(nonsense), final=True)
        except ConnectionClosed as closed:
            return _Loss(ConnectionLost(why_closed(closed)), _wait_s(self.dialogue.parting), is_final(closed))
        finally:
            writing.cancel()
            await asyncio.wait((writing,))
            await socket.close()

    async def _write(self, socket: ClientConnection) -> None:
        dialogue = self.dialogue
        try:
            while True:
                await self.until(lambda: dialogue.outgoing.has_next and not dialogue.over)
                await socket.send(self._codec.encode(dialogue.outgoing.next()))
                await self._change()
        except ConnectionClosed:
            pass  # whoever reads will say why
        except Af3StreamError as error:  # the session is over, or what was kept cannot be read
            await self.close(error)

    async def _reconnect(self, loss: _Loss) -> None:
        """Get another connection, or end the session."""
        clock = asyncio.get_running_loop().time
        self._patience.lost(clock(), self.dialogue.progress)
        while not loss.final:
            delay = self._patience.next_delay_s(clock(), random(), loss.retry_after_s)
            if delay is None:
                tried = f"no other connection within {self._patience.give_up_after_s:g} s"
                loss = _Loss(ConnectionLost(f"{loss.reason}; {tried}"), final=True)
                continue
            await asyncio.sleep(delay)
            try:
                self._socket = await self._resume()
            except Af3StreamError as error:
                loss = _loss(error)
            else:
                self._patience.opened(clock())
                await self._change()
                return
        await self.close(loss.reason)

    async def _resume(self) -> ClientConnection:
        connection = await self._dial(self.dialogue.resuming())
        try:
            self.dialogue.resumed(connection.ready)
        except ServerError:
            await connection.socket.close()
            raise
        return connection.socket

    async def _change(self) -> None:
        """Something changed: look again, whoever waits."""
        if self.on_state and self.state != self._told:
            asyncio.get_running_loop().call_soon(self.on_state, self.state)
        self._told = self.state
        async with self._changed:
            self._changed.notify_all()


def _loss(error: Af3StreamError) -> _Loss:
    """What an attempt to get another connection failed with."""
    match error:
        case Unreachable():
            return _Loss(error, error.retry_after_s)
        case ServerError():
            return _Loss(error, _wait_s(error.error), final=not error.error.retryable)
        case NotAdmitted():
            refusal = ServerError(Error("not_admitted", str(error), fatal=True, retryable=False))
            return _Loss(refusal, final=True)
        case _:
            return _Loss(ConnectionLost(str(error)), final=True)


def _wait_s(error: Error | None) -> float:
    return (error.retry_after_ms or 0) / 1_000 if error else 0.0
