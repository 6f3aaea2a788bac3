"""Events reach a receiver that fails and stalls; none is lost, and repeats have the same key."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from af3stream_clients.meeting_bot.delivery import Deliverer, delay_s, drained, retry_after_s, sign
from af3stream_clients.meeting_bot.rules import Action
from af3stream_clients.meeting_bot.state import State
from tests.clients.meeting_bot.environment import receiving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def state(tmp_path: Path):
    state = State(tmp_path / "state.db")
    yield state
    state.close()


@asynccontextmanager
async def delivering(action: Action, state: State, tmp_path: Path, note: Callable[[str], None] = print):
    deliverer = Deliverer("a", action, state, tmp_path / "dead.jsonl", first_s=0.01, note=note)
    task = asyncio.create_task(deliverer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_signature_matches_the_standard_webhooks_example() -> None:
    signature = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="  # the example of the specification


async def test_receiver_with_errors_timeouts_and_retry_after_gets_each_event_once(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    async with receiving((500, {}), None, (429, {"retry-after": "0"}), (200, {}), (503, {}), (204, {})) as receiver:
        action = Action(webhook=receiver.url, secret_env="HOOK_SECRET", timeout_s=0.5)
        state.post("a", "key-1", {"text": "first"})
        state.post("a", "key-2", {"text": "second"})
        async with delivering(action, state, tmp_path):
            assert await drained(state, 20)
    assert [r.event["text"] for r in receiver.received] == ["first"] * 4 + ["second"] * 2
    assert [r.headers["idempotency-key"] for r in receiver.received] == ["key-1"] * 4 + ["key-2"] * 2
    for r in receiver.received:
        expected = sign(SECRET, r.headers["webhook-id"], int(r.headers["webhook-timestamp"]), r.body)
        assert r.headers["webhook-signature"] == expected
    assert not (tmp_path / "dead.jsonl").exists()


async def test_undeliverable_event_goes_to_the_dead_letters(state: State, tmp_path: Path) -> None:
    async with receiving((500, {}), (502, {}), (410, {}), (302, {"location": "http://x"})) as receiver:
        for text in ("tried", "gone", "moved", "taken"):
            state.post("a", text, {"text": text})
        notes: list[str] = []
        async with delivering(Action(webhook=receiver.url, attempts=2), state, tmp_path, notes.append):
            assert await drained(state, 20)
    assert notes[1] == f"a did not take an event (HTTP 410): it is kept in {tmp_path / 'dead.jsonl'}"
    assert len(notes) == 3
    dead = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    assert [(d["event"]["text"], d["attempts"], d["reason"]) for d in dead] == [
        ("tried", 2, "HTTP 502"),
        ("gone", 1, "HTTP 410"),
        ("moved", 1, "HTTP 302"),
    ]
    assert receiver.received[-1].event["text"] == "taken"


async def test_interrupted_delivery_is_repeated_with_the_same_key(state: State, tmp_path: Path) -> None:
    state.post("a", "key", {"text": "one"})
    async with receiving(None, (200, {})) as receiver:
        action = Action(webhook=receiver.url)
        async with delivering(action, state, tmp_path):
            await receiver.has(lambda received: len(received) == 1)
        async with delivering(action, state, tmp_path):
            assert await drained(state, 20)
    assert [r.headers["idempotency-key"] for r in receiver.received] == ["key", "key"]


async def test_command_gets_the_event_on_stdin_without_a_shell(state: State, tmp_path: Path) -> None:
    program = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    state.post("a", "key", {"text": "$(one); two"})
    async with delivering(Action(command=[sys.executable, "-c", program, f"{tmp_path}/$HOME"]), state, tmp_path):
        assert await drained(state, 20)
    assert json.loads((tmp_path / "$HOME").read_text()) == {"text": "$(one); two"}


async def test_hanging_command_is_killed_after_its_timeout(state: State, tmp_path: Path) -> None:
    state.post("a", "key", {})
    hang = Action(command=[sys.executable, "-c", "import time; time.sleep(600)"], timeout_s=0.3, attempts=1)
    async with delivering(hang, state, tmp_path):
        assert await drained(state, 20)
    assert "no end within 0.3 s" in (tmp_path / "dead.jsonl").read_text()


async def test_file_action_appends_one_line_per_event(state: State, tmp_path: Path) -> None:
    for n in range(3):
        state.post("a", str(n), {"n": n})
    async with delivering(Action(append=str(tmp_path / "new" / "events.jsonl")), state, tmp_path):
        assert await drained(state, 20)
    lines = (tmp_path / "new" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == [0, 1, 2]


def test_backoff_grows_has_jitter_and_honours_retry_after() -> None:
    assert [delay_s(n, 1) for n in range(4)] == [1, 2, 4, 8]
    assert delay_s(3, 0) == 4
    assert delay_s(0, 0, retry_after_s=30) == 30
    assert delay_s(99, 1, retry_after_s=1e9) == 300
    assert retry_after_s("7", 0) == 7
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 20) == 40
    assert retry_after_s("soon", 0) == 0
