"""Run the jobs of a gateway's sessions on the engines of a cluster, and move sessions whose engine is lost.

`ClusterJobs` keeps every job until its last result has come. So if an engine is lost, it submits the jobs again to
another one, in order. What was told of an answer is not told again, and the rest of the answer reads the same parts.

The KV prefix is lost with its engine. It is built again from the session's last `ExtendJob`. The session's questions
and its later extensions wait for that; all other jobs do not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final, Protocol

from af3stream.cluster.hosted_session import HostedSession, Pending
from af3stream.cluster.members import Link, Member
from af3stream.cluster.placement import Candidate, Pool, Role, place, pool_of
from af3stream.cluster.wire import EngineLoad
from af3stream.engine.contract import AudioSegment, AudioSource, Completion
from af3stream.engine.engine_core import Resident
from af3stream.engine.jobs import AnswerJob, ExtendJob, Failed, Job, PrefixLost, Result
from af3stream.engine.request import Report
from af3stream.metrics import Reason

log = logging.getLogger(__name__)

NO_ENGINE: Final = "no engine is there"
NO_ROOM: Final = "no engine has room for another session"


class Listener(Protocol):
    """Is told what happens to sessions."""

    def placed(self, session: str, fence: int, engine: str, reason: Reason) -> None:
        """A session is at an engine from now on; ``fence``: of its lease, 0 if it has none."""

    def superseded(self, session: str) -> None:
        """Another gateway has taken a session."""


class ClusterJobs:
    """Takes the jobs of a gateway's sessions. It implements `af3stream.server.session_runner.Jobs`.

    If no engine is there, jobs wait. They are bounded, because a client may send only so much audio that is not
    captioned. A question waits for ``wait_s`` and then fails.

    All methods are called on one thread.

    Args:
        listener: told what happens to sessions.
        wait_s: how long a question waits for an engine, in seconds.

    Attributes:
        due_s: seconds that the devices have worked for this gateway's sessions, without interim captions. Sessions of
            one engine count equally.
    """

    def __init__(self, listener: Listener, wait_s: float) -> None:
        self._listener = listener
        self._wait_s = wait_s
        self._most_sessions = inf
        self._members: dict[str, Member] = {}
        self._sessions: dict[str, HostedSession] = {}
        self._expected: dict[str, tuple[int, str]] = {}
        self._hands_over = False
        self.due_s = 0.0

    # ---- engines -----------------------------------------------------------------------------------------------------

    def add(self, name: str, role: Role, link: Link, lost: Callable[[], None] | None = None) -> None:
        """Use an engine. Sessions that wait for one are placed.

        Args:
            lost: called once the engine is lost, and its sessions are placed anew.
        """
        if earlier := self._members.get(name):  # it has started again, and its link is not given up yet
            self._lost(earlier, None)
        member = self._members[name] = Member(name, role, link, link.load, due_s=link.load.due_s)
        link.on_superseded(self._superseded)
        link.on_lost(partial(self._lost, member, lost))
        self._place_waiting()

    @property
    def engines(self) -> dict[str, EngineLoad]:
        """The load of every engine, by its name."""
        return {name: member.load() for name, member in self._members.items()}

    def sessions_at(self, name: str) -> int:
        """Return how many sessions of this gateway an engine has."""
        return sum(any(member.name == name for member in hosted.engines.values()) for hosted in self._sessions.values())

    def refusal(self) -> str | None:
        """Return why no new session can be placed, or ``None``."""
        if not self._members:
            return NO_ENGINE
        return None if place(self._candidates(), Pool.ANSWERS, self._session_bytes) else NO_ROOM

    def check(self, now: float, most_sessions: float = inf) -> None:
        """Move sessions away from engines that drain, and fail questions that wait too long. Called periodically.

        Args:
            most_sessions: how many sessions an engine has time for.
        """
        self._most_sessions = most_sessions
        for member in self._members.values():
            load = member.load()
            if load.sessions:
                self.due_s += (load.due_s - member.due_s) * min(1.0, self.sessions_at(member.name) / load.sessions)
            member.due_s = load.due_s
        self._place_waiting()
        for member in [member for member in self._members.values() if member.load().draining]:
            for hosted in self._at(member):
                if all(place(self._candidates(), pool, must=True) for pool in hosted.engines):
                    self._leave(hosted, member, "drain")
                    member.link.close(hosted.id)
                    self._seat(hosted)
        for hosted in self._sessions.values():
            self._give_up(hosted, now)

    def _lost(self, member: Member, tell: Callable[[], None] | None) -> None:
        """Place the sessions of an engine anew that cannot be reached any more."""
        if self._members.get(member.name) is member:  # else it has started again
            del self._members[member.name]
            moved = self._at(member)
            log.warning("an engine is lost: engine=%s sessions=%d", member.name, len(moved))
            for hosted in moved:
                self._leave(hosted, member, "failover")
            for hosted in moved:
                self._seat(hosted)
        if tell:
            tell()

    def _superseded(self, session: str) -> None:
        if session in self._sessions:
            self._listener.superseded(session)

    def _at(self, member: Member) -> list[HostedSession]:
        """Return the sessions of an engine, the most urgent first."""
        found = [hosted for hosted in self._sessions.values() if member in hosted.engines.values()]
        return sorted(found, key=lambda hosted: hosted.rank)

    # ---- sessions ----------------------------------------------------------------------------------------------------

    def expect(self, session: str, fence: int, engine: str) -> None:
        """Take the news of a session that is opened next: the fence of its lease, and the engine that had it."""
        self._expected[session] = fence, engine

    def open(self, session: str, source: AudioSource, resident: Resident) -> None:
        """Place a session."""
        fence, engine = self._expected.pop(session, (0, ""))
        hosted = self._sessions[session] = HostedSession(session, source, resident, fence, engine)
        self._seat(hosted)

    def submit(self, session: str, job: Job, report: Report) -> None:
        """Queue a job; ``report`` is called with its results in order, the last time with ``done``."""
        hosted = self._sessions[session]
        pending = hosted.pending[job.id] = Pending(job, report)
        self._send(hosted, pending)

    def cancel(self, session: str, job: int) -> None:
        """Drop the job with this id."""
        pending = self._sessions[session].pending.pop(job, None)
        if pending and pending.at and pending.sent:
            pending.at.link.cancel(session, pending.sent.id)

    def attach(self, session: str) -> None:
        """Run the jobs of a session in their turn. A session that is closed is left as it is."""
        if hosted := self._sessions.get(session):
            hosted.attached = True
            for member in set(hosted.engines.values()):
                member.link.attach(session)

    def detach(self, session: str) -> None:
        """Run the jobs of a session only when no other session has work. A session that is closed is left as it is."""
        if hosted := self._sessions.get(session):
            hosted.attached = False
            for member in set(hosted.engines.values()):
                member.link.detach(session)

    def hand_over(self) -> None:
        """Leave the caches of sessions that are closed from now on: another gateway goes on with them."""
        self._hands_over = True

    def close(self, session: str) -> None:
        """Drop the session's jobs, and its caches unless another gateway goes on with it."""
        hosted = self._sessions.pop(session)
        if self._hands_over:
            return
        for member in set(hosted.engines.values()):
            member.link.close(session)

    # ---- placement ---------------------------------------------------------------------------------------------------

    @property
    def _session_bytes(self) -> int:
        """Keys and values that a session has, on average."""
        loads = self.engines.values()
        return sum(load.kv_bytes for load in loads) // max(1, sum(load.sessions for load in loads))

    def _candidates(self) -> list[Candidate]:
        expected = self._session_bytes
        return [member.candidate(expected, self._most_sessions) for member in self._members.values()]

    def _place_waiting(self) -> None:
        waiting = [hosted for hosted in self._sessions.values() if len(hosted.engines) < len(Pool)]
        for hosted in sorted(waiting, key=lambda hosted: hosted.rank):
            self._seat(hosted)

    def _seat(self, hosted: HostedSession) -> None:
        """Find a session the engines that it lacks, and give them its jobs."""
        for pool in Pool:
            if pool not in hosted.engines:
                self._choose(hosted, pool)
        if hosted.restoring:
            self._send(hosted, hosted.restoring)
        self._send_waiting(hosted)

    def _choose(self, hosted: HostedSession, pool: Pool) -> None:
        """Place one kind of a session's jobs."""
        answers = hosted.engines.get(Pool.ANSWERS)
        sticky = answers.name if answers else hosted.engine
        name = place(self._candidates(), pool, self._session_bytes, sticky, must=True)
        if name is None:
            return
        member = self._members[name]
        new = member not in hosted.engines.values()
        hosted.engines[pool] = member
        if pool is Pool.ANSWERS:
            hosted.engine = name
            self._listener.placed(hosted.id, hosted.fence, name, hosted.reason)
        if new:
            member.placed += 1
            member.link.open(hosted.id, hosted.source, partial(self._resident, hosted, member), hosted.fence)
            if not hosted.attached:
                member.link.detach(hosted.id)

    def _leave(self, hosted: HostedSession, member: Member, reason: Reason) -> None:
        """Take a session, and its jobs, from an engine."""
        hosted.reason = reason
        if hosted.engines.get(Pool.ANSWERS) is member:
            hosted.resident(frozenset())
            if hosted.extended:
                extended = hosted.extended
                again = ExtendJob(extended.parts, rebuild=False, keep_from=extended.keep_from, urgent=hosted.asks)
                hosted.restoring = Pending(again, partial(self._restored, hosted))
        hosted.engines = {pool: other for pool, other in hosted.engines.items() if other is not member}
        for pending in hosted.pending.values():
            if pending.at is member:
                pending.at = pending.sent = None

    def _resident(self, hosted: HostedSession, member: Member, windows: frozenset[AudioSegment]) -> None:
        if hosted.engines.get(Pool.ANSWERS) is member:
            hosted.resident(windows)

    # ---- jobs --------------------------------------------------------------------------------------------------------

    def _send_waiting(self, hosted: HostedSession) -> None:
        for pending in list(hosted.pending.values()):
            self._send(hosted, pending)

    def _send(self, hosted: HostedSession, pending: Pending) -> None:
        """Give a job to its engine, if it is there, and no KV prefix must be built before."""
        member = hosted.engines.get(pool_of(pending.job))
        held = hosted.restoring not in (None, pending) and isinstance(pending.job, ExtendJob | AnswerJob)
        if member is None or pending.at or held:
            return
        if pending.completed:
            self._end(hosted, pending, None)
            return
        pending.at, pending.sent, pending.waits_from = member, pending.resumed(), None
        member.link.submit(hosted.id, pending.sent, partial(self._reported, hosted, pending, member))

    def _reported(
        self, hosted: HostedSession, pending: Pending, member: Member, _: Job, result: Result, done: bool
    ) -> None:
        """Take a result from an engine, unless the job has left it."""
        if pending.at is not member or pending not in (hosted.pending.get(pending.job.id), hosted.restoring):
            return
        if isinstance(result, PrefixLost):
            pending.prefix_lost = True
        if isinstance(result, Completion):
            pending.completed = True
        if isinstance(result, str):
            result = pending.untold(result)
        if done:
            self._end(hosted, pending, result)
        elif result:
            pending.report(pending.job, result, False)

    def _end(self, hosted: HostedSession, pending: Pending, result: Result) -> None:
        """Forget a job, and report its last result."""
        hosted.pending.pop(pending.job.id, None)
        if isinstance(pending.job, ExtendJob) and not isinstance(result, Failed):
            hosted.extended = pending.job
        pending.report(pending.job, result, True)

    def _restored(self, hosted: HostedSession, _job: Job, result: Result, done: bool) -> None:
        """Go on with the jobs that need the KV prefix. If it could not be built, questions find that out."""
        if done:
            hosted.restoring = None
            self._send_waiting(hosted)

    def _give_up(self, hosted: HostedSession, now: float) -> None:
        """Fail the questions that have waited too long for an engine."""
        if Pool.ANSWERS in hosted.engines:
            return
        for pending in [each for each in hosted.pending.values() if isinstance(each.job, AnswerJob)]:
            pending.waits_from = now if pending.waits_from is None else pending.waits_from
            if now - pending.waits_from > self._wait_s:
                self._end(hosted, pending, Failed(NO_ENGINE, timed_out=True))
