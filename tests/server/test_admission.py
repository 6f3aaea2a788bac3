"""Who may connect, decided at the handshake with an HTTP status."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from af3stream.protocol import messages as m
from af3stream.protocol.codec import JSON, MSGPACK
from tests.server.peers import connected, get, serving, settled, stream_url, talking

TOKEN = "open-sesame.1"
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def refused(url: str, **options: Any) -> Response:
    """The HTTP answer to a handshake that does not succeed."""
    options = {"subprotocols": [MSGPACK], **options}
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(url, **options):
            pass
    return refusal.value.response


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {"additional_headers": {"Authorization": "Bearer {}"}}),
        ("", {"additional_headers": {"authorization": "bearer {} "}}),
        ("", {"subprotocols": [MSGPACK, "af3stream.token.{}"]}),
        ("?token={}", {}),
    ],
    ids=["header", "header in any case", "subprotocol", "query"],
)
async def test_a_token_comes_in_three_ways(query: str, options: dict[str, Any]) -> None:
    def spell(value: Any, token: str) -> Any:
        if isinstance(value, dict):
            return {key: spell(each, token) for key, each in value.items()}
        return [spell(each, token) for each in value] if isinstance(value, list) else value.format(token)

    async with serving(tokens=("another", TOKEN)) as service:
        knock = {"subprotocols": [MSGPACK], **spell(options, TOKEN)}
        async with connect(stream_url(service) + query.format(TOKEN), **knock) as socket:
            assert socket.subprotocol == MSGPACK  # never the token
        for wrong in (TOKEN + "x", TOKEN[:-1], "another-", "x"):
            response = await refused(stream_url(service) + query.format(wrong), **spell(options, wrong))
            assert response.status_code == 401


async def test_no_token() -> None:
    async with serving(tokens=(TOKEN,)) as service:
        assert (await refused(stream_url(service))).status_code == 401


@pytest.mark.parametrize("token", ["t\xf6k\xe9n", "\xff", ""])
async def test_a_token_that_is_not_ascii(token: str) -> None:
    async with serving(tokens=(TOKEN,)) as service:
        assert (await get(service, "/v1/stream", f"{UPGRADE}Authorization: Bearer {token}\r\n"))[0] == 401
        assert (await get(service, "/v1/stream?token=%ED%A0%80", UPGRADE))[0] == 401


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        (None, True),
        ("http://127.0.0.1:{port}", True),  # the service's own page
        ("https://meet.example", True),
        ("http://meet.example", False),
        ("https://meet.example.evil", False),
        ("https://evil.example", False),
        ("http://127.0.0.1:1", False),
        ("null", False),
        ("http://[", False),
    ],
)
async def test_browsers_are_admitted_from_known_origins(origin: str | None, admitted: bool) -> None:
    async with serving(origins=("https://meet.example",)) as service:
        header = f"Origin: {origin.format(port=service.port)}\r\n" if origin else ""
        protocol = f"Sec-WebSocket-Protocol: {JSON}\r\n"
        if admitted:
            async with connected(service, origin=origin and origin.format(port=service.port)):
                pass
        else:
            assert (await get(service, "/v1/stream", UPGRADE + header + protocol))[0] == 403


@pytest.mark.parametrize(
    ("host", "options", "admitted"),
    [
        ("rebound.example", {}, False),  # a name that its owner made lead here
        ("rebound.example", {"tokens": (TOKEN,)}, True),  # who has the token may come from anywhere
        ("rebound.example", {"origins": ("http://rebound.example",)}, True),
        ("localhost:8765", {}, True),
        ("[::1]:8765", {}, True),
        ("[::1", {}, False),
        ("", {}, False),
    ],
)
async def test_a_name_that_leads_here_makes_no_page_our_own(host: str, options: dict[str, Any], admitted: bool) -> None:
    headers = f"Origin: http://{host}\r\nAuthorization: Bearer {TOKEN}\r\n"
    async with serving(**options) as service:
        status, _, _ = await get(service, "/v1/stream", UPGRADE + headers, host=host)
        assert status == (400 if admitted else 403)  # no subprotocol is offered


async def test_a_full_house_says_when_to_come_again() -> None:
    async with serving(max_sessions=1) as service:
        async with talking(service) as guest:
            response = await refused(stream_url(service))
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            await guest.tell(m.End(0))
            await guest.until_closed()
        await settled(service)
        async with talking(service):
            pass


@pytest.mark.parametrize(
    "cap", [{"max_sessions_per_user": 1, "tokens": ("ann", "bob")}, {"max_connections_per_address": 1}]
)
async def test_who_has_enough_says_when_to_come_again(cap: dict[str, Any]) -> None:
    def bearer(name: str) -> dict[str, Any]:
        return {"additional_headers": {"Authorization": f"Bearer {name}"}}

    async with serving(**cap) as service:
        async with connected(service, **bearer("ann")):
            response = await refused(stream_url(service), **bearer("ann"))
            assert response.status_code == 429
            assert int(response.headers["Retry-After"]) > 0
            if "tokens" in cap:
                async with talking(service, **bearer("bob")):
                    pass
        await settled(service)
        async with talking(service, **bearer("ann")):
            pass


async def test_a_plain_request_is_told_why_its_handshake_would_be_refused() -> None:
    async with serving(tokens=("sesame",), max_sessions=1) as service:
        bearer = {"Authorization": "Bearer sesame"}
        assert (await get(service, "/v1/stream"))[0] == 401
        assert (await get(service, "/v1/stream?token=sesame", "Origin: https://evil.example\r\n"))[0] == 403
        assert (await get(service, "/v1/stream?token=sesame"))[0] == 426
        async with talking(service, additional_headers=bearer):
            status, headers, body = await get(service, "/v1/stream", "Authorization: Bearer sesame\r\n")
            assert (status, headers["Retry-After"], body) == (503, "5", b"all 1 sessions are taken\n")


async def test_a_handshake_that_fails_leaves_its_place() -> None:
    async with serving(max_sessions=1) as service:
        assert (await refused(stream_url(service), subprotocols=["soap"])).status_code == 400
        await settled(service)
        async with talking(service):
            pass


async def test_a_crowd_does_not_fit_through_the_door_together() -> None:
    async def knock() -> bool:
        try:
            async with talking(service):
                await done.wait()
                return True
        except InvalidStatus:
            return False

    done = asyncio.Event()
    async with serving(max_sessions=2) as service:
        knocks = [asyncio.create_task(knock()) for _ in range(12)]
        await asyncio.sleep(0.3)
        assert service.sessions <= 2
        done.set()
        assert sum(await asyncio.gather(*knocks)) == 2


@pytest.mark.parametrize("offered", [None, ["soap"], ["af3stream.v2.msgpack"], [f"af3stream.token.{TOKEN}"]])
async def test_no_subprotocol_in_common(offered: Any) -> None:
    async with serving() as service:
        assert (await refused(stream_url(service), subprotocols=offered)).status_code == 400


async def test_the_first_subprotocol_that_is_known_is_taken() -> None:
    async with serving() as service, connect(stream_url(service), subprotocols=["soap", JSON, MSGPACK]) as socket:
        assert socket.subprotocol == JSON


async def test_compression_is_never_agreed_on() -> None:
    offer = {"subprotocols": [JSON], "compression": "deflate"}
    async with serving() as service, connect(stream_url(service), **offer) as socket:
        assert socket.protocol.extensions == []


async def test_another_path() -> None:
    async with serving() as service:
        address = stream_url(service).replace("/v1/", "/v2/")
        assert (await refused(address)).status_code == 404


async def test_refusals_are_counted_by_status() -> None:
    async with serving(tokens=(TOKEN,)) as service:
        await refused(stream_url(service))
        assert service.metrics.registry.get_sample_value("af3stream_refusals_total", {"code": "401"}) == 1
