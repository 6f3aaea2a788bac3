"""Configuration of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field

from af3stream.models.mini import recipe


@dataclass(frozen=True)
class Corpus:
    """Size of the corpus.

    Attributes:
        shards: shards of training speech.
        clips: sentences in a shard, 2.6 s each on average.
        validation: sentences of held-out texts in held-out voices.
        people: recordings of people, before those with uncertain transcripts are dropped.
        takes: takes of each instrument and each sound.
    """

    shards: int = 6
    clips: int = 300
    validation: int = 100
    people: int = 2_400
    takes: int = 40


@dataclass(frozen=True)
class Listen:
    """The alignment stage: trains the projector towards token embeddings, over encoder states that are computed once.

    Attributes:
        windows: number of windows that are encoded.
        minutes: training time; the learning rate follows a cosine over it.
        steps: the most steps; 0 for no limit.
        batch_frames: frames of a step.
        units: number of the tokenizer's first tokens that are CTC symbols: bytes and 4,000 merges.
        people: share of clips that are recordings of people, if there are any.
        sounds: share of clips that are sounds and music.
    """

    windows: int = 2_400
    minutes: float = 20
    steps: int = 0
    batch_frames: int = 1_500
    units: int = 4_256
    people: float = 0.35
    sounds: float = 0.3
    rate: float = 1.5e-3
    warmup_steps: int = 50
    averaging: float = 0.99
    validate_minutes: float = 4


@dataclass(frozen=True)
class Read:
    """The reading stage: trains small adapters of the language model.

    Attributes:
        minutes, steps: as in ``Listen``.
        positions: approximate positions of a step's audio contexts.
        text_positions: approximate positions of a step's text, over which the adapters should not change the output.
        kept: weight of the distance from the output without adapters.
        validated: number of held-out contexts.
    """

    minutes: float = 27
    steps: int = 0
    positions: int = 700
    text_positions: int = 250
    kept: float = 8.0
    validated: int = 24
    rate: float = 1e-3
    warmup_steps: int = 10
    averaging: float = 0.97
    validate_minutes: float = 6


@dataclass(frozen=True)
class Config:
    """Configuration of a run.

    Attributes:
        start: file of trained parts, whose encoder is used.
        pause_file: training waits while this file exists.
    """

    seed: int = 7
    threads: int = 2
    start: str = str(recipe.TRAINED)
    pause_file: str = ""
    corpus: Corpus = field(default_factory=Corpus)
    listen: Listen = field(default_factory=Listen)
    read: Read = field(default_factory=Read)


FULL = Config()
SMOKE = Config(
    corpus=Corpus(shards=1, clips=60, validation=10, people=100, takes=1),
    listen=Listen(windows=40, minutes=1.0, warmup_steps=5, validate_minutes=10),
    read=Read(minutes=1.0, positions=200, text_positions=60, validated=4, warmup_steps=3, validate_minutes=10),
)
