"""Spliced conversations of known voices, and who spoke as a session tells it.

Turns of 2 to 8 s follow each other after 0.05 to 1.5 s, each voice at a level of its own, over faint noise. So most
changes of the speaker lie inside an utterance of the voice detector.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from af3stream.audio import SAMPLE_RATE
from af3stream.config import Config
from af3stream.engine.captioning import Samples, VoiceEncoder, Voices, result_of
from af3stream.engine.facts import facts_of
from af3stream.engine.jobs import Job, Result
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.session.session import Session
from training import voices
from training.corpus import trimmed

ASTERISK: Final = Path("/usr/share/asterisk/sounds")
# One person each, 8 kHz: packages asterisk-core-sounds-{en,fr,it,ru}-wav and asterisk-prompt-it-menardi-wav of Debian.
PROMPTS: Final = ("en_US_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU", "it_IT_f_Menardi")
NEURAL: Final = (
    voices.Voice("piper", "joe", 1),
    *(voices.Voice("kokoro", name, 1) for name in ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")),
)
SECONDS: Final = (1.0, 20.0)  # of a recording that is used
TURN_S: Final = (2.0, 8.0)
PAUSES_S: Final = (0.05, 0.15, 0.3, 0.6, 1.0, 1.5)
LEVEL: Final = 0.05  # root mean square of speech, before each voice's own level
LEVELS_DB: Final = (-4.0, 4.0)
NOISE: Final = 0.0005  # root mean square
COUNTED_FROM: Final = 60 * SAMPLE_RATE  # utterances from the second minute on are counted

Recordings = Mapping[str, Sequence[Samples]]  # of each person


@dataclass(frozen=True)
class Spliced:
    """A conversation: its samples, and who speaks from where to where."""

    samples: Samples
    turns: tuple[tuple[int, int, str], ...]

    def speaker(self, start: int, end: int) -> str:
        """Return who speaks most in a stretch; empty if nobody does."""
        shares = Counter[str]()
        for begin, finish, name in self.turns:
            shares[name] += max(0, min(end, finish) - max(start, begin))
        name, most = shares.most_common(1)[0]
        return name if most else ""


@dataclass(frozen=True)
class Told:
    """An utterance, and who spoke: in truth, and as the session tells it."""

    start: int
    end: int
    speaker: str
    told: int | None


def prompts() -> Recordings:
    """The voices of Asterisk's prompts that are installed."""
    return {name: found for name in PROMPTS if (found := _recordings(ASTERISK / name))}


def readers(folder: Path) -> Recordings:
    """The voices of a folder with one folder a person, such as LibriSpeech's."""
    return {path.name: found for path in sorted(folder.iterdir()) if path.is_dir() and (found := _recordings(path))}


def neural(sentences: Sequence[str], seed: int) -> Recordings:
    """Neural voices, every one of which says these sentences."""
    random = Random(seed)
    return {
        f"{voice.engine} {voice.name}": [trimmed(voices.speak(voice, sentence, random)) for sentence in sentences]
        for voice in NEURAL
    }


def _recordings(folder: Path) -> list[Samples]:
    short, long = (round(seconds * SAMPLE_RATE) for seconds in SECONDS)
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac"))
    found = (trimmed(samples) for path in paths if len(samples := voices.read(path)) > short)
    return [samples for samples in found if short <= len(samples) <= long]


def splice(people: Recordings, names: Sequence[str], seconds: float, seed: int) -> Spliced:
    """Splice a conversation; it ends when nobody who may go on has a recording left, or after so many seconds."""
    random, noise = Random(seed), np.random.default_rng(seed)
    left = {name: random.sample(list(people[name]), len(people[name])) for name in names}
    gains = {name: 10 ** (random.uniform(*LEVELS_DB) / 20) for name in names}
    pieces, turns, position, before = list[Samples](), list[tuple[int, int, str]](), 0, ""
    while position < seconds * SAMPLE_RATE and (able := [name for name in names if name != before and left[name]]):
        before = random.choice(able)
        turn = _turn(left[before], round(random.uniform(*TURN_S) * SAMPLE_RATE)) * gains[before]
        pause = np.zeros(round(random.choice(PAUSES_S) * SAMPLE_RATE), np.float32)
        turns.append((position, position + len(turn), before))
        pieces += [turn, pause]
        position += len(turn) + len(pause)
    samples = np.concatenate(pieces)
    return Spliced((samples + noise.normal(0, NOISE, len(samples))).clip(-1, 1).astype(np.float32), tuple(turns))


def _turn(left: list[Samples], wanted: int) -> Samples:
    """About so many samples of the next recordings, which are taken away."""
    taken = list[Samples]()
    while left and sum(map(len, taken)) < 0.7 * wanted:
        samples = left.pop()
        if len(samples) > wanted + SAMPLE_RATE:
            left.append(samples[wanted:])
            samples = samples[:wanted]
        taken.append(samples * np.float32(LEVEL / max(float(np.sqrt(np.mean(samples**2))), 1e-4)))
    return np.concatenate(taken)


class Timed:
    """A voice encoder whose computing is measured.

    Attributes:
        seconds: of computing.
    """

    def __init__(self, encoder: VoiceEncoder) -> None:
        self.name, self._encoder, self.seconds = encoder.name, encoder, 0.0

    def embed(self, pieces: Sequence[Samples]) -> Iterator[Voices | None]:
        """As the encoder does, in one pass."""
        began = time.process_time()
        found = result_of(self._encoder.embed(pieces))
        self.seconds += time.process_time() - began
        yield found


def heard(conversation: Spliced, encoder: VoiceEncoder, most: bool | int = True) -> list[Told]:
    """Stream a conversation to a session without a captioner; returns its utterances, corrections applied."""
    engine = ScriptedEngine()
    engine.voices = encoder
    start = m.Start("pcm_f32le", interims=False, speakers=most)
    session = Session("speakers", start, config=Config(), facts=facts_of(engine), metrics=Metrics())
    worker, finals, now = Worker(engine), FinalCaptions(), 0.0

    def done(job: Job, result: Result, finished: bool) -> None:
        session.complete(job, result, finished, now)

    for message in _messages(conversation.samples):
        now += 1
        session.receive(message, now)
        while jobs := session.take_jobs():
            for job in jobs:
                worker.submit(session.id, job, done)
            worker.run_all()
        for told in session.take_messages():
            finals.add(told)
    utterances = []
    for caption in finals:
        start_at, end_at = round(caption.start * SAMPLE_RATE), round(caption.end * SAMPLE_RATE)
        utterances.append(Told(start_at, end_at, conversation.speaker(start_at, end_at), caption.speaker))
    return utterances


def _messages(samples: Samples) -> Iterator[m.Audio | m.End]:
    for at in range(0, len(samples), SAMPLE_RATE):
        yield m.Audio(at, samples[at : at + SAMPLE_RATE].astype("<f4").tobytes())
    yield m.End(len(samples))


def named(utterances: Sequence[Told]) -> dict[int, str]:
    """Return whom each number stands for: the one-to-one mapping with the most utterances right."""
    from scipy.optimize import linear_sum_assignment

    names = sorted({utterance.speaker for utterance in utterances})
    numbers = sorted({utterance.told for utterance in utterances if utterance.told is not None})
    pairs = Counter((utterance.speaker, utterance.told) for utterance in utterances)
    counts = np.array([[pairs[name, number] for number in numbers] for name in names]).reshape(len(names), -1)
    return {numbers[column]: names[row] for row, column in zip(*linear_sum_assignment(-counts), strict=True)}
