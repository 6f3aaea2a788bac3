"""Send a session's requests and wait for their replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from af3stream.client.errors import ServerError
from af3stream.client.outgoing import Request
from af3stream.client.reply import Reply
from af3stream.client.transport import ReconnectingTransport, State
from af3stream.protocol.messages import Answer, Ended, Error, Flushed

Outcome = TypeVar("Outcome", Answer, Flushed, Ended)


class RequestSender:
    """Send requests over a transport. Every method that waits raises the error that ends the session."""

    def __init__(self, transport: ReconnectingTransport) -> None:
        self._transport, self._protocol = transport, transport.protocol

    @property
    def state(self) -> State:
        """The state of the transport."""
        return self._transport.state

    def check_open(self) -> None:
        """Raise the error that ended the session, if it has ended."""
        if self._protocol.over:
            raise self._protocol.over

    async def send(self, request: Request) -> None:
        """Send a request, or keep it for the next connection."""
        self.check_open()
        placed = self._protocol.outgoing.request(request)
        await self._transport.deliver(lambda: placed.said)

    def expect(self, ref: str) -> Reply:
        """Return the reply to the request with this id; it fills as messages arrive."""
        return self._protocol.expect(ref)

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until ``done()``."""
        await self._transport.until(done)

    async def completed(self, reply: Reply, kind: type[Outcome]) -> Outcome:
        """Wait for the message that completes a request.

        Raises:
            ServerError: if the request is refused.
        """
        await self.until(lambda: reply.outcome is not None)
        if isinstance(reply.outcome, Error):
            raise ServerError(reply.outcome)
        assert isinstance(reply.outcome, kind)
        return reply.outcome
