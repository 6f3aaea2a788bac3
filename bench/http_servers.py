"""Servers of `bench.http_cost`, each in a process of its own: ``python -m bench.http_servers WAY PORT``.

This module does not import torch, so that each server starts quickly.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn import Config as UvicornConfig
from uvicorn import Server as UvicornServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from af3stream.config import ServerConfig
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.protocol.codec import MSGPACK, Codec, server_codec
from af3stream.server.http import STREAM_PATH, application
from af3stream.server.http_server import HttpServer

FRAMES: Final = 1_600  # bytes of an audio message of 100 ms
ALONE, BEHIND, UVICORN = "websockets_alone", "behind_http", "uvicorn_sansio"
WAYS: Final = (ALONE, BEHIND, UVICORN)


def acknowledged(codec: Codec[m.ClientMessage], frame: bytes | str) -> bytes | str:
    """Return the acknowledgement of an audio message."""
    message = codec.decode(frame)
    assert isinstance(message, m.Audio)
    return codec.encode(m.Ack(message.offset + FRAMES, message.offset))


async def over_websockets(peer: ServerConnection) -> None:
    """Acknowledge each message of a websockets connection."""
    codec = server_codec(MSGPACK)
    async for frame in peer:
        await peer.send(acknowledged(codec, frame))


async def over_starlette(peer: WebSocket) -> None:
    """Acknowledge each message of a Starlette WebSocket."""
    codec = server_codec(MSGPACK)
    await peer.accept(MSGPACK)
    try:
        while True:
            answer = acknowledged(codec, await peer.receive_bytes())
            assert isinstance(answer, bytes)
            await peer.send_bytes(answer)
    except WebSocketDisconnect:
        pass


async def serving(way: str, port: int) -> None:
    """Serve until the parent closes standard input."""
    config = ServerConfig()
    if way == UVICORN:
        await by_uvicorn(config, port)
        return
    http = HttpServer(config, application(lambda _: None, dict, bytes, config.max_body_bytes), None, Metrics())
    async with serve(
        over_websockets,
        "127.0.0.1",
        port,
        subprotocols=[Subprotocol(MSGPACK)],
        create_connection=http.connections() if way == BEHIND else None,
        compression=None,
        max_size=config.max_frame_bytes,
        open_timeout=config.open_timeout_s,
        ping_interval=config.ping_interval_s,
        ping_timeout=config.ping_timeout_s,
        server_header=None,
    ):
        await until_told()


async def by_uvicorn(config: ServerConfig, port: int) -> None:
    """Serve until the parent closes standard input, with uvicorn's own WebSockets."""
    app = Starlette(routes=[WebSocketRoute(STREAM_PATH, over_starlette)])
    options: dict[str, Any] = {"ws": "websockets-sansio", "http": "h11", "ws_per_message_deflate": False}
    options |= {"lifespan": "off", "log_config": None, "access_log": False, "ws_ping_interval": config.ping_interval_s}
    server = UvicornServer(UvicornConfig(app, port=port, **options))
    listening = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    await until_told()
    server.should_exit = True
    await listening


async def until_told() -> None:
    """Print that the server listens, then the CPU seconds for each input line; return at the end of the input."""
    print("listening", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(time.process_time(), flush=True)


if __name__ == "__main__":
    asyncio.run(serving(sys.argv[1], int(sys.argv[2])))
