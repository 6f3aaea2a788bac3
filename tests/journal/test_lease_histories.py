"""Whatever several owners do to a session, in whatever order: what one acknowledged, every later one and a reader see.
No two of them write one file.

The owners are journals on real files, without threads. One may be interrupted at a labelled point of a commit or a
takeover, and another acts meanwhile. Every record and event is different, so a mixture of two owners is noticed.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from af3stream.errors import Superseded
from af3stream.journal.facts import Commit
from af3stream.journal.faults import hooked
from af3stream.journal.journal import Journal
from af3stream.journal.ownership import ABANDONED_S
from af3stream.journal.records import AudioRecord, EventRecord, Record, encode
from tests.journal.scenes import config, facts, failing

OWNERS = 3
FRAMES = 80  # of a record
SEGMENT_S = 3 * FRAMES / 8_000
MEMORY = Path("/dev/shm")

OF_COMMITS = (
    "segment-created",
    "audio-write",
    "audio-written",
    "audio-synced",
    "log-commit",
    "events-committed",
    "tell",
)
OF_TAKEOVERS = ("lease-claimed", "takeover-written", "takeover-done")
FAILURES = ("segment-create", "audio-write", "audio-written", "log-commit", "lease-checked")

owners = st.integers(0, OWNERS - 1)


@dataclass(eq=False)
class Owner:
    """A server, as far as it knows.

    Attributes:
        open: whether it has the session open, and does not know of another owner.
        sent, events: what it appended and was not told to be durable.
        end, number: the first frame and the newest event after all that it appended.
    """

    journal: Journal
    open: bool = False
    sent: list[bytes] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    durable: int = 0
    event: int = 0

    def told(self, commit: Commit) -> None:
        self.commits.append(commit)

    @property
    def end(self) -> int:
        return self.durable + len(self.sent)

    @property
    def number(self) -> int:
        return self.event + len(self.events)


class Histories(RuleBasedStateMachine):
    """One session.

    Attributes:
        audio, events, token: what was acknowledged, by whichever owner.
        current: who took the session last and continued; nobody between the claim of a lease and the first read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="leases-", dir=MEMORY if MEMORY.is_dir() else None))
        self.now, self.serial = 1e9, 0
        self.audio: list[bytes] = []
        self.events: list[bytes] = []
        self.token = b""
        self.writers: dict[str, Journal] = {}
        self.acting: list[Journal] = []
        self.watching = watching(self.opened)
        self.owners = [Owner(self.start()) for _ in range(OWNERS)]
        self.current: Owner | None = self.owners[0]
        with self.by(self.owners[0]):
            self.owners[0].journal.create(facts())
        self.owners[0].open = True

    def start(self) -> Journal:
        """A server without a thread."""
        journal = Journal(config(self.root, segment_s=SEGMENT_S, shared=True), clock=lambda: self.now)
        journal._share()
        journal._writes = True
        return journal

    @contextmanager
    def by(self, owner: Owner) -> Iterator[None]:
        """This owner acts within the context."""
        self.acting.append(owner.journal)
        yield
        self.acting.pop()

    def opened(self, path: str, writes: bool) -> None:
        """Remember who opens which file to write."""
        if writes and self.acting and "sessions/talk/" in path and path.startswith(str(self.root)):
            assert self.writers.setdefault(path, self.acting[-1]) is self.acting[-1], f"two owners write {path}"

    def unique(self) -> int:
        self.serial += 1
        return self.serial

    # ---- what owners do ----------------------------------------------------------------------------------------------

    @rule(who=owners, records=st.integers(0, 4), events=st.integers(0, 2))
    def speak(self, who: int, records: int, events: int) -> None:
        self.append(self.owners[who], records, events)

    @rule(
        who=owners,
        point=st.none() | st.sampled_from(OF_COMMITS),
        other=owners,
        goes_on=st.booleans(),
        fails=st.none() | st.sampled_from(FAILURES),
    )
    def commit(self, who: int, point: str | None, other: int, goes_on: bool, fails: str | None) -> None:
        def interruption() -> None:
            self.take_over(self.owners[other])
            if goes_on:
                self.append(self.owners[other], 2, 1)
                self.write(self.owners[other])

        with ExitStack() as stack:
            if point and who != other:
                stack.enter_context(interrupted(point, interruption))
            elif fails:
                stack.enter_context(failing(fails, OSError(errno.EIO, "failed")))
            self.write(self.owners[who])

    @rule(who=owners, point=st.none() | st.sampled_from(OF_TAKEOVERS), other=owners, takes=st.booleans())
    def take(self, who: int, point: str | None, other: int, takes: bool) -> None:
        def interruption() -> None:
            if takes:
                self.take_over(self.owners[other])
            self.append(self.owners[other], 2, 1)
            self.write(self.owners[other])

        with ExitStack() as stack:
            if point and who != other:
                stack.enter_context(interrupted(point, interruption))
            self.take_over(self.owners[who])

    @rule(who=owners, other=owners, check=st.integers(0, 4))
    def set_token(self, who: int, other: int, check: int) -> None:
        """Another owner may take the session after one of the checks."""
        owner, token = self.owners[who], b"%d" % self.unique()
        with ExitStack() as stack:
            if check and who != other:
                take = partial(self.take_over, self.owners[other])
                stack.enter_context(interrupted("lease-checked", take, check))
            stack.enter_context(self.by(owner))
            try:
                owner.journal.set_token("talk", token, 3e9)
            except Superseded:
                assert owner is not self.current or not owner.open
            else:
                self.token = token  # whoever has the session by now must have it

    @rule(who=owners, steps=st.integers(1, 40))
    def seal(self, who: int, steps: int) -> None:
        with self.by(self.owners[who]):
            for _ in range(steps):
                self.owners[who].journal._store.step(self.now)

    @rule(who=owners)
    def release(self, who: int) -> None:
        with self.by(self.owners[who]):
            self.owners[who].journal.release("talk")
        self.owners[who].open = False

    @rule(who=owners)
    def renew(self, who: int) -> None:
        owner = self.owners[who]
        with self.by(owner):
            lost = owner.journal.renew()
        assert owner is not self.current or not lost
        owner.open = owner.open and not lost

    @rule(who=owners, late=st.integers(0, 3), torn=st.integers(0, 500))
    def crash(self, who: int, late: int, torn: int) -> None:
        """What it was writing arrives, in part, after others may have continued."""
        owner = self.owners[who]
        if opened := owner.journal._store._open.get("talk"):
            log = opened.log
            if log._raw and owner.sent:
                records = [self.record(owner.durable + n, pcm) for n, pcm in enumerate(owner.sent)]
                with log._raw.path.open("ab") as file:
                    file.write(b"".join(map(encode, records[:late])))
                    file.write(b"".join(map(encode, records[late:]))[:torn])
            log.close()
        owner.journal._store._open.clear()
        self.owners[who] = Owner(self.start())

    @rule(who=owners, later=st.sampled_from([0.0, 2 * ABANDONED_S]))
    def tidy(self, who: int, later: float) -> None:
        """Another server starts, or sweeps; it deletes nothing that is in use."""
        self.now += later
        with self.by(self.owners[who]):
            self.owners[who].journal._store.tidy(self.now)
            assert self.owners[who].journal.sweep(self.now) == []

    # ---- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def a_reader_finds_what_was_acknowledged(self) -> None:
        reader = Journal(config(self.root))
        audio, events = self.found(reader)
        assert audio[: len(self.audio)] == self.audio
        assert events[: len(self.events)] == self.events
        assert audio[len(self.audio) :] in prefixes(self.current.sent if self.current else [])
        assert events[len(self.events) :] in prefixes(self.current.events if self.current else [])
        assert not self.token or reader.session_of_token(self.token, "talk") == "talk"
        reader.stop()

    def teardown(self) -> None:
        for owner in self.owners:
            with self.by(owner):
                owner.journal.stop()
        self.watching.close()
        shutil.rmtree(self.root)

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def append(self, owner: Owner, records: int, events: int) -> None:
        if not owner.open:
            return
        new: list[Record] = []
        for _ in range(records):
            pcm = struct.pack("<h", self.unique() % 30_000) * FRAMES
            new.append(self.record(owner.end, pcm))
            owner.sent.append(pcm)
        for _ in range(events):
            message = b'{"type":"answer","id":"%d"}' % self.unique()
            new.append(EventRecord(owner.number + 1, message))
            owner.events.append(message)
        owner.journal._store.append("talk", new, owner.told)

    @staticmethod
    def record(index: int, pcm: bytes) -> AudioRecord:
        return AudioRecord(index * FRAMES, pcm, FRAMES)

    def write(self, owner: Owner) -> None:
        """Commit, and believe what is told."""
        self.now += 2.0
        owner.commits.clear()
        with self.by(owner):
            owner.journal._store.commit(self.now)
        for commit in owner.commits:
            self.acknowledged(owner, commit)
            if commit.superseded:
                assert owner is not self.current
                owner.open = False

    def acknowledged(self, owner: Owner, commit: Commit) -> None:
        while owner.sent and owner.durable < commit.durable // FRAMES:
            agree(self.audio, owner.durable, owner.sent.pop(0), owner is self.current)
            owner.durable += 1
        while owner.events and owner.event < commit.event:
            agree(self.events, owner.event, owner.events.pop(0), owner is self.current)
            owner.event += 1

    def take_over(self, owner: Owner) -> None:
        """Take the session, and continue from what is found; the client is told of it."""
        journal = owner.journal
        if owner is self.current and owner.open:
            return
        self.current = None
        try:
            with self.by(owner):
                journal.take("talk")
                recovered = journal.recover("talk")
        except Superseded:
            owner.open = False
            return
        audio, events = blocks(b"".join(record.pcm for record in recovered.audio)), recovered.events  # type: ignore[union-attr]
        assert recovered.durable == len(audio) * FRAMES
        assert audio[: len(self.audio)] == self.audio
        self.audio, self.events = audio, with_prefix([event.message for event in events], self.events)
        owner.open, owner.sent, owner.events = True, [], []
        owner.durable, owner.event = len(self.audio), len(self.events)
        self.current = owner

    def found(self, journal: Journal) -> tuple[list[bytes], list[bytes]]:
        recovered = journal.recover("talk")
        audio = blocks(b"".join(record.pcm for record in recovered.audio))  # type: ignore[union-attr]
        return audio, [event.message for event in recovered.events]


def blocks(pcm: bytes) -> list[bytes]:
    return [pcm[at : at + 2 * FRAMES] for at in range(0, len(pcm), 2 * FRAMES)]


def prefixes(items: list[bytes]) -> list[list[bytes]]:
    return [items[:n] for n in range(len(items) + 1)]


def with_prefix(found: list[bytes], known: list[bytes]) -> list[bytes]:
    assert found[: len(known)] == known
    return found


def agree(known: list[bytes], index: int, item: bytes, current: bool) -> None:
    """An acknowledged item is known, or comes from the newest owner."""
    if index < len(known):
        assert known[index] == item
        return
    assert current and index == len(known), "an old owner acknowledges"
    known.append(item)


@contextmanager
def interrupted(point: str, interruption: Callable[[], None], passes: int = 1) -> Iterator[None]:
    """Interrupt once, when a point is passed for so many times."""
    left = [passes]

    def hook(passed: str) -> None:
        left[0] -= passed == point
        if left[0] == 0:
            left[0] = -1
            interruption()

    with hooked(hook):
        yield


def watching(opened: Callable[[str, bool], None]) -> ExitStack:
    """Be told of every file that is opened, or gets its name."""
    really_open, really_replace = os.open, os.replace

    def open_file(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        opened(str(path), bool(flags & (os.O_WRONLY | os.O_RDWR)))
        return really_open(path, flags, *rest, **named)

    def replace(old: Any, new: Any) -> None:
        opened(str(new), True)
        really_replace(old, new)

    stack = ExitStack()
    stack.enter_context(patch.object(os, "open", open_file))
    stack.enter_context(patch.object(os, "replace", replace))
    return stack


FEW = settings(max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestHistories = Histories.TestCase
TestHistories.settings = FEW


def test_without_the_check_a_history_loses_what_was_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "af3stream.journal.store.Store._may_acknowledge", lambda store, opened: opened.acknowledge() or True
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            Histories, settings=settings(FEW, derandomize=True, phases=[Phase.generate], max_examples=200)
        )
