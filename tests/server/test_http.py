"""Plain HTTP on the same port: health, metrics, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from af3stream.protocol import messages as m
from af3stream.server.http import application
from tests.server.peers import get, serving, settled, talking
from tests.server.test_sessions import FRAMES, RATE, speak


async def test_health() -> None:
    async with serving(max_sessions=3) as service, talking(service):
        status, headers, body = await get(service, "/healthz")
    assert status == 200 and headers["Content-Type"].startswith("application/json")
    assert json.loads(body) == {"status": "ok", "model": "scripted", "sessions": 1, "max_sessions": 3, "lag_s": 0.0}


async def test_metrics_add_up_after_a_session() -> None:
    async with serving() as service:
        async with talking(service) as peer:
            await speak(peer)
            await peer.tell(m.Gap(FRAMES, RATE), m.Ask("q", "What?"), m.End(FRAMES + RATE), m.Ask("q", "What?"))
            ended = await peer.until(m.Ended)
        await settled(service)
        status, headers, body = await get(service, "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = [line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#")]
    value = {name: float(number) for name, number in lines}

    def seconds(fate: str) -> float:
        return value[f'af3stream_audio_seconds_total{{fate="{fate}"}}']

    assert seconds("received") == pytest.approx(ended.received_s, abs=0.001)
    assert seconds("decoded") == pytest.approx(ended.heard_s, abs=0.001)
    assert seconds("skipped") == pytest.approx(ended.skipped_s, abs=0.001)
    assert seconds("dropped") == ended.lost_s == 1.0
    assert value["af3stream_windows_total"] == ended.windows
    assert value["af3stream_utterances_total"] == ended.utterances == value["af3stream_final_delay_seconds_count"]
    assert value["af3stream_answer_seconds_count"] == len(peer.of(m.Answer))
    assert value["af3stream_sessions"] == 0
    assert value["af3stream_lag_seconds"] == 0


@pytest.mark.parametrize(
    ("target", "content_type"),
    [("/", "text/html"), ("/page/style.css", "text/css"), ("/page/app.js", "text/javascript"), ("/?a=/b", "text/html")],
)
async def test_the_page_and_its_parts(target: str, content_type: str) -> None:
    async with serving() as service:
        status, headers, body = await get(service, target)
    assert status == 200 and headers["Content-Type"] == f"{content_type}; charset=utf-8"
    assert int(headers["Content-Length"]) == len(body) > 0
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "target",
    [
        "/page/",
        "/page/../service.py",
        "/page/../../errors.py",
        "/page/%2e%2e/service.py",
        "/page//etc/passwd",
        "/page/..%2fservice.py",
        "/page/style.css%00",
        "/index.html",
        "/service.py",
        "/../../../../etc/passwd",
        "//etc/passwd",
        "//[",
        "http://[",
        "/v1/stream/",
        "/healthz/",
    ],
)
async def test_nothing_else_is_served(target: str) -> None:
    async with serving() as service:
        assert (await get(service, target))[0] == 404


async def test_the_stream_is_no_page() -> None:
    async with serving() as service:
        assert (await get(service, "/v1/stream"))[0] == 426


async def test_responses_are_counted_by_route_and_status() -> None:
    async with serving() as service:
        await get(service, "/page/style.css")
        await get(service, "/nothing")
        body = (await get(service, "/metrics"))[2].decode()
    assert 'af3stream_http_responses_total{route="/page/{name}",status="200"} 1.0' in body
    assert 'af3stream_http_responses_total{route="none",status="404"} 1.0' in body
    assert 'af3stream_http_response_seconds_count{route="/page/{name}"} 1.0' in body


async def test_the_embedded_engine_has_the_gauges_of_an_engine(tmp_path: Path) -> None:
    async with serving(journal=tmp_path) as service, talking(service) as peer:
        await speak(peer)
        await peer.tell(m.Flush("f"))
        await peer.until(m.Window)
        await peer.tell(m.Ask("q", "What?"))
        await peer.until(m.Answer)
        body = (await get(service, "/metrics"))[2].decode()
    lines = [line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#")]
    value = {name: float(number) for name, number in lines}
    assert value['af3stream_engine_up{engine="embedded"}'] == value['af3stream_engine_sessions{engine="embedded"}'] == 1
    assert value['af3stream_engine_device_seconds{engine="embedded"}'] == value["af3stream_device_seconds"] > 0
    assert value['af3stream_engine_embedding_bytes{engine="embedded"}'] > 0
    assert 0 < value["af3stream_journal_bytes"] < value["af3stream_journal_quota_bytes"]
    assert value["af3stream_commit_seconds_count"] > 0


async def test_a_server_that_listens_is_ready() -> None:
    async with serving() as service:
        assert (await get(service, "/readyz"))[0] == 200


@pytest.mark.parametrize(("reason", "status"), [(None, 200), ("no engine can be reached", 503)])
def test_readiness_says_why_clients_should_go_elsewhere(reason: str | None, status: int) -> None:
    app = application(lambda _: None, dict, bytes, 1 << 20, unready=lambda: reason)
    answer = TestClient(app).get("/readyz")
    assert (answer.status_code, answer.text) == (status, f"{reason or 'ready'}\n")
