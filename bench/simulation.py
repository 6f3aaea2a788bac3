"""Simulate streams on an engine, and queues at a shared resource, in simulated time.

The engine's steps are chosen by af3stream's own `Scheduler`, and take the time that a table of measured times says. So
a change of the scheduler changes the simulation, too.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import simpy

from af3stream.engine.request import MAX_DECODE_BATCH
from af3stream.engine.scheduler import Priority, Scheduler, Task

Process = Generator[simpy.Event, Any, None]

EARLY_S: Final = 0.01  # from the end of an utterance, its padding included, to the start of its final caption
TOLD_S: Final = 0.36  # from there to the end of the pause; a final caption is told no sooner
TOLD_TOKENS: Final = 2  # an answer's first words are told once it is clear that no framing ("The content ...") begins
LATE_S: Final = 8.0  # final captions that are further behind wait for answers
INTERIM_EVERY_S: Final = 1.0
STALE_S: Final = 2.0  # a question has a partial caption made if the newest one lacks more
STRETCH: Final = 2.0  # times what the last partial caption took: the least pause between two
CAPTIONS_WAIT_S: Final = 2.0  # a question waits for earlier captions no longer


@dataclass(frozen=True, slots=True)
class Line:
    """A time that grows with a size: ``at_zero`` seconds, and ``slope`` seconds a unit."""

    at_zero: float
    slope: float

    @classmethod
    def through(cls, points: dict[float, float]) -> Line:
        """Fit a line to measured points by least squares; a single point gives a line through zero."""
        if len(points) == 1:
            ((size, seconds),) = points.items()
            return cls(0.0, seconds / size)
        slope, at_zero = np.polyfit(list(points), list(points.values()), 1)
        return cls(float(at_zero), float(slope))

    def __call__(self, size: float) -> float:
        return max(0.0, self.at_zero + self.slope * size)


@dataclass(frozen=True, slots=True)
class Table:
    """A time by a number, between measured points in a straight line."""

    points: tuple[tuple[float, float], ...]

    def __call__(self, size: float) -> float:
        sizes, seconds = zip(*self.points, strict=True)
        return float(np.interp(size, sizes, seconds))


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """What the device needs for a step of each kind, in seconds.

    Attributes:
        final, interim, revise: by seconds of speech; ``None``: other engines make the captions.
        encode: by seconds of audio.
        extend: by positions that are read into the KV prefix.
        answer: of the first token, by positions that the prefix lacks.
        token: a decoding pass, by the number of answers in it.
        chunk: positions of one reading step.
        frames_s: frames in the prompt a second of audio; 0 if captions stand in their place.
        tokens_s: positions of captions a second of speech.
        spread: standard deviation of a step's seconds over their mean.
    """

    final: Line | None
    interim: Line | None
    revise: Line | None
    encode: Line
    extend: Line
    answer: Line
    token: Line | Table
    chunk: int
    frames_s: float
    tokens_s: float
    spread: float = 0.0

    def steps(self, reading: Line, positions: float) -> list[float]:
        """Return the steps that read so many positions."""
        count = max(1, math.ceil(positions / self.chunk))
        return [reading(positions) / count] * count


@dataclass(frozen=True, slots=True)
class Talk:
    """What is said in one stream, in seconds.

    Attributes:
        utterances: start and end of each.
        windows: start and end of each closed window, and when it closes.
        questions: when one is asked.
    """

    seconds: float
    utterances: tuple[tuple[float, float], ...]
    windows: tuple[tuple[float, float, float], ...]
    questions: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Asking:
    """Sizes of a question.

    Attributes:
        most: positions that it reads at most beside the KV prefix.
        tokens: of its answer; one of these numbers.
    """

    most: float
    tokens: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Work:
    """One job: the steps that it takes, then tokens that may be decoded with those of others.

    Attributes:
        extends: whether it appends to the KV prefix, which no answer of its session may use meanwhile.
        decoded: tokens so far.
        first: triggered with its first words.
    """

    steps: list[float]
    done: simpy.Event
    tokens: int = 0
    decoded: int = 0
    extends: bool = False
    first: simpy.Event | None = None
    begun: bool = False

    @property
    def decoding(self) -> bool:
        """Whether the next step decodes a token."""
        return not self.steps and self.tokens > 0


class SimulatedEngine:
    """An engine whose steps take simulated time.

    Attributes:
        busy_s: seconds that the device has worked.
        due_s: of them, those for what cannot be shed: all but partial captions.
    """

    def __init__(self, env: simpy.Environment, times: ServiceTimes, rng: random.Random) -> None:
        self._env = env
        self.rng = rng
        self.times = times
        self._scheduler: Scheduler[Work] = Scheduler()
        self._wake = env.event()
        self._answering: set[str] = set()
        self.busy_s = self.due_s = 0.0
        env.process(self._run())

    def submit(self, session: str, priority: Priority, steps: Sequence[float], **fields: Any) -> Work:
        """Queue a job."""
        work = Work(list(steps), self._env.event(), **fields)
        if not work.steps and not work.tokens:
            work.done.succeed()
            return work
        self._scheduler.submit(session, priority, work)
        if not self._wake.triggered:
            self._wake.succeed()
        return work

    def cancel(self, work: Work) -> None:
        """Drop a job that has not begun."""
        for task in list(self._scheduler._tasks):
            if task.work is work and not work.begun:
                self._scheduler.finish(task)

    def _run(self) -> Process:
        while True:
            task = self._scheduler.next(self._may_step)
            if task is None:
                self._wake = self._env.event()
                yield self._wake
                continue
            tasks = [task]
            if task.work.decoding:
                tasks = self._scheduler.like(task, lambda work: work.decoding, MAX_DECODE_BATCH)
            seconds = self.times.token(len(tasks)) if task.work.decoding else task.work.steps.pop(0)
            if (spread := self.times.spread) > 0:
                seconds *= self.rng.gammavariate(1 / spread**2, spread**2)
            for each in tasks:
                each.work.begun = True
            if task.work.tokens:
                self._answering.add(task.session)
            yield self._env.timeout(seconds)
            self.busy_s += seconds
            self.due_s += seconds * (task.priority is not Priority.INTERIM)
            self._scheduler.charge(tasks, seconds)
            for each in tasks:
                self._take(each)

    def _may_step(self, task: Task[Work]) -> bool:
        return not (task.work.extends and task.session in self._answering)

    def _take(self, task: Task[Work]) -> None:
        """Take the result of a step. The last step of reading a question gives the first token."""
        work = task.work
        if work.steps:
            return
        if work.tokens:
            work.tokens -= 1
            work.decoded += 1
            if work.first and work.decoded >= min(TOLD_TOKENS, work.decoded + work.tokens) and not work.first.triggered:
                work.first.succeed()
        if not work.tokens:
            self._answering.discard(task.session)
            self._scheduler.finish(task)
            work.done.succeed()


@dataclass(slots=True)
class Outcome:
    """What streams saw.

    Attributes:
        lags_s: from the end of each utterance to its final caption.
        first_s: from each question to the first token of its answer.
        answers: start and end of each answer's words, and their number; in the order of ``first_s``.
        busy: share of the time in which the device worked.
        due: the same without partial captions, which can be shed.
    """

    lags_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    answers: list[tuple[float, float, int]] = field(default_factory=list)
    busy: float = 0.0
    due: float = 0.0


class SimulatedStream:
    """One stream: its captions, its windows and its questions on an engine."""

    def __init__(
        self, env: simpy.Environment, engine: SimulatedEngine, name: str, talk: Talk, asking: Asking, outcome: Outcome
    ) -> None:
        self._env, self._engine, self._name, self._talk = env, engine, name, talk
        self._asking, self._outcome = asking, outcome
        self._began = env.now
        self._finals: list[simpy.Event] = [env.event() for _ in talk.utterances]
        self._drafted_to = self._read_to = 0.0
        self._turn = simpy.Resource(env)  # questions of a session are answered one after another
        if engine.times.final:
            env.process(self._captions())
        else:
            for final in self._finals:
                final.succeed()
        env.process(self._windows())
        for at in talk.questions:
            env.process(self._ask(at))

    def _until(self, at: float) -> simpy.Event:
        """Wait for a position of the stream."""
        return self._env.timeout(max(0.0, self._began + at - self._env.now))

    @property
    def _position(self) -> float:
        return float(self._env.now - self._began)

    def _captions(self) -> Process:
        times = self._engine.times
        assert times.final
        for index, (start, end) in enumerate(self._talk.utterances):
            yield from self._interims(start, end)
            yield self._until(end + EARLY_S)
            priority = Priority.LATE_FINAL if self._late() else Priority.FINAL
            work = self._engine.submit(self._name, priority, [times.final(end - start)])
            self._env.process(self._tell(index, end, work))

    def _interims(self, start: float, end: float) -> Process:
        """Caption the open utterance again and again; the last one is dropped when the utterance closes."""
        times, took, heard_to = self._engine.times, 0.0, start
        if times.interim is None:
            return
        while (due := heard_to + max(INTERIM_EVERY_S, STRETCH * took)) < end:
            yield self._until(due)
            heard_to, began = self._position, self._env.now
            work = self._engine.submit(self._name, Priority.INTERIM, [times.interim(min(heard_to, end) - start)])
            yield work.done | self._until(end)
            if not work.done.processed:
                self._engine.cancel(work)
                return
            took = self._env.now - began
            self._drafted_to = heard_to

    def _tell(self, index: int, end: float, work: Work) -> Process:
        yield work.done
        yield self._until(end + TOLD_S)
        self._outcome.lags_s.append(self._position - end)
        self._finals[index].succeed()

    def _windows(self) -> Process:
        for start, end, closes in self._talk.windows:
            yield self._until(closes)
            self._env.process(self._close(start, end))

    def _close(self, start: float, end: float) -> Process:
        """Encode a window if the prompt has its frames; caption it once more; read it into the KV prefix."""
        times, engine = self._engine.times, self._engine
        encoded = engine.submit(self._name, Priority.CATCH_UP, [times.encode(end - start)] if times.frames_s else [])
        inside = [i for i, (at, to) in enumerate(self._talk.utterances) if start <= at and to <= end]
        speech_s = sum(self._talk.utterances[i][1] - self._talk.utterances[i][0] for i in inside)
        yield self._env.all_of([self._finals[i] for i in inside])
        if times.revise and len(inside) > 1:
            yield engine.submit(self._name, Priority.ANSWER, [times.revise(speech_s)]).done
        yield encoded.done
        if self._position > self._talk.seconds:  # the session has ended: its prefix is extended no more
            return
        reading = times.steps(times.extend, speech_s * times.tokens_s + (end - start) * times.frames_s)
        priority = Priority.CATCH_UP if times.frames_s else Priority.ANSWER
        yield engine.submit(self._name, priority, reading, extends=True).done
        self._read_to = max(self._read_to, end)

    def _ask(self, at: float) -> Process:
        yield self._until(at)
        asked = self._env.now
        with self._turn.request() as turn:
            yield turn
            yield from self._await_captions()
            steps = self._engine.times.steps(self._engine.times.answer, self._unread())
            tokens = self._engine.rng.choice(self._asking.tokens)
            work = self._engine.submit(self._name, Priority.ANSWER, steps, tokens=tokens, first=self._env.event())
            assert work.first
            yield work.first
            first = self._env.now
            yield work.done
        self._outcome.first_s.append(first - asked)
        self._outcome.answers.append((first, self._env.now, tokens))

    def _await_captions(self) -> Process:
        """Wait for the final captions of what was said before, and for a partial one, but not long."""
        if self._late():
            return
        position, times = self._position, self._engine.times
        needed = [self._finals[i] for i in self._waiting()]
        for start, end in self._talk.utterances:
            if times.interim and start < position < end and position - max(start, self._drafted_to) > STALE_S:
                needed.append(self._engine.submit(self._name, Priority.ANSWER, [times.interim(position - start)]).done)
        if needed:
            yield self._env.all_of(needed) | self._env.timeout(CAPTIONS_WAIT_S)

    def _waiting(self) -> list[int]:
        """Return the utterances that have ended and have no final caption."""
        ended = (i for i, (_, end) in enumerate(self._talk.utterances) if end <= self._position)
        return [i for i in ended if not self._finals[i].triggered]

    def _late(self) -> bool:
        """Return whether final captions are so far behind that questions go first."""
        return any(self._position - self._talk.utterances[i][1] > LATE_S for i in self._waiting()[:1])

    def _unread(self) -> float:
        """Return the positions of captions and frames that the KV prefix lacks, as many as a question reads."""
        times, position = self._engine.times, self._position
        speech_s = sum(max(0.0, min(end, position) - max(start, self._read_to)) for start, end in self._talk.utterances)
        frames = times.frames_s * max(0.0, position - self._read_to)
        return min(self._asking.most, speech_s * times.tokens_s + frames)


def run_engine(times: ServiceTimes, talks: Sequence[Talk], asking: Asking, apart_s: float, seed: int = 0) -> Outcome:
    """Simulate streams on one engine, until all their answers are complete.

    Args:
        apart_s: seconds from the start of one stream to that of the next.
    """
    env = simpy.Environment()
    engine, outcome = SimulatedEngine(env, times, random.Random(seed)), Outcome()
    finished: list[float] = []

    def start(index: int, talk: Talk) -> Process:
        yield env.timeout(index * apart_s)
        SimulatedStream(env, engine, str(index), talk, asking, outcome)
        yield env.timeout(talk.seconds)
        finished.append(env.now)

    for index, talk in enumerate(talks):
        env.process(start(index, talk))
    env.run()
    ended = max([*finished, *(done for _, done, _ in outcome.answers)])
    outcome.busy, outcome.due = engine.busy_s / ended, engine.due_s / ended
    return outcome


def conversation(
    seconds: float, lengths: Sequence[float], pause_s: float, ask_every_s: float, rng: random.Random, window_s: float
) -> Talk:
    """Return a stream of utterances of these lengths in random order, with pauses, windows and random questions."""
    utterances, windows = list[tuple[float, float]](), list[tuple[float, float, float]]()
    at, opened = rng.uniform(0, pause_s), 0.0
    while (end := at + rng.choice(lengths)) < seconds:
        utterances.append((at, end))
        if end - opened >= window_s:
            windows.append((opened, end, end + TOLD_S))
            opened = end
        at = end + pause_s
    questions, asked = list[float](), rng.expovariate(1 / ask_every_s)
    while asked < seconds:
        questions.append(asked)
        asked += rng.expovariate(1 / ask_every_s)
    return Talk(seconds, tuple(utterances), tuple(windows), tuple(questions))


def waits(rate: float, service: Callable[[], float], servers: int, arrivals: int, rng: random.Random) -> list[float]:
    """Return how long each of so many random arrivals waits in one queue before several servers.

    Args:
        rate: arrivals a second, at random moments (a Poisson process: many independent sources).
        service: returns the seconds of one arrival's service.
    """
    env = simpy.Environment()
    resource, waited = simpy.Resource(env, servers), list[float]()

    def arrival() -> Process:
        came = env.now
        with resource.request() as turn:
            yield turn
            waited.append(env.now - came)
            yield env.timeout(service())

    def arriving() -> Process:
        for _ in range(arrivals):
            yield env.timeout(rng.expovariate(rate))
            env.process(arrival())

    env.process(arriving())
    env.run()
    return waited
