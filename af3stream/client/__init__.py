"""Stream audio to the service, receive captions, and ask questions.

    async with connect("ws://127.0.0.1:8765") as session:
        await session.send(pcm)
        print((await session.ask("What was decided?")).text)
        await session.end()
        async for message in session:
            print(message)

The messages are ``Caption``, ``Answer`` and the others of ``af3stream.client.messages``.
The errors are the tree of ``af3stream.client.errors``.

``af3stream.client.sync`` has the same methods for programs without an event loop.
"""

from af3stream.client.answers import AnswerStream
from af3stream.client.connecting import ResumeToken, connect, stream_url
from af3stream.client.errors import (
    AdmissionError,
    AuthenticationError,
    ClientError,
    ConnectionLost,
    NetworkError,
    ProtocolError,
    ReaderTooSlow,
    ServerError,
    SessionEnded,
    TemporaryError,
)
from af3stream.client.lag_meter import LagMeter
from af3stream.client.messages import (
    Ack,
    Answer,
    AnswerDelta,
    Caption,
    CaptionUpdate,
    Degraded,
    Ended,
    Error,
    Flushed,
    Ready,
    ServerMessage,
    Sound,
    SpeakerNamed,
    SpeakerUpdate,
    Speech,
    WatchHit,
    Window,
    Word,
)
from af3stream.client.session import Session
from af3stream.client.transport import State

__all__ = [
    "Ack",
    "AdmissionError",
    "Answer",
    "AnswerDelta",
    "AnswerStream",
    "AuthenticationError",
    "Caption",
    "CaptionUpdate",
    "ClientError",
    "ConnectionLost",
    "Degraded",
    "Ended",
    "Error",
    "Flushed",
    "LagMeter",
    "NetworkError",
    "ProtocolError",
    "ReaderTooSlow",
    "Ready",
    "ResumeToken",
    "ServerError",
    "ServerMessage",
    "Session",
    "SessionEnded",
    "Sound",
    "SpeakerNamed",
    "SpeakerUpdate",
    "Speech",
    "State",
    "TemporaryError",
    "WatchHit",
    "Window",
    "Word",
    "connect",
    "stream_url",
]
