"""Whatever happens, in whatever order: every acknowledged sample and event is there once, and nothing else is."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from af3stream.journal import disk
from af3stream.journal.journal import Journal
from af3stream.journal.records import AudioInput, GapRecord, Record, encode
from tests.journal.scenes import Told, audio, config, event, facts, failing, joined

FAILURES = ("segment-create", "audio-write", "audio-written", "log-commit")


class Histories(RuleBasedStateMachine):
    """One session; commits happen when a rule says so, and a kill leaves the folder as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="journal-"))
        self.lives, self.now = 0, 0.0
        self.sent: list[AudioInput] = []  # appended, not known to be durable
        self.kept: list[AudioInput] = []  # acknowledged
        self.numbers = self.number = 0  # events appended, and acknowledged
        self.told = Told()
        self.live()
        self.journal.create(facts())

    def live(self) -> None:
        """A journal without a thread on the folder of this life."""
        self.journal = Journal(config(self.root / str(self.lives), segment_s=0.1))
        # it writes; only its thread is missing, so that a rule decides when
        self.journal._lock = disk.lock(self.root / str(self.lives) / "lock")
        self.journal._writes = True
        self.journal._store.tidy(now=0.0)
        self.store = self.journal._store

    @property
    def offset(self) -> int:
        last = [*self.kept, *self.sent][-1:]
        return last[0].end if last else 0

    @rule(frames=st.integers(1, 1_500), block=st.sampled_from([80, 160, 1_500]))
    def speak(self, frames: int, block: int) -> None:
        self.append(audio(self.offset, self.offset + frames, block=block))

    @rule(frames=st.integers(1, 2_000))
    def lose(self, frames: int) -> None:
        self.append([GapRecord(self.offset, frames)])

    @rule(count=st.integers(1, 3))
    def answer(self, count: int) -> None:
        self.append([event(self.numbers + n + 1) for n in range(count)])
        self.numbers += count

    @rule()
    def say_again(self) -> None:
        self.append([*self.kept[-3:], *self.sent], new=False)

    @rule(fails=st.none() | st.sampled_from(FAILURES))
    def commit(self, fails: str | None) -> None:
        self.now += 1.0
        if fails is None:
            self.store.commit(self.now)
        else:
            with failing(fails, OSError(errno.EIO, "failed")):
                self.store.commit(self.now)
        for commit in self.told.commits:
            while self.sent and self.sent[0].end <= commit.durable:
                self.kept.append(self.sent.pop(0))
            self.number = max(self.number, commit.event)
        assert fails or not self.sent, "a disk that works takes everything"
        self.told.commits.clear()

    @rule(steps=st.integers(1, 30))
    def seal(self, steps: int) -> None:
        for _ in range(steps):
            self.store.step(self.now)

    @rule(torn=st.integers(0, 3_000), power_cut=st.booleans())
    def kill(self, torn: int, power_cut: bool) -> None:
        """What was being written is there in part; after a power cut, the mark is not."""
        old, self.lives = self.root / str(self.lives), self.lives + 1
        shutil.copytree(old, self.root / str(self.lives))
        self.die()
        if power_cut:
            (self.root / str(self.lives) / "sessions/talk/mark").unlink()
        raw = sorted((self.root / str(self.lives) / "sessions/talk").glob("*.raw"))
        if raw and self.sent:
            opened = [path for path in raw if int(path.stem.split("-")[1]) <= (self.kept or self.sent)[-1].end]
            with opened[-1].open("ab") as file:
                file.write(b"".join(map(encode, self.sent))[:torn])
        self.live()
        self.come_back()

    @rule()
    def release(self) -> None:
        self.store.release("talk")
        self.come_back()

    @rule()
    def stop(self) -> None:
        self.store.commit(self.now + 1.0)
        self.die()
        self.live()
        self.come_back()

    def die(self) -> None:
        self.journal.stop()

    def come_back(self) -> None:
        """Resume from the durable mark; what is above it was sent, and is known to the client still."""
        recovered = self.journal.recover("talk")
        while self.sent and self.sent[0].end <= recovered.durable:
            self.kept.append(self.sent.pop(0))
        assert recovered.durable == (self.kept[-1].end if self.kept else 0)
        assert len(recovered.events) >= self.number
        self.number = self.numbers = len(recovered.events)
        self.told.commits.clear()
        self.sent.clear()

    def append(self, records: list[Record], new: bool = True) -> None:
        if new:
            self.sent += [record for record in records if isinstance(record, AudioInput)]
        self.store.append("talk", records, self.told)

    @invariant()
    def everything_acknowledged_is_there_once(self) -> None:
        recovered = self.journal.recover("talk")
        heard = list(recovered.audio)
        end = self.kept[-1].end if self.kept else 0
        assert recovered.durable == end
        assert joined(heard) == joined(self.kept)
        lost = [range(record.offset, record.end) for record in heard if isinstance(record, GapRecord)]
        assert sum(map(len, lost)) == sum(record.frames for record in self.kept if isinstance(record, GapRecord))
        assert recovered.events[: self.number] == [event(n + 1) for n in range(self.number)]

    def teardown(self) -> None:
        self.die()
        shutil.rmtree(self.root)


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
