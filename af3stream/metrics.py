"""The Prometheus metrics of the service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

EMBEDDED: Final = "embedded"  # the name of the engine in the server's own process

Reason = Literal["new", "failover", "drain"]  # why a session was placed: it is new, its engine is lost, or it drains

_DELAYS_S = (0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 21)
_COMMITS_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.35, 0.5, 1, 2, 5, 10)


class Metrics:
    """The metrics of one server, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.word_delay = _delay("word_delay", "Seconds from the arrival of a word to its caption", r, ["kind"])
        self.final_delay = _delay("final_delay", "Seconds from the end of speech to its final caption", r)
        self.first_token = _delay("answer_first_token", "Seconds from a question to the first token of its answer", r)
        self.answer = _delay("answer", "Seconds from a question to the end of its answer", r)
        self.lag = Gauge("af3stream_lag_seconds", "Lag of the session that is furthest behind", registry=r)
        self.device = Gauge("af3stream_device_seconds", "Seconds for which the device was busy", registry=r)
        self.cost = Gauge(
            "af3stream_device_share", "Device seconds per second of audio, without interim captions", registry=r
        )
        self.resident = Gauge("af3stream_resident_bytes", "Resident memory of the process", registry=r)
        fates = "Seconds of audio: received, decoded, skipped, dropped"
        self.seconds = Counter("af3stream_audio_seconds", fates, ["fate"], registry=r)
        self.windows = Counter("af3stream_windows", "Number of windows encoded", registry=r)
        self.utterances = Counter("af3stream_utterances", "Number of utterances captioned", registry=r)
        self.sessions = Gauge("af3stream_sessions", "Number of open sessions", registry=r)
        self.refusals = Counter("af3stream_refusals", "Number of refused requests", ["code"], registry=r)
        self.commit = _delay("commit", "Seconds from a record to its commit in the journal", r, buckets=_COMMITS_S)
        self.journal_bytes = Gauge("af3stream_journal_bytes", "Bytes of the journal on disk", registry=r)
        self.journal_quota = Gauge("af3stream_journal_quota_bytes", "The most bytes of the journal", registry=r)
        self.responses = Counter(
            "af3stream_http_responses", "Number of responses to plain requests", ["route", "status"], registry=r
        )
        self.response = _delay("http_response", "Seconds from a plain request to its response", r, ["route"])
        self.engines = EngineMetrics(r)
        self.placements = Counter("af3stream_placements", "Number of sessions placed", ["reason"], registry=r)

    def placed(self, reason: Reason) -> None:
        """Count that a session was placed on an engine."""
        self.placements.labels(reason).inc()

    def render(self) -> bytes:
        """Return the metrics in Prometheus's text format, for `GET /metrics`."""
        return generate_latest(self.registry)


class EngineMetrics:
    """The gauges of each engine that the process knows, by the engine's name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str) -> Gauge:
            return Gauge(f"af3stream_engine_{name}", what, ["engine"], registry=registry)

        self._up = gauge("up", "Whether the engine can be reached")
        self._sessions = gauge("sessions", "Number of sessions that the engine has")
        self._kv_bytes = gauge("kv_bytes", "Bytes of keys and values, reserved ones too")
        self._embedding_bytes = gauge("embedding_bytes", "Bytes of embeddings, reserved ones too")
        self._device_seconds = gauge("device_seconds", "Seconds for which the engine's device was busy")

    def note(self, engine: str, *, sessions: int, kv_bytes: int, embedding_bytes: int, device_s: float) -> None:
        """Set the gauges of an engine to what it reported last."""
        self._up.labels(engine).set(1)
        self._sessions.labels(engine).set(sessions)
        self._kv_bytes.labels(engine).set(kv_bytes)
        self._embedding_bytes.labels(engine).set(embedding_bytes)
        self._device_seconds.labels(engine).set(device_s)

    def lost(self, engine: str) -> None:
        """Note that an engine cannot be reached; its other gauges stay."""
        self._up.labels(engine).set(0)

    def forget(self, engine: str) -> None:
        """Remove the gauges of an engine that has left for good."""
        for gauge in (self._up, self._sessions, self._kv_bytes, self._embedding_bytes, self._device_seconds):
            gauge.remove(engine)


def _delay(
    name: str,
    what: str,
    registry: CollectorRegistry,
    labels: Sequence[str] = (),
    *,
    buckets: Sequence[float] = _DELAYS_S,
) -> Histogram:
    return Histogram(f"af3stream_{name}_seconds", what, labels, buckets=buckets, registry=registry)
