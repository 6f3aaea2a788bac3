"""The sessions of one engine, each as a gateway has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from af3stream.cluster.audio_window import ReceivedAudio
from af3stream.cluster.channel import Channel, checked
from af3stream.cluster.remote_audio import RemoteAudio
from af3stream.cluster.wire import (
    Attach,
    BadFrame,
    Cancel,
    Close,
    Detach,
    FromGateway,
    Number,
    Open,
    Read,
    Reported,
    Resident,
    Samples,
    SessionMessage,
    Submit,
    Superseded,
    is_urgent,
)
from af3stream.config import EngineConfig
from af3stream.engine.captioning import Samples as Float32
from af3stream.engine.contract import AudioSegment
from af3stream.engine.jobs import Job, Result, samples_of, with_samples
from af3stream.engine.worker import Worker

log = logging.getLogger(__name__)


class GatewaySessions:
    """The sessions of one connection.

    Args:
        sessions: of all connections.
        window: samples of a session's newest audio that are kept.
    """

    def __init__(
        self,
        channel: Channel[FromGateway],
        worker: Worker,
        sessions: dict[str, EngineSession],
        config: EngineConfig,
        window: int,
    ) -> None:
        self.channel = channel
        self._worker = worker
        self._sessions = sessions
        self._config = config
        self._window = window
        self._left = False

    def receive(self, message: FromGateway) -> None:
        """Do what a gateway asks for; nothing after `leave`: frames of a closed connection may still be buffered.

        Raises:
            ValueError: if it breaks the protocol.
        """
        if self._left:
            return
        if not isinstance(message, SessionMessage):
            raise BadFrame("not in this place")
        hosted = self._sessions.get(message.session)
        if isinstance(message, Open):
            self._open(message, hosted)
        elif hosted is None or hosted.gateway is not self or hosted.opening != message.opening:
            self.channel.put(Superseded(message.session, message.fence), urgent=True)
        else:
            hosted.receive(message)

    def leave(self) -> None:
        """The connection is closed: keep the caches of its sessions for a while."""
        self._left = True
        for hosted in self._sessions.values():
            if hosted.gateway is self:
                hosted.leave()

    def _open(self, message: Open, hosted: EngineSession | None) -> None:
        if hosted is not None:
            owner = hosted.gateway
            if hosted.fence > message.fence or (hosted.fence == message.fence and owner not in (None, self)):
                self.channel.put(Superseded(message.session, message.fence), urgent=True)
                return
            hosted.release()
            if owner not in (None, self):
                owner.channel.put(Superseded(message.session, hosted.fence), urgent=True)
        self._sessions[message.session] = EngineSession(
            message, self, self._worker, self._window, self._config, self._drop
        )

    def _drop(self, hosted: EngineSession) -> None:
        """Drop a session and its caches."""
        hosted.forget()
        if self._sessions.get(hosted.session) is hosted:
            del self._sessions[hosted.session]
            self._worker.close(hosted.session)


class EngineSession:
    """A session at this engine, as one gateway has it under one fence.

    Attributes:
        gateway: ``None`` once its connection is closed.
    """

    def __init__(
        self,
        opened: Open,
        gateway: GatewaySessions,
        worker: Worker,
        window: int,
        config: EngineConfig,
        drop: Callable[[EngineSession], None],
    ) -> None:
        checked(opened.sequence == 0, "a session begins with its first message")
        self.session = opened.session
        self.fence = opened.fence
        self.opening = opened.opening
        self.gateway: GatewaySessions | None = gateway
        self._worker = worker
        self._config = config
        self._drop = drop
        self._loop = asyncio.get_running_loop()
        self._audio = ReceivedAudio(window)
        self._received = 1
        self._sent = 0
        self._jobs: dict[int, Job] = {}
        self._leaving: asyncio.TimerHandle | None = None
        self._reads: dict[AudioSegment, asyncio.TimerHandle] = {}  # ends the wait for a segment
        self._source = RemoteAudio(self._ask, config.read_timeout_s, rereads=opened.rereads)
        worker.open(self.session, self._source, self._tell_resident)
        worker.attach(self.session)

    # ---- from the gateway --------------------------------------------------------------------------------------------

    def receive(self, message: SessionMessage) -> None:
        """Do what the gateway asks for.

        Raises:
            ValueError: if it breaks the protocol.
        """
        checked(message.sequence == self._received, f"message {self._received} of a session is missing")
        self._received += 1
        match message:
            case Submit():
                self._submit(message)
            case Cancel(job=job):
                self._jobs.pop(job, None)
                self._worker.cancel(self.session, job)
            case Attach():
                self._worker.attach(self.session)
            case Detach():
                self._worker.detach(self.session)
            case Samples(segment=segment, audio=audio):
                samples = None if audio is None else audio.samples
                length = segment.end - segment.start
                checked(samples is None or len(samples) == length, "a segment has all of its samples")
                self._arrive(segment, samples)
            case Close():
                self._drop(self)

    def leave(self) -> None:
        """Stop working for this gateway. The caches are kept for a while, so that another one may take them over."""
        self.release()
        self._leaving = self._loop.call_later(self._config.keep_s, self._drop, self)

    def release(self) -> None:
        """Stop working for this gateway: the session is taken over."""
        self.forget()
        for job in self._jobs:
            self._worker.cancel(self.session, job)
        self._jobs.clear()

    def forget(self) -> None:
        """Tell nothing any more. Reads that are under way fail."""
        self.gateway = None
        for segment in list(self._reads):
            self._arrive(segment, None)
        if self._leaving:
            self._leaving.cancel()

    def _submit(self, message: Submit) -> None:
        found = self._audio.take(message.audio, message.ranges)
        checked(len(found) == len(samples_of(message.job)), "each range has its samples")
        job = with_samples(message.job, found)
        self._jobs[job.id] = job
        self._worker.submit(self.session, job, self._report)

    # ---- from the worker's threads -----------------------------------------------------------------------------------

    def _report(self, job: Job, result: Result, done: bool) -> None:
        self._hand_over(partial(self._tell, job, result, done))

    def _tell_resident(self, segments: frozenset[AudioSegment]) -> None:
        self._source.forget(segments)
        self._hand_over(lambda: self._put(lambda number: Resident(*number, tuple(segments))))

    def _ask(self, segment: AudioSegment) -> None:
        self._hand_over(partial(self._request, segment))

    def _hand_over(self, act: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(act)
        except RuntimeError:  # the event loop is closed: the engine has stopped
            log.debug("a report arrived after the engine stopped")

    # ---- to the gateway ----------------------------------------------------------------------------------------------

    def _tell(self, job: Job, result: Result, done: bool) -> None:
        if job.id not in self._jobs:
            return
        if done:
            del self._jobs[job.id]
        self._put(lambda number: Reported(*number, job.id, result, done), urgent=is_urgent(job))

    def _request(self, segment: AudioSegment) -> None:
        if self.gateway is None:
            self._arrive(segment, None)
            return
        if earlier := self._reads.pop(segment, None):
            earlier.cancel()
        self._reads[segment] = self._loop.call_later(self._config.read_timeout_s, self._arrive, segment, None)
        self._put(lambda number: Read(*number, segment), urgent=True)

    def _arrive(self, segment: AudioSegment, samples: Float32 | None) -> None:
        if waiting := self._reads.pop(segment, None):
            waiting.cancel()
        self._source.arrive(segment, samples)
        self._worker.wake()

    def _put(self, message: Callable[[Number], Reported | Resident | Read], *, urgent: bool = False) -> None:
        if self.gateway:
            self.gateway.channel.put(message((self.session, self.fence, self.opening, self._sent)), urgent=urgent)
            self._sent += 1
