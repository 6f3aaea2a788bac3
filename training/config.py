"""Every number of a training run, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Corpus:
    """How much is spoken.

    Attributes:
        shards: of training speech.
        clips: sentences in a shard, 2.6 s each on average.
        validation: sentences of held-out texts in held-out voices.
        people: recordings of people that are used, where Whisper is sure of their words.
        captioned: clips that Whisper hears, for what it writes.
        takes: of each instrument and each sound.
    """

    shards: int = 150
    clips: int = 400
    validation: int = 300
    people: int = 11_200
    captioned: int = 4_800
    takes: int = 160


@dataclass(frozen=True)
class Listen:
    """The alignment stage: encoder and projector against the token embeddings.

    Attributes:
        minutes: of training, pauses left out; the learning rate falls along a cosine of them.
        steps: where training ends sooner; 0: nowhere.
        batch_s: seconds of audio in a step.
        bootstrap_clips: so many clips are learned with a guessed alignment, where the projector starts from nothing.
        layers: of the encoder; those above Whisper's six begin as the identity.
        frozen_layers: the lowest stay Whisper's own, which knows more people than any synthesizer has voices.
        spelled: of the tokenizer's first tokens may be a frame: 4,000 merges, and what they are made of.
        people: of the clips are recordings of people, where there are any.
        letters: how much the loss of the letters weighs.
        whisper_rate: the learning rate of Whisper's layers that are not frozen.
        new_rate: of the layers above them, and of the projector.
    """

    minutes: float = 220
    steps: int = 0
    batch_s: float = 28
    bootstrap_clips: int = 3_500
    layers: int = 8
    frozen_layers: int = 4
    spelled: int = 4_252
    people: float = 0.4
    letters: float = 0.5
    whisper_rate: float = 3e-4
    new_rate: float = 9e-4
    warmup_steps: int = 100
    averaging: float = 0.99
    validate_minutes: float = 6


@dataclass(frozen=True)
class Read:
    """The reading stage: adapters of the language model, and the upper ears.

    It may run beside the alignment stage, whose frames stay where the token embeddings are: it takes the newest encoder
    whenever there is one, and only reads notes until then.

    Attributes:
        minutes, steps: as in ``Listen``.
        positions: of the contexts and questions of a step, about.
        notes: of the contexts are read rather than heard.
        validated: held-out contexts.
        rate: the learning rate of the adapters.
        ears_rate: of the layers above Whisper's, and of the projector.
        kept: where a run starts from trained parts, so much of them stays in what is exported.
    """

    minutes: float = 225
    steps: int = 0
    positions: int = 1_500
    validated: int = 36
    notes: float = 0.2
    rate: float = 1e-3
    ears_rate: float = 6e-4
    kept: float = 0.5
    warmup_steps: int = 20
    averaging: float = 0.99
    validate_minutes: float = 10


@dataclass(frozen=True)
class Config:
    """A run.

    Attributes:
        start: trained parts to begin with; empty: the public parts alone.
        pause_file: while it exists, training waits.
    """

    seed: int = 7
    threads: int = 2
    start: str = ""
    pause_file: str = ""
    corpus: Corpus = field(default_factory=Corpus)
    listen: Listen = field(default_factory=Listen)
    read: Read = field(default_factory=Read)


FULL = Config()
SMOKE = Config(
    corpus=Corpus(shards=1, clips=60, validation=10, people=100, captioned=24, takes=1),
    listen=Listen(minutes=1.2, batch_s=24, bootstrap_clips=100_000, warmup_steps=5, validate_minutes=10),
    read=Read(minutes=1.0, positions=400, validated=6, warmup_steps=3, validate_minutes=10),
)
