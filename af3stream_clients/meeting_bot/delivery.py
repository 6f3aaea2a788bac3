"""Deliver events to signed webhooks, commands and files, with retries and dead letters.

Webhooks follow the Standard Webhooks specification: ``webhook-id``, ``webhook-timestamp`` and
``webhook-signature: v1,…``, HMAC-SHA256 over ``id.timestamp.body``, so that any of its libraries verifies them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import random
from typing import Final

import httpx2
import msgspec

from af3stream_clients.meeting_bot.rules import Action
from af3stream_clients.meeting_bot.state import OutboxEntry, State

FIRST_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 300.0
RETRIED_STATUS: Final = (408, 425, 429)  # besides 5xx


class DeliveryError(Exception):
    """An attempt to deliver an event failed.

    Attributes:
        final: whether another attempt would fail, too.
        retry_after_s: how long the receiver asks to wait, in seconds.
    """

    def __init__(self, reason: str, *, final: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.final, self.retry_after_s = final, retry_after_s


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the ``webhook-signature`` of a body."""
    encoded = secret.removeprefix("whsec_")
    key = secret.encode()
    if encoded != secret:
        with suppress(binascii.Error):
            key = base64.b64decode(encoded, validate=True)
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def delay_s(attempt: int, chance: float, retry_after_s: float = 0.0, first_s: float = FIRST_DELAY_S) -> float:
    """Return the delay before the next attempt: exponential backoff with jitter, at least what the receiver asks for.

    Args:
        attempt: counted from 0.
        chance: random number from 0 to 1.
        retry_after_s: what the receiver asks for, limited to ``MAX_DELAY_S``.
        first_s: the first delay, in seconds.
    """
    backoff = min(MAX_DELAY_S, first_s * 2.0 ** min(attempt, 32))
    return max(backoff * (0.5 + chance / 2), min(retry_after_s, MAX_DELAY_S))


class Deliverer:
    """Delivers the outbox of one action in order; each event until it is taken or given up."""

    def __init__(
        self,
        name: str,
        action: Action,
        state: State,
        dead_letters: Path,
        first_s: float = FIRST_DELAY_S,
        note: Callable[[str], None] = print,
    ) -> None:
        self.name = name
        self._action, self._state, self._dead_letters = action, state, dead_letters
        self._first_s, self._note = first_s, note
        self._more = asyncio.Event()

    def wake(self) -> None:
        """Check the outbox for new events."""
        self._more.set()

    async def run(self) -> None:
        """Deliver until cancelled. The next run repeats an interrupted attempt under the same key."""
        async with httpx2.AsyncClient(follow_redirects=False) as http:
            while True:
                self._more.clear()
                if entry := self._state.next_entry(self.name):
                    await self._deliver(http, entry)
                else:
                    await self._more.wait()

    async def _deliver(self, http: httpx2.AsyncClient, entry: OutboxEntry) -> None:
        try:
            async with asyncio.timeout(self._action.timeout_s):
                await self._attempt(http, entry)
        except TimeoutError:
            problem = DeliveryError(f"no end within {self._action.timeout_s:g} s")
        except DeliveryError as error:
            problem = error
        else:
            self._state.remove(entry)
            return
        if problem.final or entry.attempts + 1 >= self._action.attempts:
            with suppress(DeliveryError):  # if the dead letters cannot be written, the event stays in the outbox
                self._give_up(entry, str(problem))
                return
        self._state.record_failure(entry)
        await asyncio.sleep(delay_s(entry.attempts, random(), problem.retry_after_s, self._first_s))

    async def _attempt(self, http: httpx2.AsyncClient, entry: OutboxEntry) -> None:
        if self._action.webhook:
            await self._post(http, self._action.webhook, entry)
        elif self._action.command:
            await self._run_command(self._action.command, entry)
        elif self._action.append:
            _append(Path(self._action.append), entry.body)

    async def _post(self, http: httpx2.AsyncClient, url: str, entry: OutboxEntry) -> None:
        now = int(time.time())
        headers = {
            "content-type": "application/json",
            "idempotency-key": entry.key,
            "webhook-id": entry.key,
            "webhook-timestamp": str(now),
        }
        if secret := self._action.secret:
            headers["webhook-signature"] = sign(secret, entry.key, now, entry.body)
        try:
            async with http.stream("POST", url, content=entry.body, headers=headers, timeout=None) as response:
                status, wait = response.status_code, response.headers.get("retry-after", "")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from None
        if not 200 <= status < 300:
            retried = status >= 500 or status in RETRIED_STATUS
            raise DeliveryError(f"HTTP {status}", final=not retried, retry_after_s=retry_after_s(wait, now))

    async def _run_command(self, argv: list[str], entry: OutboxEntry) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
            )
        except OSError as error:
            raise DeliveryError(f"cannot run {argv[0]}: {error.strerror}", final=True) from None
        try:
            await process.communicate(entry.body)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise DeliveryError(f"{argv[0]} ended with {process.returncode}")

    def _give_up(self, entry: OutboxEntry, reason: str) -> None:
        event = msgspec.Raw(entry.body)
        record = {
            "action": self.name,
            "key": entry.key,
            "attempts": entry.attempts + 1,
            "reason": reason,
            "event": event,
        }
        _append(self._dead_letters, msgspec.json.encode(record))
        self._note(f"{self.name} did not take an event ({reason}): it is kept in {self._dead_letters}")
        self._state.remove(entry)


async def drained(state: State, within_s: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """Wait at most ``within_s`` until the outbox is empty, and return whether it is."""
    until = clock() + within_s
    while state.waiting() and clock() < until:  # noqa: ASYNC110 - the database has no change notification
        await asyncio.sleep(0.05)
    return not state.waiting()


def retry_after_s(value: str, now: float) -> float:
    """Parse ``Retry-After``, seconds or a date; return 0 for anything else."""
    if value.strip().isdecimal():
        return float(value)
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    return 0.0


def _append(path: Path, line: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(line + b"\n")
    except OSError as error:
        raise DeliveryError(f"cannot write {path}: {error.strerror}") from None
