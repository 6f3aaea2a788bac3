"""The Python SDK: audio in, captions and answers out.

::

    async with connect("ws://127.0.0.1:8765") as session:
        await session.send(pcm)
        print((await session.ask("What was decided?")).text)
        ended = await session.end()

:mod:`af3stream.client.sync` is the same without an event loop.
"""

from af3stream.client.answers import AnswerStream
from af3stream.client.behind import Behind
from af3stream.client.connecting import Earlier, connect, stream_url
from af3stream.client.errors import ConnectionLost, ReaderTooSlow, ServerError, SessionEnded
from af3stream.client.line import State
from af3stream.client.session import Session

__all__ = [
    "AnswerStream",
    "Behind",
    "ConnectionLost",
    "Earlier",
    "ReaderTooSlow",
    "ServerError",
    "Session",
    "SessionEnded",
    "State",
    "connect",
    "stream_url",
]
