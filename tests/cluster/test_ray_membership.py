"""The watcher of a cluster is a process of its own, which is started again whenever it ends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from af3stream.cluster import ray_membership
from af3stream.cluster.engine_address import EngineAddress
from af3stream.cluster.ray_engine import differences, shown
from af3stream.config import Config, JournalConfig, ModelConfig, ServerConfig

LINE = '[{"name": "engine-1", "address": "a:1", "key": "secret", "role": "all", "process": 1}]'


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("", "the cluster's watcher ended"),
        ("; time.sleep(99)", "the cluster's watcher tells nothing"),
        ("; print('a worker died', flush=True)", "the cluster's watcher tells what is no list of engines"),
        ("; print('x' * (3 << 20), flush=True); time.sleep(99)", "the cluster's watcher failed: error=ValueError"),
    ],
)
async def test_watcher_that_ends_hangs_or_prints_anything_else_is_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, then: str, said: str
) -> None:
    script = tmp_path / "watcher.py"
    script.write_text(f"import time; print({LINE!r}, flush=True){then}")
    monkeypatch.setattr(ray_membership, "COMMAND", (sys.executable, str(script)))
    monkeypatch.setattr(ray_membership, "RESTART_S", (0.0,))
    monkeypatch.setattr(ray_membership, "SILENT_S", 5.0 if then == "; time.sleep(99)" else 30.0)
    seen: list[list[EngineAddress]] = []
    twice = asyncio.Event()

    def see(engines: list[EngineAddress]) -> None:
        seen.append(engines)
        if len(seen) == 2:
            twice.set()

    watching = asyncio.ensure_future(ray_membership.watch("auto", see))
    async with asyncio.timeout(30):
        await twice.wait()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert seen[:2] == [[EngineAddress("engine-1", "a:1", "secret", "all", 1)]] * 2
    assert said in caplog.text
    assert "secret" not in caplog.text


async def test_watcher_that_cannot_be_started_is_started_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "watcher"
    monkeypatch.setattr(ray_membership, "COMMAND", (str(program),))
    monkeypatch.setattr(ray_membership, "RESTART_S", (0.01,))
    seen = asyncio.Event()
    watching = asyncio.ensure_future(ray_membership.watch("auto", lambda _: seen.set()))
    async with asyncio.timeout(30):
        while "the cluster's watcher failed: error=FileNotFoundError" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        ready = tmp_path / "ready"
        ready.write_text(f"#!/bin/sh\necho '{LINE}'\n")
        ready.chmod(0o700)
        ready.rename(program)
        await seen.wait()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


def test_address_is_shown_without_its_key() -> None:
    assert "secret" not in repr(EngineAddress("engine-1", "a:1", "secret", "all", 1))


def test_ray_is_shown_no_tokens_of_clients() -> None:
    assert b"secret" not in shown(Config(ServerConfig(tokens=("secret",))))


def test_settings_of_engines_that_differ_are_named() -> None:
    here, there = Config(ServerConfig(port=1), journal=JournalConfig(shared=True)), Config(model=ModelConfig(threads=3))
    assert differences(shown(here), shown(Config())) == []
    assert differences(shown(here), shown(there)) == ["model"]


def test_a_watcher_is_stale_if_an_engine_does_not_answer_for_long() -> None:
    """One that has answered before answers soon; one that may still load its model has longer."""
    silence = ray_membership.Silence()
    assert not silence.take({"old", "new"}, {"old"}, 100.0)
    assert not silence.take({"old", "new"}, {"old"}, 100.0 + ray_membership.STALE_S)
    assert silence.take({"old", "new"}, {"old"}, 100.1 + ray_membership.STALE_S)
    assert not silence.take({"new"}, {"old"}, 100.0 + ray_membership.LOADING_S)
    assert silence.take({"new"}, {"old"}, 100.1 + ray_membership.LOADING_S)
    assert not silence.take((), {"old"}, 1_000.0)
    assert not silence.take({"new"}, {"old"}, 1_001.0), "it answered meanwhile"
