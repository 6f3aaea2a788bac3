"""A model of leases and fences: every order of the steps of several owners, enumerated breadth first.

The model has one session, and the steps of `af3stream.journal.ownership` and `Store`: look for the newest lease, create
the next one, read the facts and files of the newest owner, continue in files of the own fence, check; then write, sync,
check, acknowledge. Writes arrive late. A sync may fail; the record is then cut off, and another is written instead. An
owner may take no step for as long as it likes, or for ever: that is a partition, or a crash.

A record is a file of audio of its own: it is the last one until it is acknowledged. An owner that continues refers to
all files before the last one, and copies the last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import NamedTuple, TypeVar

OWNERS = 3

Item = TypeVar("Item")
Record = tuple[int, int]  # who wrote it, and a number
Refs = tuple[tuple[int, int], ...]  # files of lower fences: a fence, and how many of its records count


class Phase(IntEnum):
    """What an owner did last."""

    AWAY = auto()
    LOOKED = auto()  # it knows the newest lease
    CLAIMED = auto()
    CHOSE = auto()  # it has read whose facts are the newest
    READ = auto()
    CONTINUED = auto()  # its facts count
    OPEN = auto()
    WRITTEN = auto()
    SYNCED = auto()
    CHECKED = auto()
    GONE = auto()  # crashed, or superseded


@dataclass(frozen=True)
class Rules:
    """What the protocol demands. A test takes one away, and sees that the model finds what breaks.

    Attributes:
        records: what each owner writes at most.
        failures: how many syncs fail, of all owners together.
    """

    records: int = 1
    failures: int = 1
    checks: bool = True  # before an acknowledgement, that no newer lease exists
    syncs_first: bool = True  # and checks then; otherwise the sync follows the check
    exclusive: bool = True  # a lease is created only if it does not exist
    claims_first: bool = True  # and reads then
    copies_last: bool = True  # a new owner copies the last file


class Owner(NamedTuple):
    """A server. ``refs`` and ``copy`` are what it has read; ``base`` is the fence whose facts it read."""

    phase: Phase = Phase.AWAY
    fence: int = 0
    base: int = 0
    refs: Refs = ()
    copy: tuple[Record, ...] = ()
    written: int = 0
    failures: int = 0


class World(NamedTuple):
    """The shared folder, the writes under way, and the owners.

    Attributes:
        leases: for each fence from 1 on, who created its lease.
        facts: what each fence refers to, by fence; ``None`` before it continued.
        files: the records in the files of each fence.
        writers: who has written the files of each fence.
        flight: a record of each fence that has not arrived yet.
        acknowledged: what was acknowledged, in order.
    """

    owners: tuple[Owner, ...] = (Owner(),) * OWNERS
    leases: tuple[int, ...] = ()
    facts: tuple[Refs | None, ...] = (None,) * OWNERS
    files: tuple[tuple[Record, ...], ...] = ((),) * OWNERS
    writers: tuple[frozenset[int], ...] = (frozenset(),) * OWNERS
    flight: tuple[Record | None, ...] = (None,) * OWNERS
    acknowledged: tuple[Record, ...] = ()

    @property
    def newest_facts(self) -> int:
        """The fence whose files count; 0 before the first."""
        return max((fence for fence, refs in enumerate(self.facts, start=1) if refs is not None), default=0)

    def view(self, fence: int) -> tuple[Record, ...]:
        """Everything that a reader finds in the files of a fence, and in those that it refers to."""
        if fence == 0:
            return ()
        refs = self.facts[fence - 1] or ()
        lower = [record for other, count in refs for record in self.files[other - 1][:count]]
        return (*lower, *self.files[fence - 1])


def put(items: tuple[Item, ...], index: int, item: Item) -> tuple[Item, ...]:
    """Return a copy with another item."""
    return (*items[:index], item, *items[index + 1 :])


def steps(world: World, rules: Rules) -> Iterator[tuple[str, World]]:
    """Yield every step that may come next, and the world after it."""
    for index, record in enumerate(world.flight):
        if record is not None:
            arrived = put(world.files, index, (*world.files[index], record))
            yield f"the write of {record} arrives", world._replace(files=arrived, flight=put(world.flight, index, None))
    for who, owner in enumerate(world.owners):
        if who and world.owners[who - 1] == Owner():
            break  # owners are alike: they begin in this order
        for label, after in of_owner(world, who, owner, rules):
            yield f"owner {who} {label}", after


def of_owner(world: World, who: int, owner: Owner, rules: Rules) -> Iterator[tuple[str, World]]:
    """Yield the next steps of one owner."""
    place = owner.fence - 1
    superseded = rules.checks and len(world.leases) > owner.fence
    match owner.phase:
        case Phase.AWAY if rules.claims_first:
            yield "looks for leases", becomes(world, who, phase=Phase.LOOKED, fence=len(world.leases) + 1)
        case Phase.AWAY:
            yield from reading(world, who, owner, rules, Phase.LOOKED, fence=len(world.leases) + 1)
        case Phase.LOOKED:
            yield from claiming(world, who, owner, rules)
        case Phase.CLAIMED:
            yield "reads the facts", becomes(world, who, phase=Phase.CHOSE, base=world.newest_facts)
        case Phase.CHOSE:
            yield from reading(world, who, owner, rules, Phase.READ)
        case Phase.READ:
            after = world._replace(
                facts=put(world.facts, place, owner.refs),
                files=put(world.files, place, owner.copy),
                writers=put(world.writers, place, world.writers[place] | {who}),
            )
            yield "continues", becomes(after, who, phase=Phase.CONTINUED)
        case Phase.CONTINUED:
            yield "checks its lease", becomes(world, who, phase=Phase.GONE if superseded else Phase.OPEN)
        case Phase.OPEN if owner.written < rules.records:
            after = world._replace(
                flight=put(world.flight, place, (who, owner.written + owner.failures)),
                writers=put(world.writers, place, world.writers[place] | {who}),
            )
            yield "writes", becomes(after, who, phase=Phase.WRITTEN, written=owner.written + 1)
        case Phase.WRITTEN if not rules.syncs_first:
            yield "checks its lease", becomes(world, who, phase=Phase.GONE if superseded else Phase.CHECKED)
        case Phase.WRITTEN | Phase.CHECKED:
            yield from syncing(world, who, owner, rules)
        case Phase.SYNCED if superseded and rules.syncs_first:
            yield "sees a newer lease", becomes(world, who, phase=Phase.GONE)
        case Phase.SYNCED:
            told = longest(world, world.view(owner.fence))
            yield "acknowledges", becomes(world._replace(acknowledged=told), who, phase=Phase.OPEN)


def claiming(world: World, who: int, owner: Owner, rules: Rules) -> Iterator[tuple[str, World]]:
    """Create a lease, or look again if it exists."""
    then = Phase.CLAIMED if rules.claims_first else Phase.READ
    exists = len(world.leases) >= owner.fence
    if exists and rules.exclusive:
        yield "finds that the lease exists", becomes(world, who, phase=Phase.AWAY)
    elif exists:
        yield "replaces the lease", becomes(world, who, phase=then)
    else:
        yield "creates the lease", becomes(world._replace(leases=(*world.leases, who)), who, phase=then)


def reading(
    world: World, who: int, owner: Owner, rules: Rules, then: Phase, **changes: int
) -> Iterator[tuple[str, World]]:
    """Read the files of the newest owner."""
    base = owner.base if rules.claims_first else world.newest_facts
    refs, copy = (), ()
    if base:
        records = world.files[base - 1]
        counted = len(records) - 1 if rules.copies_last and records else len(records)
        refs, copy = (*(world.facts[base - 1] or ()), (base, counted)), records[counted:]
    yield "reads the files", becomes(world, who, phase=then, refs=refs, copy=copy, **changes)


def syncing(world: World, who: int, owner: Owner, rules: Rules) -> Iterator[tuple[str, World]]:
    """Sync what was written; it may fail."""
    place = owner.fence - 1
    if world.flight[place] is None:
        yield "syncs", becomes(world, who, phase=Phase.SYNCED)
    if sum(other.failures for other in world.owners) < rules.failures:
        mine = (who, owner.written - 1 + owner.failures)
        kept = tuple(record for record in world.files[place] if record != mine)
        after = world._replace(files=put(world.files, place, kept), flight=put(world.flight, place, None))
        failures = owner.failures + 1
        yield "cannot sync", becomes(after, who, phase=Phase.OPEN, written=owner.written - 1, failures=failures)


def longest(world: World, told: tuple[Record, ...]) -> tuple[Record, ...]:
    """What was acknowledged in all: a client never forgets."""
    return told if len(told) > len(world.acknowledged) else world.acknowledged


def becomes(world: World, who: int, **changes: object) -> World:
    """Return the world with a changed owner."""
    return world._replace(owners=put(world.owners, who, world.owners[who]._replace(**changes)))  # type: ignore[arg-type]


def everything_acknowledged_is_seen(world: World) -> bool:
    """Whatever was acknowledged, a reader finds, and a later owner continues from."""
    acknowledged = world.acknowledged
    return world.view(world.newest_facts)[: len(acknowledged)] == acknowledged


def no_two_owners_write_one_file(world: World) -> bool:
    """Each fence has one writer."""
    return all(len(writers) <= 1 for writers in world.writers)


INVARIANTS: tuple[Callable[[World], bool], ...] = (everything_acknowledged_is_seen, no_two_owners_write_one_file)


@dataclass(frozen=True)
class Outcome:
    """What an enumeration found.

    Attributes:
        states: how many worlds were reached.
        broken: name of the first invariant that does not hold, or empty.
        path: the shortest history that breaks it.
    """

    states: int
    broken: str = ""
    path: tuple[str, ...] = ()


def enumerate_states(rules: Rules) -> Outcome:
    """Visit every world that any order of steps reaches, and check all invariants in each."""
    first = World()
    before: dict[World, tuple[World, str] | None] = {first: None}
    waiting = deque([first])
    while waiting:
        world = waiting.popleft()
        for label, after in steps(world, rules):
            if after in before:
                continue
            before[after] = (world, label)
            for holds in INVARIANTS:
                if not holds(after):
                    return Outcome(len(before), holds.__name__, history(before, after))
            waiting.append(after)
    return Outcome(len(before))


def history(before: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    """Return the steps that led to a world."""
    path = []
    while (last := before[world]) is not None:
        world, label = last
        path.append(label)
    return tuple(reversed(path))
