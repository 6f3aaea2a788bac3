"""Every number of a training run, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from af3stream.models.mini import recipe


@dataclass(frozen=True)
class Corpus:
    """How much is spoken.

    Attributes:
        shards: of training speech.
        clips: sentences in a shard, 2.6 s each on average.
        validation: sentences of held-out texts in held-out voices.
        people: recordings of people that are used, where Whisper is sure of their words.
        takes: of each instrument and each sound.
    """

    shards: int = 6
    clips: int = 300
    validation: int = 100
    people: int = 2_400
    takes: int = 40


@dataclass(frozen=True)
class Listen:
    """The alignment stage: the projector against the token embeddings, over encoder states that are computed once.

    Attributes:
        windows: of clips that the encoder hears.
        minutes: of training; the learning rate falls along a cosine of them.
        steps: where training ends sooner; 0: nowhere.
        batch_frames: frames in a step.
        units: of the tokenizer's first tokens may be a frame: 4,000 merges, and the bytes that they are made of.
        people: of the clips are recordings of people, where there are any.
        sounds: of the clips are sounds and music.
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
    """The reading stage: small adapters of the language model.

    Attributes:
        minutes, steps: as in ``Listen``.
        positions: of a step's contexts about sounds, about.
        text_positions: of a step's text, over which the language model is to stay what it is, about.
        kept: how much the distance from what it is weighs.
        validated: held-out contexts.
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
    """A run.

    Attributes:
        start: trained parts whose encoder is used.
        pause_file: while it exists, training waits.
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
