"""Run the service: one engine and one address for many connections."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import NegotiationError
from websockets.typing import Subprotocol

from af3stream.config import Config, state_dir
from af3stream.engine.factory import Loaded
from af3stream.errors import ConfigError
from af3stream.journal.journal import Journal
from af3stream.metrics import Metrics
from af3stream.protocol.codec import SUBPROTOCOLS
from af3stream.server import http
from af3stream.server.admitted_clients import AdmittedClients
from af3stream.server.backend import Backend, EmbeddedBackend
from af3stream.server.connection import Connection
from af3stream.server.http_server import HttpServer
from af3stream.server.load import Done, Load, Now, resident_bytes
from af3stream.server.ports import cannot_listen
from af3stream.server.realtime.connection import RealtimeConnection
from af3stream.server.rest.file_session import Engines
from af3stream.server.rest.routes import rest_routes
from af3stream.server.session_manager import SessionManager
from af3stream.server.tls import Tls
from af3stream.tracing import Tracing

log = logging.getLogger(__name__)
wire_log = log.getChild("wire")
wire_log.setLevel(logging.INFO)  # at DEBUG, websockets logs headers and frames: tokens, questions and audio

REALTIME_SUBPROTOCOL: Final = "realtime"
SWEEP_EVERY_S: Final = 600.0
RENEW_EVERY_S: Final = 5.0
LOOK_EVERY_S: Final = 1.0
OWING_EVERY_S: Final = 0.1


class Service:
    """The server, with everything that its sessions share.

    Attributes:
        backend: what runs the jobs.
        metrics: the metrics of this server.
        port: the port, once the service listens.

    Args:
        engine: an engine, which runs in this process, or another backend.
        tracing: makes spans; ``None``: nothing is traced. The caller closes it.
    """

    def __init__(self, config: Config, engine: Loaded | Backend, tracing: Tracing | None = None) -> None:
        self.metrics = Metrics()
        self.port = config.server.port
        self._config = config
        self.backend = EmbeddedBackend(engine, config, tracing) if isinstance(engine, Loaded) else engine
        self._tls = Tls(config.server) if config.server.tls_certificate else None
        self._journal = open_journal(config)
        self._hosts = SessionManager(
            config=config,
            backend=self.backend,
            journal=self._journal,
            metrics=self.metrics,
            tracing=tracing,
        )
        self._load = Load(config.server)
        self._clients = AdmittedClients(config.server, self.metrics, self._no_room)
        self._http = HttpServer(
            config.server,
            http.application(
                self._clients.would_admit,
                self._health,
                self._metrics_text,
                config.server.max_body_bytes,
                rest_routes(
                    Engines(config, self.backend.facts, self.backend.jobs, self.metrics),
                    self._clients.entered,
                    self._clients.authenticate,
                ),
                config.server.origins,
                self.backend.unready,
            ),
            self._tls.context if self._tls else None,
            self.metrics,
        )
        self._connections: set[Connection | RealtimeConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def sessions(self) -> int:
        """Number of connections and requests with audio that are admitted and not done."""
        return len(self._clients)

    @property
    def _lag_s(self) -> float:
        """The lag of the session that is furthest behind, in seconds."""
        return max(self._hosts.lags_s, default=0.0)

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http{'s' if self._tls else ''}://{self._config.server.host}:{self.port}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Service]:
        """Serve within the context, and drain when it ends.

        Raises:
            SourceError: if the service cannot listen on the address.
        """
        server_config = self._config.server
        if self._journal:
            await asyncio.to_thread(self._journal.start)
        try:
            server = await serve(
                self._handle,
                server_config.host,
                server_config.port,
                process_request=self._clients.process_request,
                select_subprotocol=_select_subprotocol,
                create_connection=self._http.connections(),
                compression=None,
                max_size=server_config.max_frame_bytes,
                open_timeout=server_config.open_timeout_s,
                ping_interval=server_config.ping_interval_s,
                ping_timeout=server_config.ping_timeout_s,
                server_header=None,
                logger=wire_log,
            )
        except OSError as error:
            if self._journal:
                await asyncio.to_thread(self._journal.stop)
            raise cannot_listen(server_config, error) from None
        self.port = next(iter(server.sockets)).getsockname()[1]
        self.backend.start(self.metrics, self._hosts)
        sweeping = asyncio.create_task(_repeat(self._sweep, SWEEP_EVERY_S))
        chores = [
            asyncio.create_task(_repeat(self._measure_load, LOOK_EVERY_S)),
            asyncio.create_task(_repeat(self._hosts.renew_leases, RENEW_EVERY_S)),
        ]
        if self._tls:
            chores.append(asyncio.create_task(self._tls.watch()))
        try:
            yield self
        finally:
            sweeping.cancel()
            await self._drain(server)
            for chore in chores:  # what is pending may need them
                chore.cancel()
            await self._hosts.close()
            await self.backend.stop()
            if self._journal:
                await asyncio.to_thread(self._journal.stop)

    async def _sweep(self) -> None:
        """Delete expired sessions."""
        if self._journal:
            await asyncio.to_thread(self._journal.sweep, time.time())

    async def _measure_load(self) -> None:
        """Measure the load, and tell every session when no new sessions are admitted."""
        audio = "af3stream_audio_seconds_total"
        heard = [self.metrics.registry.get_sample_value(audio, {"fate": fate}) for fate in ("decoded", "skipped")]
        self._load.note(Done(time.monotonic(), self.backend.due_s, sum(seconds or 0.0 for seconds in heard)))
        self.backend.check(self._load.most_sessions)
        self._hosts.refuse_others(self._load.overload(self._now()) is not None)

    def _now(self) -> Now:
        return Now(
            self.sessions,
            self._hosts.lags_s,
            self.backend.short_of_memory,
            self._journal is None or self._journal.has_room,
            resident_bytes(),
            self.backend.engines,
        )

    def _no_room(self, user: str) -> str | None:
        """Return why another session does not fit, or ``None``.

        A user who may resume a session in memory always fits.
        """
        if self._hosts.awaits(user):
            return None
        return self.backend.refusal() or self._load.refusal(self._now())

    async def _handle(self, peer: ServerConnection) -> None:
        user, hosts = self._clients.user(peer), self._hosts
        connection: Connection | RealtimeConnection
        path = _path(peer)
        if path in http.REALTIME_PATHS:
            connection = RealtimeConnection(
                peer,
                config=self._config,
                captioner=self.backend.facts.captioner,
                hosts=hosts,
                user=user,
                metrics=self.metrics,
                translates=path == http.TRANSLATIONS_PATH,
            )
        else:
            connection = Connection(peer, config=self._config.server, hosts=hosts, user=user, metrics=self.metrics)
        self._connections.add(connection)
        self._empty.clear()
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._empty.set()

    async def _drain(self, server: Server) -> None:
        """Refuse new work, let sessions and requests finish what is pending, and close.

        If other servers can go on with the sessions, a client is sent away as soon as it waits for no answer.
        """
        server.close(close_connections=False)
        for connection in list(self._connections):
            if connection.idle:
                connection.go_away()
        self._hosts.drain(hand_over=self.backend.hands_over)
        http_closed = asyncio.create_task(self._http.close(self._config.server.drain_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.server.drain_s):
                if self.backend.hands_over:
                    await self._hand_over()
                await self._empty.wait()
        for connection in list(self._connections):
            connection.go_away()
        await http_closed
        await server.wait_closed()

    async def _hand_over(self) -> None:
        """Send clients away, so that they resume at another server; one that waits for an answer goes later."""
        self.backend.hand_over()
        staying = [connection for connection in self._connections if isinstance(connection, Connection)]
        while staying:
            for connection in [connection for connection in staying if not connection.owing]:
                connection.go_away()
                staying.remove(connection)
            await asyncio.sleep(OWING_EVERY_S)

    def _health(self) -> dict[str, Any]:
        """Return the content of `/healthz`."""
        return {
            "status": "ok",
            "model": self.backend.facts.name,
            "sessions": self.sessions,
            "max_sessions": self._config.server.max_sessions,
            "lag_s": self._lag_s,
        }

    def _metrics_text(self) -> bytes:
        """Return the content of `/metrics`."""
        self.metrics.lag.set(self._lag_s)
        self.metrics.device.set(self.backend.busy_s)
        self.metrics.cost.set(self._load.cost)
        self.metrics.resident.set(resident_bytes())
        self.metrics.sessions.set(self.sessions)
        if self._journal:
            self.metrics.journal_bytes.set(self._journal.used_bytes)
            self.metrics.journal_quota.set(self._journal.quota_bytes)
        self.backend.note()
        return self.metrics.render()


async def _repeat(chore: Callable[[], Awaitable[None]], every_s: float) -> None:
    """Run a task periodically. A failure is logged, and the task runs again."""
    while True:
        try:
            await chore()
        except Exception:
            log.exception("a periodic task failed")
        await asyncio.sleep(every_s)


def open_journal(config: Config) -> Journal | None:
    """Open the journal that the configuration names, if any; by default, each port has its own folder.

    Raises:
        ConfigError: if the folder cannot be used, or is shared and not named.
    """
    folder = config.journal.folder
    if config.journal.shared and folder in ("", "auto"):
        raise ConfigError("journal.shared needs a journal.folder that all servers name")
    if folder == "auto":
        folder = str(state_dir() / str(config.server.port)) if config.server.port else ""
    return Journal(msgspec.structs.replace(config.journal, folder=folder)) if folder else None


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if _path(connection) in http.REALTIME_PATHS:
        return next((name for name in offered if name == REALTIME_SUBPROTOCOL), None)
    for name in offered:
        if name in SUBPROTOCOLS:
            return name
    raise NegotiationError(f"offer one of the subprotocols {', '.join(SUBPROTOCOLS)}")


def _path(connection: ServerConnection) -> str:
    assert connection.request
    return urlsplit(connection.request.path).path
