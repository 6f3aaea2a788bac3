"""Run the jobs of a gateway's sessions on the engines of a cluster, and move sessions whose engine is lost.

`ClusterJobs` keeps every job until its last result has come. So if an engine is lost, it submits the jobs again to
another one, in order. What was told of an answer is not told again, and the rest of the answer reads the same parts.

The KV prefix is lost with its engine. It is built again from the session's last `ExtendJob`. Later extensions wait for
that. So do questions that read the prefix, but not for long: then they are answered over captions. An answer that has
begun goes on over the same parts. No other job waits.

A link has room for so much data. So the jobs of a long backlog are sent in order, as room comes. Questions go first.
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

FULL: Final = 1 / 32  # of a link's queue: then jobs wait, so that a question behind them is soon sent,
FULL_FOR_QUESTIONS: Final = 1 / 2  # and then questions wait, too


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
        rebuild_wait_s: how long a question waits for the KV prefix at a new engine, in seconds.

    Attributes:
        due_s: seconds that the devices have worked for this gateway's sessions, without interim captions. Sessions of
            one engine count equally.
    """

    def __init__(self, listener: Listener, wait_s: float, rebuild_wait_s: float = 2.0) -> None:
        self._listener = listener
        self._wait_s = wait_s
        self._rebuild_wait_s = rebuild_wait_s
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
        link.on_emptied(partial(self._send_more, member))
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
        """Move sessions away from engines that drain, and let no question wait too long. Called periodically.

        A session with a question is moved once it is answered, or its engine is lost.

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
                if not hosted.asks and all(place(self._candidates(), pool, must=True) for pool in hosted.engines):
                    self._leave(hosted, member, "drain")
                    member.link.close(hosted.id)
                    self._seat(hosted)
        for hosted in self._sessions.values():
            self._give_up(hosted, now)
            self._release(hosted, now)

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
        if isinstance(job, AnswerJob) and pending.needs_prefix and hosted.restoring and not _urgent(hosted.restoring):
            self._restore(hosted)
        self._send(hosted, pending)

    def cancel(self, session: str, job: int) -> None:
        """Drop the job with this id."""
        if pending := self._sessions[session].pending.pop(job, None):
            self._take_back(session, pending)

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
        for member in set(hosted.engines.values()):
            member.behind.discard(session)
            if not self._hands_over:
                member.link.close(session)

    # ---- placement ---------------------------------------------------------------------------------------------------

    @property
    def _session_bytes(self) -> int:
        """Keys and values that a session is expected to need: what those that have some have, on average."""
        loads = self.engines.values()
        return sum(load.kv_bytes for load in loads) // max(1, sum(load.kv_sessions for load in loads))

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
        answered = hosted.engines.get(Pool.ANSWERS) is member
        member.behind.discard(hosted.id)
        hosted.engines = {pool: other for pool, other in hosted.engines.items() if other is not member}
        for pending in [*hosted.pending.values(), *filter(None, [hosted.restoring])]:
            if pending.at is member:
                pending.at = pending.sent = None
        if answered:
            hosted.resident(frozenset())
            self._restore(hosted)

    def _resident(self, hosted: HostedSession, member: Member, windows: frozenset[AudioSegment]) -> None:
        if hosted.engines.get(Pool.ANSWERS) is member:
            hosted.resident(windows)

    # ---- jobs --------------------------------------------------------------------------------------------------------

    def _send_waiting(self, hosted: HostedSession) -> None:
        if hosted.restoring:
            self._send(hosted, hosted.restoring)
        for pending in list(hosted.pending.values()):
            self._send(hosted, pending)

    def _send_more(self, member: Member) -> None:
        """Send the jobs that wait for room on a link, as far as there is some."""
        if not member.behind:
            return
        for hosted in self._at(member):
            if hosted.id in member.behind and member.link.fullness < FULL:
                member.behind.discard(hosted.id)
                self._send_waiting(hosted)

    def _send(self, hosted: HostedSession, pending: Pending) -> None:
        """Give a job to its engine, if it is there, its link has room, and no KV prefix must be built before."""
        member = hosted.engines.get(pool_of(pending.job))
        held = hosted.restoring not in (None, pending) and pending.needs_prefix
        if member is None or pending.at or held:
            return
        if pending.completed:
            self._end(hosted, pending, None)
            return
        if not self._has_room(hosted, pending, member):
            member.behind.add(hosted.id)
            return
        pending.at, pending.sent = member, pending.resumed()
        member.link.submit(hosted.id, pending.sent, partial(self._reported, hosted, pending, member))

    def _reported(
        self, hosted: HostedSession, pending: Pending, member: Member, _: Job, result: Result, done: bool
    ) -> None:
        """Take a result from an engine, unless the job has left it."""
        if pending.at is not member or pending not in (hosted.pending.get(pending.job.id), hosted.restoring):
            return
        pending.waits_from = None
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

    def _has_room(self, hosted: HostedSession, pending: Pending, member: Member) -> bool:
        """Return whether a job can be sent. A session's jobs stay in order, except that questions go first."""
        if isinstance(pending.job, AnswerJob) or pending is hosted.restoring:
            return member.link.fullness < FULL_FOR_QUESTIONS
        return hosted.id not in member.behind and member.link.fullness < FULL

    def _take_back(self, session: str, pending: Pending) -> None:
        """Have the engine that has a job drop it."""
        if pending.at and pending.sent:
            pending.at.link.cancel(session, pending.sent.id)

    def _restore(self, hosted: HostedSession) -> None:
        """Begin to build the KV prefix again, urgently if a question waits."""
        if hosted.restoring:
            self._take_back(hosted.id, hosted.restoring)
        if hosted.extended:
            parts, keep_from = hosted.extended.parts, hosted.extended.keep_from
            again = ExtendJob(parts, rebuild=False, keep_from=keep_from, urgent=hosted.asks)
            hosted.restoring = Pending(again, partial(self._restored, hosted))
            self._send(hosted, hosted.restoring)

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

    def _release(self, hosted: HostedSession, now: float) -> None:
        """Give up the KV prefix if a question has waited too long for it: the engine then answers over captions.

        An answer that has begun waits: the rest of it is about the same parts.
        """
        if not hosted.restoring or Pool.ANSWERS not in hosted.engines:
            return
        waited = [
            now - pending.held_since(now)
            for pending in hosted.pending.values()
            if isinstance(pending.job, AnswerJob) and pending.needs_prefix and not (pending.at or pending.told)
        ]
        if max(waited, default=-1.0) >= self._rebuild_wait_s:
            self._take_back(hosted.id, hosted.restoring)
            hosted.restoring = hosted.extended = None
            self._send_waiting(hosted)


def _urgent(pending: Pending) -> bool:
    return isinstance(pending.job, ExtendJob) and pending.job.urgent
