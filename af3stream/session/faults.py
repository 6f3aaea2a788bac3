"""What a client is told of the engine's failures."""

from __future__ import annotations

from af3stream.engine.jobs import Failed
from af3stream.errors import EngineFailed, EngineTimeout
from af3stream.protocol import messages as m


def failure(what: str, failed: Failed, ref: str | None = None) -> m.Error:
    """What a client is told of a job that failed."""
    kind = EngineTimeout if failed.timed_out else EngineFailed
    return m.error(kind(f"{what}: {failed.reason}", ref=ref))
