"""One client of the Realtime API: frames in, events out, and one session of the service behind them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from af3stream.audio.pcm import AudioFormat
from af3stream.config import Config
from af3stream.engine.facts import CaptionerFacts
from af3stream.errors import BadMessage, Refusal, WrongFrame
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.server.openai_errors import ApiError, api_error
from af3stream.server.realtime import client_events as events
from af3stream.server.realtime.audio_formats import Appended
from af3stream.server.realtime.dialect import Dialect
from af3stream.server.realtime.event_writer import NORMAL_CLOSE, EventWriter
from af3stream.server.realtime.frames import Frames, asked_for
from af3stream.server.realtime.settings import Kind, Settings
from af3stream.server.realtime.translation import CloseTranslation, TranslationDialect
from af3stream.server.session_manager import SessionManager, going_away
from af3stream.server.session_runner import SessionRunner, superseded
from af3stream.server.tuned_start import TunedStart
from af3stream.session.lifecycle import State

log = logging.getLogger(__name__)

FAILURE_CLOSE: Final = 1011
SESSION_EVENTS: Final = (events.Commit, events.Clear, events.CreateResponse, events.CreateWatch, events.DeleteWatch)
"""Events that need a session: with the first of them, or with the first audio, it is opened."""


class RealtimeConnection:
    """Serves one WebSocket. Its session can outlive it if the client asked for a resume token.

    Args:
        user: the user that the handshake authenticated.
        translates: whether it is a translation session.
    """

    resumes = False

    def __init__(
        self,
        socket: ServerConnection,
        *,
        config: Config,
        captioner: CaptionerFacts,
        hosts: SessionManager,
        user: str,
        metrics: Metrics,
        translates: bool = False,
    ) -> None:
        asked = asked_for(socket)
        self._socket = socket
        self._config = config
        self._hosts = hosts
        self._user = user
        self._metrics = metrics
        self._resume = asked.get("resume")
        self._last_event = int(asked["last_event"]) if asked.get("last_event", "").isdecimal() else 0
        self._out = EventWriter(socket, config.server.outgoing_messages)
        self._dialect: Dialect | TranslationDialect
        if translates:
            self._dialect = TranslationDialect(asked.get("model", ""), captioner, self._out.emit)
        else:
            kind: Kind = "transcription" if asked.get("intent") == "transcription" else "realtime"
            settings = Settings(kind=kind, model=asked.get("model", ""))
            self._dialect = Dialect(settings, config, captioner, self._out.emit, self._send)
        self._strikes: Counter[str] = Counter()
        self._host: SessionRunner | None = None
        self._start: TunedStart | None = None  # what the open session began with, and its newest instructions
        self._audio: Appended | None = None
        self._sent = self._processed = 0  # sample frames
        self._changed = asyncio.Event()
        self._gone = asyncio.ensure_future(socket.wait_closed())
        self._ended = False

    async def run(self) -> None:
        """Serve the client until the connection closes."""
        writer = asyncio.create_task(self._out.run())
        self._gone.add_done_callback(lambda _: self._changed.set())
        try:
            self._dialect.welcome()
            if self._resume:
                await self._open(m.Start(resume=self._resume, last_event=self._last_event))
            await self._read()
        except ConnectionClosed:
            pass
        except (Refusal, ApiError) as refusal:
            self._end_with(refusal)
        finally:
            self._out.close(FAILURE_CLOSE)
            self._changed.set()
            await self._read_past()
            await writer
            self._leave()

    @property
    def idle(self) -> bool:
        """Whether it has no session."""
        return self._host is None

    # ---- what a session says to its peer -----------------------------------------------------------------------------

    def tell(self, messages: Sequence[m.ServerMessage]) -> None:
        """Translate messages of the session, in order."""
        for message in messages:
            match message:
                case m.Ack():
                    self._processed = message.processed
                    self._dialect.processed(message.processed / self._rate)
                case m.Ended():
                    self._ended = True
                case m.Error(fatal=True):
                    self._out.refuse(ApiError(message.message, code=message.code))
            self._dialect.hear(message)
        self._changed.set()

    def greet(self, messages: Sequence[m.ServerMessage]) -> None:
        """Translate the first messages: the state of the session, and missed events."""
        for message in messages:
            if isinstance(message, m.Ready):
                self._greeted(message)
            else:
                self._dialect.replayed(message)

    def session_over(self, state: State) -> None:
        """Note the end of the session."""
        self._ended = True
        self._changed.set()
        if state is State.DRAINED:
            self.go_away()

    def supersede(self) -> None:
        """Disconnect because another connection resumed the session."""
        self._host = None
        self._end_with(superseded())

    def fail(self) -> None:
        """Disconnect because of an internal error."""
        self._out.close(FAILURE_CLOSE)
        self._changed.set()

    def go_away(self) -> None:
        """Disconnect because the server shuts down."""
        self._end_with(going_away())

    # ---- the session -------------------------------------------------------------------------------------------------

    @property
    def _rate(self) -> int:
        return self._audio.format.rate if self._audio else 1

    async def _open(self, start: m.Start) -> None:
        """Open a session, or the one that is resumed."""
        self._start = self._dialect.start
        self._host = await self._hosts.open(start, self._user, self)

    def _greeted(self, ready: m.Ready) -> None:
        self._audio = Appended(AudioFormat(ready.format, ready.rate, ready.channels), alaw=self._dialect.alaw)
        self._sent, self._processed = ready.received, ready.processed
        self._dialect.received_s = ready.received / ready.rate
        if self._resume is not None:
            self._out.emit(
                "af3stream.session.opened",
                session_id=ready.session,
                resume=ready.resume,
                last_event=ready.last_event,
                received_ms=round(1_000 * ready.received / ready.rate),
            )

    async def _ready(self) -> None:
        """Make sure that a session with the client's settings is open."""
        start = self._dialect.start
        if self._host is None:
            await self._open(start)
        elif isinstance(self._dialect, Dialect) and self._dialect.renews and start != self._start:
            await self._end_session()
            self._dialect.renewed()
            await self._open(start)

    def _instruct(self) -> None:
        """Give the open session the instructions in force, if they changed."""
        text = self._dialect.start.instructions
        if self._host and self._start and text != self._start.instructions:
            self._send(m.Instruct(text))
            self._start = msgspec.structs.replace(self._start, instructions=text)

    async def _end_session(self) -> None:
        """End the session, and translate all that it says."""
        host = self._host
        assert host
        self._send(m.End(self._sent))
        while not self._ended:
            await self._wait()
        self._host = None
        self._hosts.leave(host, self, for_good=True)
        self._ended = False

    async def _close(self) -> None:
        """End a translation session, and disconnect."""
        assert isinstance(self._dialect, TranslationDialect)
        if self._host:
            await self._end_session()
        self._dialect.closed()
        self._out.close(NORMAL_CLOSE)

    async def _append(self, spelled: str) -> None:
        """Send audio to the session, as fast as the credit allows."""
        await self._ready()
        assert self._audio
        credit = round(self._config.server.credit_s * self._rate)
        for pcm in self._audio.pieces(spelled):
            frames = self._audio.format.frames(pcm)
            while self._sent + frames > self._processed + credit and not self._out.closed:
                await self._wait()
            self._send(m.Audio(self._sent, pcm))
            self._sent += frames
            self._dialect.heard(frames / self._rate)

    async def _wait(self) -> None:
        """Wait for a message of the session."""
        self._changed.clear()
        await self._changed.wait()
        if self._gone.done():
            raise ConnectionClosedError(None, None)

    def _owing(self) -> bool:
        """Whether the client waits for the service."""
        return self._host is not None and self._host.session.owing

    def _send(self, message: m.ClientMessage) -> None:
        if self._host is None:
            raise superseded()
        self._host.receive(message, self, self._user)

    # ---- the socket --------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read and handle events until the connection closes."""
        frames = Frames(self._socket, self._config.server)
        while not self._out.closed:
            frame = await frames.next(self._owing)
            event_id = None
            try:
                if not isinstance(frame, str):
                    raise WrongFrame("the Realtime API takes text frames")
                event = self._dialect.decoder.decode(frame)
                event_id = event.event_id
                await self._take(event)
            except events.NoEvent as error:
                self._out.refuse(error, None)
                self._strike(BadMessage(str(error)))
            except events.WrongEvent as error:
                self._out.refuse(error, error.event_id)
            except ApiError as error:
                self._out.refuse(error, event_id)
            except Refusal as refusal:
                self._strike(refusal)
                self._out.refuse(api_error(refusal), event_id)

    async def _take(self, event: events.ClientEvent) -> None:
        match event:
            case events.Append(audio=spelled):
                await self._append(spelled)
                return
            case CloseTranslation():
                await self._close()
                return
            case events.CreateItem(item=item):
                self._dialect.take(event)
                await self._append_parts(item)
                return
            case _ if isinstance(event, SESSION_EVENTS):
                await self._ready()
        self._dialect.take(event)
        if isinstance(event, events.SessionUpdate):
            self._instruct()

    async def _append_parts(self, item: events.Item) -> None:
        """Send the audio of a created item to the session."""
        spoken = [part.audio for part in item.content if part.audio and item.role == "user"]
        if spoken:
            await self._ready()
            dialect = self._dialect
            assert isinstance(dialect, Dialect), "translation sessions have no items"
            dialect.begin_created()
            try:
                for audio in spoken:
                    await self._append(audio)
            finally:
                dialect.end_created()

    def _strike(self, refusal: Refusal) -> None:
        """Count a violation, and raise the refusal at the limit."""
        self._strikes[refusal.code] += 1
        self._metrics.refusals.labels(refusal.code).inc()
        if refusal.close_code is not None and self._strikes[refusal.code] >= refusal.strikes:
            raise refusal

    async def _read_past(self) -> None:
        """Discard frames until the client closes."""
        with suppress(ConnectionClosed):
            while True:
                await self._socket.recv()

    def _end_with(self, error: Refusal | ApiError) -> None:
        """Send the error, and close."""
        log.info("realtime connection ends: code=%s", error.code)
        self._out.end_with(error)
        self._changed.set()

    def _leave(self) -> None:
        self._out.gone()
        host, self._host = self._host, None
        if host:
            self._hosts.leave(host, self, for_good=self._resume is None)
