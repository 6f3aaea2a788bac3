"""What a session asks of the engine, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass

from af3stream.engine.contract import (
    DEFAULT_OPTIONS,
    AudioSegment,
    CaptionOptions,
    Completion,
    Hypothesis,
    PromptPart,
    Samples,
    Turn,
    Voices,
)


@dataclass(frozen=True, eq=False, slots=True)
class CaptionJob:
    """Hear one utterance, or the part of it heard so far. Returns a `Hypothesis`.

    Attributes:
        urgent: a question waits for it.
        late: its session is so far behind that questions go first.
        options: language, word times and the like.
    """

    utterance: int
    samples: Samples
    draft: Hypothesis | None
    final: bool
    max_tokens: int
    urgent: bool = False
    late: bool = False
    options: CaptionOptions = DEFAULT_OPTIONS


@dataclass(frozen=True, eq=False, slots=True)
class ReviseJob:
    """Hear all utterances of a closed window at once, a second time. Returns a `Hypothesis`.

    Attributes:
        samples: from the first utterance to the end of the last, at most 30 s.
        late: its session is so far behind that questions and final captions go first.
        options: as of the captions.
    """

    window: int
    samples: Samples
    max_tokens: int
    late: bool = False
    options: CaptionOptions = DEFAULT_OPTIONS


@dataclass(frozen=True, eq=False, slots=True)
class VoiceJob:
    """Hear whose voices are in an utterance, before it is captioned. Returns `Voices`, a row a stretch.

    Attributes:
        stretches: start and end in ``samples``, each of at least 0.75 s.
        late: its session is so far behind that questions go first.
    """

    samples: Samples
    stretches: tuple[tuple[int, int], ...]
    late: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class EncodeJob:
    """Encode one closed window. Returns nothing; the sound then holds its embeddings."""

    window: int
    sound: AudioSegment


@dataclass(frozen=True, eq=False, slots=True)
class ExtendJob:
    """Make these parts the session's kept prefix.

    Attributes:
        rebuild: beside the one in use, which answers go on using.
        captions_only: the window that it adds stands as its captions alone.
    """

    parts: tuple[PromptPart, ...]
    rebuild: bool
    captions_only: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class AnswerJob:
    """Answer a question over these parts. Returns pieces of text, then a `Completion`.

    Attributes:
        earlier: turns of the chat before the question.
        prefix: leading parts that are believed to be in the kept prefix.
        instead: what is read in place of ``parts`` if they are not, so that no question waits until they are;
            `PrefixLost` is returned first then.
    """

    parts: tuple[PromptPart, ...]
    question: str
    max_tokens: int
    earlier: tuple[Turn, ...] = ()
    prefix: int = 0
    instead: tuple[PromptPart, ...] = ()


Job = CaptionJob | ReviseJob | VoiceJob | EncodeJob | ExtendJob | AnswerJob


@dataclass(frozen=True, slots=True)
class Failed:
    """A job that could not be done, and what may be said of it to a peer.

    Attributes:
        timed_out: a step of it did not end in time; another attempt would not either.
    """

    reason: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Restarted:
    """The device ran out of memory under a job: all keys and values were given up, and the job is done once more."""


@dataclass(frozen=True, slots=True)
class PrefixLost:
    """The kept prefix was evicted: the question is answered over ``instead``."""


Result = Hypothesis | Voices | Completion | Failed | Restarted | PrefixLost | str | None
