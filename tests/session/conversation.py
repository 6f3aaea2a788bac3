"""One conversation in the test's own thread and time: a session, the scripted engine, and someone who speaks scenes."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np

from af3stream.config import AudioConfig, CaptionsConfig, Config, ModelConfig, QuestionsConfig, ServerConfig
from af3stream.engine.contract import Engine
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import Job, Result
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.metrics import Metrics
from af3stream.models.card import Frames, Notes
from af3stream.protocol import messages as m
from af3stream.session.session import Session
from af3stream.tracing import Tracing
from tests.audio.audio_scenes import SECOND, scene_vad, sound

M = TypeVar("M", bound=m.Message)
J = TypeVar("J", bound=Job)

VOICE, SILENCE = "#" * SECOND, "." * SECOND  # a second of each
CAPTIONS = CaptionsConfig(interim_every_s=2.0)  # the engine has room, so a partial caption comes each second
BLOCK = 5  # characters of a scene in one message: 100 ms
SENTENCE = VOICE + SILENCE  # an utterance of 1.24 s, and a pause that ends it


def pcm(scene: str) -> bytes:
    """A scene as 16-bit samples."""
    return np.rint(sound(scene) * 32_767).astype("<i2").tobytes()


class Conversation:
    """Messages in, messages out. ``now`` follows the audio.

    Attributes:
        said: everything the session has told so far.
        jobs: everything it has asked of the engine so far.
        working: whether the engine works; while it does not, jobs wait.

    Args:
        scenes: voice is what a scene says is voice; otherwise, what the real detector hears.
        worker: what runs the jobs; by default, the engine's own.
    """

    def __init__(
        self,
        start: m.Start | None = None,
        *,
        engine: Engine | None = None,
        notes: Notes = "off",
        frames: Frames = "all",
        audio: AudioConfig | None = None,
        captions: CaptionsConfig | None = None,
        questions: QuestionsConfig | None = None,
        server: ServerConfig | None = None,
        model: ModelConfig | None = None,
        scenes: bool = True,
        worker: Any = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.engine = engine or ScriptedEngine()
        self.metrics = Metrics()
        self.worker = worker or Worker(self.engine)
        config = Config(
            server or ServerConfig(),
            audio or AudioConfig(),
            captions or CAPTIONS,
            questions or QuestionsConfig(),
            model or ModelConfig(),
        )
        with scene_vad() if scenes else nullcontext():
            self.session = Session(
                "s",
                start or m.Start(),
                config=config,
                facts=facts_of(self.engine, notes, frames),
                metrics=self.metrics,
                tracing=tracing,
            )
        self.worker.open("s", self.session.audio_source, self.session.note_resident)
        self.now = 0.0
        self.sent = 0
        self.said: list[m.ServerMessage] = self.session.greet()
        self.jobs: list[Job] = []
        self.working = True
        self._carry()

    def tell(self, message: m.ClientMessage) -> list[m.ServerMessage]:
        """Send one message; returns what it brings about."""
        self.session.receive(message, self.now)
        return self._carry()

    def hear(self, scene: str, block: int = BLOCK) -> list[m.ServerMessage]:
        """Speak a scene, block by block, at the pace of speech."""
        brought = []
        for i in range(0, len(scene), block):
            samples = pcm(scene[i : i + block])
            self.now += len(samples) / 2 / 16_000
            brought += self.tell(m.Audio(self.sent, samples))
            self.sent += len(samples) // 2
        return brought

    def ask(self, text: str = "What?", last_s: float | None = None, **fields: Any) -> m.Answer:
        """Ask, and have the answer."""
        scope = None if last_s is None else m.Scope(last_s)
        self.tell(m.Ask("q", text, scope, **fields))
        return self.of(m.Answer)[-1]

    def end(self) -> list[m.ServerMessage]:
        """End with the right total."""
        return self.tell(m.End(self.sent))

    def work(self) -> list[m.ServerMessage]:
        """Let the engine work, from now on."""
        self.working = True
        return self.work_once()

    def work_once(self) -> list[m.ServerMessage]:
        """Let the engine do what it was asked for so far, and nothing that follows from it."""
        self.worker.run_all()
        return self._carry()

    def pass_time(self, seconds: float) -> list[m.ServerMessage]:
        """Let time pass in which nothing arrives."""
        self.now += seconds
        self.session.advance(self.now)
        return self._carry()

    def of(self, kind: type[M]) -> list[M]:
        """What was told so far, of one kind."""
        return [message for message in self.said if isinstance(message, kind)]

    def asked_of_engine(self, kind: type[J]) -> list[J]:
        """The jobs so far, of one kind."""
        return [job for job in self.jobs if isinstance(job, kind)]

    @property
    def finals(self) -> list[m.Caption]:
        """The final captions so far."""
        return [caption for caption in self.of(m.Caption) if caption.final]

    @property
    def interims(self) -> list[m.Caption]:
        """The interim captions so far."""
        return [caption for caption in self.of(m.Caption) if not caption.final]

    def _carry(self) -> list[m.ServerMessage]:
        for job in self.session.take_cancelled():
            self.worker.cancel("s", job.id)
        while jobs := self.session.take_jobs():
            self.jobs += jobs
            for job in jobs:
                self.worker.submit("s", job, self._completed)
            if self.working:
                self.worker.run_all()
        deadline = self.session.next_deadline
        assert deadline is None or deadline > self.now - 1e-6  # one that is past would wake it again and again
        brought = self.session.take_messages()
        self.said += brought
        return brought

    def _completed(self, job: Job, result: Result, done: bool) -> None:
        self.session.complete(job, result, done, self.now)


def kinds(messages: list[m.ServerMessage]) -> list[str]:
    """Their names."""
    return [str(type(message).__struct_config__.tag) for message in messages]
