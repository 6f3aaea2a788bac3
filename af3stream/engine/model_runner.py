"""Run steps of requests on an engine, in the thread that calls."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from af3stream.engine.captioning import Samples
from af3stream.engine.contract import Answering, AudioSegment, AudioSource, Context, Embeddings, Engine, PromptPart
from af3stream.engine.embedding_cache import EmbeddingCache
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    PrefixLost,
    Result,
    ReviseJob,
    SoundJob,
    VoiceJob,
)
from af3stream.engine.request import Request, segments_in
from af3stream.errors import DataLoss, ModelError


@dataclass(frozen=True, slots=True)
class Output:
    """What one step of a request gave.

    Attributes:
        result: what to report; ``None`` or "" for nothing.
        done: whether the request is done.
        decoding: whether its next step writes a token of an answer.
        encoded: segments that the step encoded, and their embeddings.
    """

    result: Result = None
    done: bool = False
    decoding: bool = False
    encoded: dict[AudioSegment, Embeddings] = field(default_factory=dict)


Outputs = list[Output | Exception]  # one a request; an exception costs that request alone


@dataclass(eq=False, slots=True)
class Execution:
    """A request of several steps that has begun.

    Attributes:
        steps: yields what each step gives.
        answer: the answer, from its first step on.
    """

    steps: Generator[Output, None, None] | None = None
    answer: Answering | None = None


class ModelRunner:
    """Implements `af3stream.engine.executor.Executor` over an engine, without a time limit.

    Args:
        embeddings: what is encoded already; only read here.
    """

    def __init__(self, engine: Engine, embeddings: EmbeddingCache) -> None:
        self._engine = engine
        self._embeddings = embeddings
        self._sources: dict[str, AudioSource] = {}
        self._contexts: dict[str, Context] = {}
        self._executions: dict[Request, Execution] = {}

    def open(self, session: str, source: AudioSource) -> None:
        """Begin a session, whose audio is read again from ``source``."""
        self._sources[session] = source

    def prefix(self, session: str) -> Context:
        """Return a session's KV prefix, an empty one if it has none."""
        if session not in self._contexts:
            self._contexts[session] = self._engine.context(partial(self._embeddings.get, session))
        return self._contexts[session]

    def run(self, requests: Sequence[Request]) -> Outputs:
        """Run one step of these requests, of one kind, together."""
        if isinstance(requests[0].job, EncodeJob):
            return [*self._encode(requests)]
        executions = [self._begun(request) for request in requests]
        answers = [execution.answer for execution in executions if execution.answer]
        if len(answers) > 1:
            self._engine.decode_batch(answers)
        return [self._advance(*each) for each in zip(requests, executions, strict=True)]

    def cancel(self, request: Request) -> None:
        """Free what a request that has begun holds, and take back what it changed in its session's KV prefix."""
        execution = self._executions.pop(request, None)
        if execution and execution.steps:
            execution.steps.close()

    def unread(self, request: Request) -> list[AudioSegment]:
        """Return the segments that the next steps of a request encode, and whose samples must be read again."""
        execution, job = self._executions.get(request), request.job
        if not isinstance(job, SoundJob | ExtendJob | AnswerJob) or (execution and execution.answer):
            return []
        if isinstance(job, SoundJob):
            return self._missing(request.session, [job.segment])
        own = job.samples if isinstance(job, AnswerJob) else {}
        needed = request.parts[self.prefix(request.session).held(request.parts) :]
        return [segment for segment in self._missing(request.session, needed) if segment not in own]

    def abandon(self, requests: Sequence[Request]) -> None:
        """Drop what these requests have begun, with the KV prefixes, without touching it: a thread hangs in it."""
        for request in requests:
            if self._executions.pop(request, None) and isinstance(request.job, ExtendJob | AnswerJob):
                self._contexts.pop(request.session, None)

    def close(self, session: str) -> None:
        """Drop all of a session."""
        self._contexts.pop(session, None)
        self._sources.pop(session, None)

    # ---- one step ----------------------------------------------------------------------------------------------------

    def _encode(self, requests: Sequence[Request]) -> Iterator[Output]:
        """Encode the windows of these requests that are not resident, in one pass."""
        jobs = [(request.session, request.job) for request in requests if isinstance(request.job, EncodeJob)]
        new = [job for session, job in jobs if self._embeddings.get(session, job.segment) is None]
        encoded = dict(zip(new, self._engine.encode([job.samples for job in new]), strict=True)) if new else {}
        for _, job in jobs:
            yield Output(done=True, encoded={job.segment: encoded[job]} if job in encoded else {})

    def _begun(self, request: Request) -> Execution:
        if request not in self._executions:
            self._executions[request] = Execution()
            self._executions[request].steps = self._begin(request)
        return self._executions[request]

    def _begin(self, request: Request) -> Generator[Output, None, None]:
        match request.job:
            case CaptionJob() | ReviseJob() as job:
                return _outputs(self._engine.captioner.caption(job.request))
            case VoiceJob() as job:
                return self._hear_voices(job)
            case SoundJob() as job:
                return self._name_sound(request, job)
            case _:
                return self._steps(request, self._executions[request])

    def _advance(self, request: Request, execution: Execution) -> Output | Exception:
        """Do one step of a request that has several."""
        try:
            output = next(execution.steps, None) if execution.steps else None
        except Exception as error:  # noqa: BLE001 - it costs this request, and none that shares the step
            return error
        return output or Output(done=True)

    def _steps(self, request: Request, execution: Execution) -> Generator[Output, None, None]:
        """Do a job over a KV prefix, one pass a step."""
        job, parts, context = request.job, request.parts, self.prefix(request.session)
        assert isinstance(job, ExtendJob | AnswerJob)
        if parts is not job.parts:
            yield Output(PrefixLost())
        yield Output()
        yield from self._encode_missing(request, lambda: parts[context.held(parts) :])
        if isinstance(job, ExtendJob):
            for _ in context.extend(parts):
                yield Output()
            return
        execution.answer = answer = context.answer(parts, job.question, job.max_tokens, job.earlier)
        known = request.reported
        try:
            for piece in answer:
                if isinstance(piece, str):
                    fresh, known = piece[known:], max(0, known - len(piece))
                    yield Output(fresh, decoding=self._engine.is_decoding(answer))
                else:
                    yield Output(piece)
        finally:
            answer.close()
            execution.answer = None

    def _hear_voices(self, job: VoiceJob) -> Generator[Output, None, None]:
        """Hear the voices of an utterance, one pass a step.

        Raises:
            ModelError: if the engine has no voice encoder, or its weights cannot be loaded.
        """
        if self._engine.voices is None:
            raise ModelError("no voice encoder is loaded")
        yield from _outputs(self._engine.voices.embed([job.samples[start:end] for start, end in job.stretches]))

    def _name_sound(self, request: Request, job: SoundJob) -> Generator[Output, None, None]:
        """Name the sound of a stretch, one pass a step, in keys and values of its own.

        Raises:
            ModelError: if the engine names no sounds.
        """
        if self._engine.sounds is None:
            raise ModelError("this model names no sounds")
        yield from self._encode_missing(request, lambda: [job.segment])
        frames = self._embeddings.get(request.session, job.segment)
        yield from _outputs(self._engine.sounds.name(frames, *job.frames))

    def _encode_missing(self, request: Request, parts: Callable[[], Sequence[PromptPart]]) -> Iterator[Output]:
        """Encode what a request reads and no prefix holds, one pass a step."""
        job, source = request.job, self._sources.get(request.session)
        own = job.samples if isinstance(job, AnswerJob) else {}
        while missing := self._missing(request.session, parts()):
            segments = missing[: self._engine.encode_together]
            samples = [own[segment] if segment in own else _read(segment, source) for segment in segments]
            yield Output(encoded=dict(zip(segments, self._engine.encode(samples), strict=True)))

    def _missing(self, session: str, parts: Sequence[PromptPart]) -> list[AudioSegment]:
        return [segment for segment in segments_in(parts) if self._embeddings.get(session, segment) is None]


def _outputs(passes: Iterator[Result]) -> Generator[Output, None, None]:
    """Return the steps of a computation that has its result at the end, and nothing before it."""
    for result in passes:
        yield Output(result, done=result is not None)


def _read(segment: AudioSegment, source: AudioSource | None) -> Samples:
    """Return a segment's samples.

    Raises:
        DataLoss: if they are gone.
    """
    if source is None:
        raise DataLoss("samples", segment.start, segment.end)
    return source.read(segment)
