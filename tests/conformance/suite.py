"""The WebSocket conformance suite against this service's own settings: Autobahn's cases, run by kosoku.

``python -m tests.conformance.suite`` runs every case. The service listens as always, with its limits and without
compression; behind the handshake an echo takes the place of a session, as the suite wants.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final
from unittest.mock import patch

from kosoku import FailureError, run_fuzzingclient
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from af3stream.config import Config, JournalConfig, ServerConfig
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine
from af3stream.server import service
from af3stream.server.http import STREAM_PATH
from af3stream.server.service import Service

QUICK: Final = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
LARGE: Final = ("9.*",)
COMPRESSED: Final = ("12.*", "13.*")
LARGEST_BYTES: Final = 16 << 20  # of a message in the large cases; our own limit refuses most of them
# websockets takes a close in the middle of a fragmented message for a protocol error, which RFC 6455 leaves open; its
# compliance/README.rst says so.
EXCEPTED: Final = ("7.1.5",)
FRAGMENTED: Final = ("9.3.1", "9.3.2", "9.4.1", "9.4.2")  # into more pieces than websockets takes in one message
TOO_BIG: Final = 1009


class Echo(Service):
    """The service, with an echo behind its handshake."""

    async def _handle(self, peer: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in peer:
                await peer.send(message)


@asynccontextmanager
async def echoing(max_frame_bytes: int = ServerConfig().max_frame_bytes) -> AsyncIterator[str]:
    """Listen as the service does; the address to give to the suite, which offers no subprotocol."""
    config = Config(ServerConfig(port=0, max_frame_bytes=max_frame_bytes), journal=JournalConfig(folder=""))
    with patch.object(service, "_select_subprotocol", lambda *_: None):
        async with Echo(config, Loaded(ScriptedEngine(), "off", None)).listening() as echo:
            yield f"ws://127.0.0.1:{echo.port}{STREAM_PATH}"


async def wrong(cases: Sequence[str], max_frame_bytes: int = ServerConfig().max_frame_bytes) -> tuple[int, list[str]]:
    """Run cases; how many there were, and what is wrong with each that does not end as it must.

    A case passes, or is excepted; one over a limit of ours is closed as too big; compression is never agreed on.
    """
    async with echoing(max_frame_bytes) as url:
        try:
            results = await run_fuzzingclient(url, cases=list(cases))
        except FailureError as failure:
            results = failure.results
    wrong = []
    for result in results:
        if f"{result.case_id.partition('.')[0]}.*" in COMPRESSED:
            right = result.behavior.value == "UNIMPLEMENTED"
        elif result.case_id in FRAGMENTED:
            right = result.remote_close_code == TOO_BIG
        else:
            right = result.passed or result.case_id in EXCEPTED
        if not right:
            wrong.append(f"{result.case_id}: {result.behavior.value}, {result.result} {result.result_close}")
    return len(results), wrong


async def main() -> None:
    """Every case; one line for each that is wrong, and a count."""
    total, found = await wrong((*QUICK, *COMPRESSED))
    more, large = await wrong(LARGE, LARGEST_BYTES)
    print(*found, *large, sep="\n", end="\n" * bool(found or large))
    print(f"{total + more} cases, {len(found) + len(large)} wrong, excepted: {', '.join(EXCEPTED)}")
    sys.exit(bool(found or large))


if __name__ == "__main__":
    asyncio.run(main())
