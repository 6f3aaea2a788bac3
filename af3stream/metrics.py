"""The Prometheus metrics of the service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_DELAYS_S = (0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 21)


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

    def render(self) -> bytes:
        """Return the metrics in Prometheus's text format, for `GET /metrics`."""
        return generate_latest(self.registry)


def _delay(name: str, what: str, registry: CollectorRegistry, labels: list[str] | None = None) -> Histogram:
    return Histogram(f"af3stream_{name}_seconds", what, labels or [], buckets=_DELAYS_S, registry=registry)
