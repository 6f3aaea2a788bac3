"""Choose the engine of a session. Pure: no clock, no socket, no Ray.

A session goes to the engine that has the fewest bytes of keys and values reserved, among those that have room for it.
It stays there (it is **sticky**): its caches are there, and a new engine moves no session. Only a session whose engine
is lost or draining is placed again.

Captions need no cache. If the cluster has engines with the role `captions`, jobs of captions go to one of them, and all
else to an engine with another role.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from af3stream.engine.jobs import CaptionJob, Job, ReviseJob, VoiceJob

Role = Literal["all", "answers", "captions"]


class Pool(Enum):
    """The engines that do one kind of work."""

    ANSWERS = "answers"  # everything that reads or writes a session's caches
    CAPTIONS = "captions"


ROLES: Final[
    dict[Pool, tuple[tuple[Role, ...], ...]]
] = {  # the roles that serve a pool; the first that any engine has is used
    Pool.ANSWERS: (("all", "answers"),),
    Pool.CAPTIONS: (("captions",), ("all", "answers")),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine, as far as placement knows it.

    Attributes:
        reserved_bytes: keys and values that its sessions have or are expected to have.
        limit_bytes: the most keys and values that it may have; 0: no limit.
        sessions: those that it has.
        draining: whether it is about to leave.
        overloaded: whether it has no time or no memory for another session.
    """

    name: str
    role: Role
    reserved_bytes: int = 0
    limit_bytes: int = 0
    sessions: int = 0
    draining: bool = False
    overloaded: bool = False

    def has_room(self, session_bytes: int) -> bool:
        """Return whether another session, of so many bytes of keys and values, fits."""
        fits = not self.limit_bytes or self.reserved_bytes + session_bytes <= self.limit_bytes
        return fits and not self.draining and not self.overloaded


def pool_of(job: Job) -> Pool:
    """Return which engines do a job."""
    return Pool.CAPTIONS if isinstance(job, CaptionJob | ReviseJob | VoiceJob) else Pool.ANSWERS


def members(engines: Collection[Candidate], pool: Pool) -> list[Candidate]:
    """Return the engines of a pool. While no captioner is left, the other engines caption."""
    for roles in ROLES[pool]:
        if found := [engine for engine in engines if engine.role in roles and not engine.draining]:
            return found
    return []


def place(
    engines: Collection[Candidate], pool: Pool, session_bytes: int = 0, sticky: str | None = None, *, must: bool = False
) -> str | None:
    """Return the engine that a session goes to, by name, or ``None`` if none takes it.

    Args:
        session_bytes: keys and values that the session is expected to need.
        sticky: the engine that has the session already. It keeps the session unless it is draining: a session that it
            has needs no more room.
        must: the session exists already, and its engine is gone: if no engine has room, the least loaded one takes it.
    """
    able = members(engines, pool)
    if any(engine.name == sticky for engine in able):
        return sticky
    roomy = [engine for engine in able if engine.has_room(session_bytes)]
    if must and not roomy:
        roomy = able
    best = min(roomy, key=lambda engine: (engine.reserved_bytes, engine.sessions, engine.name), default=None)
    return best.name if best else None
