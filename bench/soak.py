"""Soak test: hours of speech, pauses, noise, hum, music and silence, faster than real time.

``python -m bench.soak --simulated --hours 4`` uses a scripted engine and simulated time; voice detection, windows,
captions, context window and journal are real. It measures memory, and the most segments, utterances and messages held.
``python -m bench.soak --hours 4 [--seconds 3600]`` uses the embedded model and its captioner. It also measures the cost
of a window and of a question at the end against the beginning, and words invented without speech.

The beginning starts when the context window is full, because a question reads less before. Costs are CPU seconds, which
depend less on other work on the machine; a question's latency is wall time. ``progress.jsonl`` in ``--state`` gets a
line for each minute of audio. SIGTERM ends a run early, with its figures.
"""

from __future__ import annotations

import argparse
import gc
import queue
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import soundfile

from af3stream.audio.events import Utterance
from af3stream.audio.pcm import AudioFormat, Samples
from af3stream.config import Config, JournalConfig
from af3stream.engine.contract import AudioSegment
from af3stream.engine.factory import Loaded, load_engine
from af3stream.engine.jobs import Job, Result
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.journal.facts import Commit, SessionFacts
from af3stream.journal.journal import Journal
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.session import Session
from bench.common import RATE, RECORDINGS, config, report

BLOCK: Final = RATE // 5  # sample frames in a message
ASK_EVERY_S: Final = 60.0
ANSWER_TOKENS: Final = 8
MARGIN_S: Final = 1.0  # margin at the edges of a stretch, which an utterance may cross
QUIET: Final = ("silence", "white noise", "faint noise", "hum", "music")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of audio of one kind.

    Attributes:
        kind: ``speech``, or one of `QUIET`.
        samples: float32 (n,).
    """

    kind: str
    samples: Samples


def day(seed: int) -> Iterator[Stretch]:
    """Yield speech and other sounds in turn, without an end, with about the same share of each in every hour."""
    rng = np.random.default_rng(seed)
    read = [soundfile.read(path, dtype="float32")[0] for path in sorted(RECORDINGS.glob("*.wav"))]
    while True:
        for kind in rng.permutation(QUIET):
            said = [piece for at in rng.permutation(len(read)) for piece in (read[at], pause(rng))]
            yield Stretch("speech", np.concatenate(said).astype(np.float32))
            yield Stretch(str(kind), quiet(str(kind), rng))


def pause(rng: np.random.Generator) -> Samples:
    """Return a pause between two sentences."""
    return np.zeros(int(RATE * rng.uniform(0.5, 2.5)), np.float32)


def quiet(kind: str, rng: np.random.Generator) -> Samples:
    """Return 20 to 40 s without speech, (n,) float32."""
    t = np.arange(int(RATE * rng.uniform(20, 40))) / RATE
    match kind:
        case "white noise":
            sound = 0.1 * rng.standard_normal(len(t))
        case "faint noise":
            sound = 1e-4 * rng.standard_normal(len(t))
        case "hum":
            sound = 0.2 * np.sin(2 * np.pi * 50 * t) + 0.1 * np.sin(2 * np.pi * 150 * t)
        case "music":
            pitch = 220 * 2 ** (rng.integers(0, 24, len(t) // (RATE // 4) + 1) / 12)
            note = np.arange(len(t)) % (RATE // 4) / RATE
            held = np.repeat(pitch, RATE // 4)[: len(t)]
            sound = np.exp(-3 * note) * (0.1 * np.sin(2 * np.pi * held * note) + 0.05 * np.sin(4 * np.pi * held * note))
        case _:
            sound = np.zeros(len(t))
    return sound.clip(-1, 1).astype(np.float32)


class Listening:
    """A session, its engine and its journal in one thread; ``now`` follows the audio.

    Attributes:
        said: finals, windows and answers since the last ``take``.
        most: the most messages and jobs that were queued at once.
    """

    def __init__(self, loaded: Loaded, settings: Config, journal: Journal, *, interims: bool) -> None:
        start, facts = m.Start(interims=interims), "soak"
        journal.create(SessionFacts(facts, "", AudioFormat(), msgspec.json.encode(start), time.time(), "soak"))
        self.worker = Worker(loaded.engine, settings.model)
        self.session = Session(
            facts,
            start,
            config=settings,
            facts=loaded.facts,
            metrics=Metrics(),
            recorded=partial(journal.audio, facts),
        )
        self.worker.open(facts, self.session.audio_source, self.session.note_resident)
        self.said: list[m.ServerMessage] = []
        self.most: Counter[str] = Counter()
        self.position = 0
        self._journal = journal
        self._commits: queue.SimpleQueue[Commit] = queue.SimpleQueue()

    @property
    def now(self) -> float:
        """Current time: seconds of audio."""
        return self.position / RATE

    def hear(self, samples: Samples) -> None:
        """Feed samples to the session."""
        pcm = np.rint(samples * 32_767).astype("<i2").tobytes()
        at, self.position = self.position, self.position + len(samples)
        self.tell(m.Audio(at, pcm))

    def tell(self, message: m.ClientMessage) -> None:
        """Send a message to the session, and run all jobs that follow."""
        self.session.receive(message, self.now)
        self._carry()

    def settle(self) -> None:
        """Wait until the journal has written everything."""
        while (self.session.durable or 0) < self.position:
            self._committed(self._commits.get())
        self._carry()

    def take(self) -> list[m.ServerMessage]:
        """Return and clear the collected messages."""
        said, self.said = self.said, []
        return said

    def _carry(self) -> None:
        session = self.session
        for job in session.take_cancelled():
            self.worker.cancel(session.id, job.id)
        while jobs := session.take_jobs():
            self.most["jobs"] = max(self.most["jobs"], len(jobs))
            for job in jobs:
                self.worker.submit(session.id, job, self._completed)
            self.worker.run_all()
        if records := session.take_records():
            self._journal.append(session.id, records, self._commits.put)
        while not self._commits.empty():
            self._committed(self._commits.get())
        messages = session.take_messages()
        self.most["messages"] = max(self.most["messages"], len(messages))
        self.said += messages

    def _committed(self, commit: Commit) -> None:
        assert commit.error is None, commit
        self.session.committed(commit.durable, commit.event, self.now)

    def _completed(self, job: Job, result: Result, done: bool) -> None:
        self.session.complete(job, result, done, self.now)


def asked() -> dict[str, list[tuple[float, float]]]:
    """Samples of questions, by whether a window is open when they are asked, because it is read with them."""
    return {"nothing_open": [], "window_open": []}


@dataclass
class Figures:
    """Measured samples, each (position in seconds of audio, value)."""

    windows: list[tuple[float, float]] = field(default_factory=list)  # CPU seconds per second of audio in windows
    questions: dict[str, list[tuple[float, float]]] = field(default_factory=asked)  # CPU seconds to the answer
    answers: dict[str, list[tuple[float, float]]] = field(default_factory=asked)  # seconds to the answer
    memory: list[tuple[float, float]] = field(default_factory=list)  # MiB of this process
    invented: Counter[str] = field(default_factory=Counter)  # words, by kind of audio
    quiet_s: float = 0.0
    degraded: Counter[str] = field(default_factory=Counter)  # number of messages, by level
    held: Counter[str] = field(default_factory=Counter)  # the most segments and utterances at once
    full_at: float | None = None  # time at which the context window was full


class Soak:
    """One run of the soak test."""

    def __init__(self, listening: Listening, window_limit: int, state: Path) -> None:
        self.figures = Figures()
        self.listening = listening
        self._window_limit, self._progress = window_limit, state / "progress.jsonl"
        self._closed, self._spent, self._heard = 0, 0.0, 0.0
        self._ask_at, self._asked = ASK_EVERY_S, 0
        self._stretches: list[tuple[str, float, float]] = []
        self._finals: list[m.Caption] = []
        self._others = held()  # what the process holds besides the session

    def play(self, stretch: Stretch, going: Callable[[], bool]) -> None:
        """Feed one stretch, with a question each minute, until it ends or the run is stopped."""
        began = self.listening.now
        for at in range(0, len(stretch.samples), BLOCK):
            if not going():
                break
            spent = time.process_time()
            self.listening.hear(stretch.samples[at : at + BLOCK])
            self._spent += time.process_time() - spent
            self._note(self.listening.take())
            if self.listening.now >= self._ask_at:
                self._ask_at += ASK_EVERY_S
                self._minute()
        self._stretches.append((stretch.kind, began, self.listening.now))

    def finish(self) -> None:
        """End the session, and compute the final figures."""
        self.listening.tell(m.Flush("end"))
        self.listening.settle()
        self._note(self.listening.take())
        for kind, start, end in self._stretches:
            if kind == "speech":
                continue
            inside = (f for f in self._finals if f.start >= start + MARGIN_S and f.end <= end - MARGIN_S)
            self.figures.invented[kind] += sum(len(final.text.split()) for final in inside)
            self.figures.quiet_s += end - start

    def _note(self, said: Sequence[m.ServerMessage]) -> None:
        for message in said:
            match message:
                case m.Window():
                    self._closed += 1
                    self._heard += message.end - message.start
                case m.Caption(final=True):
                    self._finals.append(message)
                case m.Degraded():
                    self.figures.degraded[message.level] += 1
                case m.Error():
                    raise AssertionError(message)
        if self._closed >= self._window_limit and self.figures.full_at is None:
            self.figures.full_at = self.listening.now

    def _minute(self) -> None:
        """Ask a question, and record the state."""
        listening, figures = self.listening, self.figures
        listening.settle()
        self._note(listening.take())
        if self._heard:
            figures.windows.append((listening.now, self._spent / self._heard))
            self._spent = self._heard = 0.0
        self._asked += 1
        state = "window_open" if listening.session._pipeline.context.open_window() else "nothing_open"
        began, clock = time.process_time(), time.monotonic()
        listening.tell(m.Ask(f"q{self._asked}", "What was said about the young man?", max_tokens=ANSWER_TOKENS))
        figures.questions[state].append((listening.now, time.process_time() - began))
        figures.answers[state].append((listening.now, time.monotonic() - clock))
        listening.settle()
        self._note(listening.take())
        figures.memory.append((listening.now, resident_mib()))
        mine = held() - self._others
        figures.held |= mine
        line = {
            "at_s": listening.now,
            "window": figures.windows[-1:],
            "asked_with": state,
            "question_cpu_s": figures.questions[state][-1][1],
            "answer_s": figures.answers[state][-1][1],
            "resident_mib": figures.memory[-1][1],
            **mine,
        }
        with self._progress.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")


def held() -> Counter[str]:
    """Count the audio segments and utterances that are alive in this process."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing) in (AudioSegment, Utterance))


def resident_mib() -> float:
    """Return the resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096 / (1 << 20)


def head_and_tail(samples: Sequence[tuple[float, float]], full_at: float | None) -> dict[str, float] | None:
    """Return the medians of the first and the last quarter after the context window was full, and their ratio."""
    values = [value for at, value in samples if full_at is not None and at >= full_at]
    quarter = len(values) // 4
    if not quarter:
        return None
    head, tail = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
    return {"head": head, "tail": tail, "ratio": tail / head}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the soak test, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", action="store_true", help="a scripted engine")
    parser.add_argument("--hours", type=float, default=4.0, help="hours of audio")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="the most seconds of wall time")
    parser.add_argument(
        "--windows", type=int, default=0, help="a smaller context window than the model's, which is full sooner"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--state", type=Path, help="a folder for the journal and the progress; by default a temporary one"
    )
    options = parser.parse_args(argv)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    with ExitStack() as stack:
        state = options.state or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        state.mkdir(parents=True, exist_ok=True)
        settings = config()
        if options.windows:
            model = msgspec.structs.replace(settings.model, max_windows=options.windows)
            settings = msgspec.structs.replace(settings, model=model)
        loaded = Loaded(ScriptedEngine(), "forgotten", None) if options.simulated else load_engine(settings)
        journal = Journal(JournalConfig(folder=str(state / f"journal-{time.time_ns()}")))
        journal.start()
        stack.callback(journal.stop)
        listening = Listening(loaded, settings, journal, interims=options.simulated)
        soak = Soak(listening, loaded.engine.capacity.windows, state)
        began = time.monotonic()

        def going() -> bool:
            in_time = time.monotonic() < began + options.seconds
            return in_time and not stopped and listening.now < 3_600 * options.hours

        for stretch in takewhile(lambda _: going(), day(options.seed)):
            soak.play(stretch, going)
        soak.finish()
        tell(options, soak.figures, listening, loaded, time.monotonic() - began)


def tell(options: argparse.Namespace, figures: Figures, listening: Listening, loaded: Loaded, took_s: float) -> None:
    """Print the figures as one line."""
    measured: dict[str, Any] = {
        "window_cpu": head_and_tail(figures.windows, figures.full_at),
        "question_cpu_s": {of: head_and_tail(samples, figures.full_at) for of, samples in figures.questions.items()},
        "question_s": {of: head_and_tail(samples, figures.full_at) for of, samples in figures.answers.items()},
        "resident_mib": head_and_tail(figures.memory, figures.full_at),
        "degraded": dict(figures.degraded),
        "held": dict(figures.held),
        "waiting": dict(listening.most),
    }
    if not options.simulated:
        measured |= {"invented_words": dict(figures.invented), "quiet_s": figures.quiet_s}
    report(
        "soak",
        engine=loaded.engine.name,
        audio_h=listening.now / 3_600,
        times_real=listening.now / took_s,
        horizon_windows=loaded.engine.capacity.windows,
        horizon_full_at_s=figures.full_at,
        questions=sum(map(len, figures.questions.values())),
        **measured,
    )


if __name__ == "__main__":
    main()
