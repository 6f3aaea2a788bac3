"""What the service measures of itself, in Prometheus's terms."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_DELAYS_S = (0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 21)


class Metrics:
    """One server's measurements, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.word_delay = _delay("word_delay", "From a word's arrival to its caption", r, ["kind"])
        self.final_delay = _delay("final_delay", "From the end of speech to its final caption", r)
        self.first_token = _delay("answer_first_token", "From a question to its answer's first token", r)
        self.answer = _delay("answer", "From a question to its answer's end", r)
        self.lag = Gauge(
            "af3stream_lag_seconds", "Received and due, and not yet processed: the worst session", registry=r
        )
        self.device = Gauge("af3stream_device_seconds", "Seconds that the device has worked", registry=r)
        self.cost = Gauge(
            "af3stream_device_share", "Seconds of the device that a second of audio takes, interims aside", registry=r
        )
        self.resident = Gauge("af3stream_resident_bytes", "What the process takes of the memory", registry=r)
        fates = "Audio by what became of it: received, decoded, skipped, dropped"
        self.seconds = Counter("af3stream_audio_seconds", fates, ["fate"], registry=r)
        self.windows = Counter("af3stream_windows", "Windows encoded", registry=r)
        self.utterances = Counter("af3stream_utterances", "Utterances captioned", registry=r)
        self.sessions = Gauge("af3stream_sessions", "Sessions that are open", registry=r)
        self.refusals = Counter("af3stream_refusals", "Requests refused", ["code"], registry=r)

    def render(self) -> bytes:
        """The exposition, as `GET /metrics` answers it."""
        return generate_latest(self.registry)


def _delay(name: str, what: str, registry: CollectorRegistry, labels: list[str] | None = None) -> Histogram:
    return Histogram(f"af3stream_{name}_seconds", what, labels or [], buckets=_DELAYS_S, registry=registry)
