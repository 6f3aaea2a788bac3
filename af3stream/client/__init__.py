"""The Python SDK: audio in, captions and answers out.

::

    async with connect("ws://127.0.0.1:8765") as session:
        await session.send(pcm)
        print((await session.ask("What was decided?")).text)
        ended = await session.end()

:mod:`af3stream.client.sync` is the same without an event loop.
"""

from af3stream.client.answers import AnswerStream
from af3stream.client.connecting import ResumeToken, connect, stream_url
from af3stream.client.errors import ConnectionLost, ReaderTooSlow, ServerError, SessionEnded
from af3stream.client.lag_meter import LagMeter
from af3stream.client.session import Session
from af3stream.client.transport import State

__all__ = [
    "AnswerStream",
    "ConnectionLost",
    "LagMeter",
    "ReaderTooSlow",
    "ResumeToken",
    "ServerError",
    "Session",
    "SessionEnded",
    "State",
    "connect",
    "stream_url",
]
