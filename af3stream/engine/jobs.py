"""What a session asks of the engine, and what comes back. All of it is immutable and serialisable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from af3stream.engine.captioning import (
    DEFAULT_OPTIONS,
    CaptionOptions,
    CaptionRequest,
    Hypothesis,
    NamedSound,
    Samples,
    Voices,
)
from af3stream.engine.contract import AudioSegment, Completion, PromptPart, Turn

_numbers: Final = count(1)


class _Job(Struct, frozen=True, eq=False, kw_only=True):
    """What jobs have in common.

    Attributes:
        id: larger than those of the jobs that this process made before. So it is unique in its session.
    """

    id: int = field(default_factory=_numbers.__next__)


class CaptionJob(_Job, frozen=True, eq=False, tag=True):
    """Caption one utterance, or the part of it that has arrived. Returns a `Hypothesis`.

    Attributes:
        samples: float32 (n,) at 16 kHz.
        draft: the last hypothesis about a shorter part.
        final: whether the utterance is complete.
        start: where the samples begin on the session's timeline, in samples at 16 kHz.
        urgent: whether a question waits for it.
        late: whether its session is so far behind that questions go first.
        options: language, word times and the like.
        again: the utterance was heard before, in another language.
        trace: of the utterance, as `af3stream.tracing.Trace.parent` says; empty: it is not traced.
    """

    utterance: int
    samples: Samples
    draft: Hypothesis | None
    final: bool
    max_tokens: int
    start: int = 0
    urgent: bool = False
    late: bool = False
    options: CaptionOptions = DEFAULT_OPTIONS
    again: bool = False
    trace: str = ""

    @property
    def request(self) -> CaptionRequest:
        """What the captioner is asked."""
        return CaptionRequest(self.samples, self.max_tokens, self.final, self.draft, self.options)


class ReviseJob(_Job, frozen=True, eq=False, tag=True):
    """Caption all utterances of a closed window at once, a second time. Returns a `Hypothesis`.

    Attributes:
        samples: float32 (n,) at 16 kHz, from the first utterance to the end of the last, at most 30 s.
        start: where the samples begin on the session's timeline, in samples at 16 kHz.
        late: whether its session is so far behind that questions and final captions go first.
        options: as of the captions.
    """

    window: int
    samples: Samples
    max_tokens: int
    late: bool = False
    options: CaptionOptions = DEFAULT_OPTIONS
    start: int = 0

    @property
    def request(self) -> CaptionRequest:
        """What the captioner is asked."""
        return CaptionRequest(self.samples, self.max_tokens, options=self.options)


class VoiceJob(_Job, frozen=True, eq=False, tag=True):
    """Hear whose voices are in an utterance, before it is captioned. Returns `Voices`, a row a stretch.

    Attributes:
        stretches: start and end in ``samples``, each of at least 0.75 s.
        late: its session is so far behind that questions go first.
        start: where the samples begin on the session's timeline, in samples at 16 kHz.
    """

    samples: Samples
    stretches: tuple[tuple[int, int], ...]
    late: bool = False
    start: int = 0


class EncodeJob(_Job, frozen=True, eq=False, tag=True):
    """Encode one closed window. Returns nothing; the engine keeps the embeddings.

    Attributes:
        samples: float32 (n,) at 16 kHz, of the segment.
    """

    window: int
    segment: AudioSegment
    samples: Samples


class SoundJob(_Job, frozen=True, eq=False, tag=True):
    """Name the sound in a stretch of a closed window that no caption covers. Returns a `NamedSound`.

    Attributes:
        start, end: of the stretch, samples at 16 kHz, within the segment.
    """

    window: int
    segment: AudioSegment
    start: int
    end: int

    @property
    def frames(self) -> tuple[int, int]:
        """The first projected frame of the stretch, and the one after its last."""
        samples, offset = self.segment.end - self.segment.start, self.segment.start
        first, last = (self.segment.tokens * (at - offset) // samples for at in (self.start, self.end))
        return first, max(last, first + 1)


class ExtendJob(_Job, frozen=True, eq=False, tag=True):
    """Make these parts the session's kept KV prefix. Returns nothing.

    Attributes:
        rebuild: whether it is built beside the one in use, which answers go on using.
        captions_only: whether the window that it adds stands as its captions alone.
        keep_from: position in samples. The session asks about nothing before it once this job is done, so the
            embeddings of segments that end up to there are dropped.
        urgent: whether a question waits for it.
    """

    parts: tuple[PromptPart, ...]
    rebuild: bool
    captions_only: bool = False
    keep_from: int = 0
    urgent: bool = False


class AnswerJob(_Job, frozen=True, eq=False, tag=True):
    """Answer a question over these parts. Returns pieces of text, then a `Completion`.

    Attributes:
        earlier: turns of the chat before the question.
        prefix: leading parts that the session expects in the kept prefix.
        instead: what is read in place of ``parts`` if they are not there, so that no question waits until they are.
            Then `PrefixLost` is returned first.
        samples: float32 (n,) of segments that the engine does not know: those of the open window. Their embeddings are
            dropped when the job is done.
        trace: of the question, as `af3stream.tracing.Trace.parent` says; empty: it is not traced.
    """

    parts: tuple[PromptPart, ...]
    question: str
    max_tokens: int
    earlier: tuple[Turn, ...] = ()
    prefix: int = 0
    instead: tuple[PromptPart, ...] = ()
    samples: Mapping[AudioSegment, Samples] = field(default_factory=dict)
    trace: str = ""


Job = CaptionJob | ReviseJob | VoiceJob | EncodeJob | SoundJob | ExtendJob | AnswerJob


def samples_of(job: Job) -> list[tuple[int, Samples]]:
    """Return the samples that a job has, each float32 (n,) with its first position on the session's timeline."""
    match job:
        case CaptionJob() | ReviseJob() | VoiceJob():
            return [(job.start, job.samples)]
        case EncodeJob(segment=segment, samples=samples):
            return [(segment.start, samples)]
        case AnswerJob():
            return [(segment.start, samples) for segment, samples in job.samples.items()]
        case _:
            return []


def with_samples(job: Job, samples: Sequence[Samples]) -> Job:
    """Return the same job with other samples, in the order of `samples_of`."""
    if isinstance(job, AnswerJob):
        return replace(job, samples=dict(zip(job.samples, samples, strict=True)))
    return replace(job, samples=samples[0]) if samples else job


class Failed(Struct, frozen=True, tag=True):
    """A job could not be done.

    Attributes:
        reason: what a client may be told.
        timed_out: whether a step of it did not end in time; another attempt would not either.
    """

    reason: str
    timed_out: bool = False


class Restarted(Struct, frozen=True, tag=True):
    """The device ran out of memory under a job. All keys and values were evicted, and the job is done once more."""


class PrefixLost(Struct, frozen=True, tag=True):
    """The kept prefix was evicted: the question is answered over ``instead``."""


Result = Hypothesis | Voices | NamedSound | Completion | Failed | Restarted | PrefixLost | str | None
