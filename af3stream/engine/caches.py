"""Admit requests whose memory fits: keys and values in one budget, embeddings in another. Pure: no clock, no device."""

from __future__ import annotations

from collections.abc import Callable

from af3stream.engine.contract import Prefix
from af3stream.engine.embedding_cache import EmbeddingCache
from af3stream.engine.jobs import AnswerJob, ExtendJob, Job
from af3stream.engine.kv_cache_manager import KVCacheManager
from af3stream.engine.request import Request, segments_in, segments_of


class Caches:
    """The KV prefixes and the embeddings of all sessions.

    A request names what it may read from `add` to `finish`, and has its memory reserved from `admit` to `release`.

    Attributes:
        kv: of keys and values.
        embeddings: of windows.

    Args:
        kv_apart: the bytes of keys and values that a job takes beside its session's prefix.
    """

    def __init__(self, kv: KVCacheManager, embeddings: EmbeddingCache, kv_apart: Callable[[Job], int]) -> None:
        self.kv = kv
        self.embeddings = embeddings
        self._kv_apart = kv_apart

    def add(self, request: Request, now: float) -> None:
        """Note a new request."""
        self.kv.touch(request.session, now)
        self.embeddings.touch(request.session, now)
        self.embeddings.retain(request.session, request.job.id, segments_of(request.job))

    def admit(self, request: Request, prefix_of: Callable[[str], Prefix], now: float) -> bool:
        """Reserve the memory of a request that does not run; false if it must wait for running ones.

        Args:
            prefix_of: returns a session's KV prefix.

        Raises:
            BudgetExceeded: if it does not fit a budget alone.
        """
        session, job = request.session, request.job
        if isinstance(job, ExtendJob | AnswerJob):
            return self._admit_to(prefix_of(session), request, job, now)
        segments = segments_of(job)
        if segments and not self.embeddings.reserve(session, job.id, segments, now):
            return False
        if not self.kv.reserve_apart(session, job.id, self._kv_apart(job)):
            self.embeddings.release(session, job.id)
            return False
        return True

    def _admit_to(self, prefix: Prefix, request: Request, job: ExtendJob | AnswerJob, now: float) -> bool:
        """Reserve the memory of a request over its session's KV prefix."""
        session = request.session
        self.kv.use(session, prefix, now)
        asked = (job.question, job.max_tokens, job.earlier) if isinstance(job, AnswerJob) else ()
        if not self.kv.reserve(session, job.id, lambda: prefix.bytes_for(request.parts_over(prefix), *asked)):
            return False
        parts = request.parts_over(prefix)
        if not self.embeddings.reserve(session, job.id, segments_in(parts), now):
            self.kv.release(session, job.id)
            return False
        request.parts = parts
        return True

    def release(self, request: Request) -> None:
        """A request does not run any more."""
        self.kv.release(request.session, request.job.id)
        self.embeddings.release(request.session, request.job.id)

    def finish(self, request: Request) -> None:
        """A request is over."""
        self.release(request)
        self.embeddings.finish(request.session, request.job.id)

    def evict_idle(self, now: float) -> None:
        """Evict what sessions have that had no job for long."""
        self.kv.evict_idle(now)
        self.embeddings.evict_idle(now)

    def evict_all(self) -> None:
        """Evict all keys and values, and all embeddings that no running request reads."""
        self.kv.evict_all()
        self.embeddings.evict_all()

    def next_deadline(self) -> float | None:
        """When `evict_idle` is due next, in clock seconds."""
        deadlines = (self.kv.next_deadline(), self.embeddings.next_deadline())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def close(self, session: str) -> None:
        """Drop all of a session."""
        self.kv.forget(session)
        self.embeddings.close(session)
