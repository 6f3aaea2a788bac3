"""Read an answer piece by piece, while it is generated."""

from __future__ import annotations

from typing import Self

from af3stream.client.reply import Reply
from af3stream.client.requests import RequestSender
from af3stream.protocol.messages import Answer, Ask, Cancel


class AnswerStream:
    """Iterate over an answer while it is generated. ``start``, or the first use, sends the question.

    After a lost connection the rest comes as one piece. If the new answer differs from what has arrived, the whole
    answer follows on a new line.

    Attributes:
        id: the question's id, which its messages carry.
    """

    def __init__(self, requests: RequestSender, ask: Ask) -> None:
        self.id = ask.id
        self._requests, self._ask = requests, ask
        self._reply: Reply | None = None

    async def start(self) -> None:
        """Send the question; do nothing if it was sent before."""
        if self._reply is None:
            self._reply = self._requests.expect(self.id)
            await self._requests.send(self._ask)

    async def answer(self) -> Answer:
        """Wait for the whole answer.

        Raises:
            ServerError: if the question is refused.
        """
        return await self._requests.completed(await self._started(), Answer)

    async def cancel(self) -> None:
        """Stop the generation: the answer completes with the text generated so far. Do nothing after the answer."""
        if self._reply and self._reply.outcome is None and self._requests.state != "over":
            await self._requests.send(Cancel(self.id))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        reply = await self._started()
        await self._requests.until(lambda: bool(reply.unread) or reply.outcome is not None)
        if not reply.unread:
            await self._requests.completed(reply, Answer)
            raise StopAsyncIteration
        piece, reply.unread = reply.unread, ""
        return piece

    async def _started(self) -> Reply:
        await self.start()
        assert self._reply
        return self._reply


Answered = Answer | AnswerStream | str | int


def answered_ref(answered: Answered | None) -> int | str | None:
    """Return the reference to an answer on the wire: its event if it has one, else its question's id."""
    match answered:
        case Answer(event=event, id=ref):
            return ref if event is None else event
        case AnswerStream(id=ref):
            return ref
    return answered
