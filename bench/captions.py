"""What captions cost and get right: Whisper at the utterance's length, against Whisper padded to 30 s each time.

The recordings are spoken once into a session, 100 ms at a time, with an interim a second; the engine works in between,
so that computing time is counted without waiting. ``python -m bench.captions``
"""

from __future__ import annotations

import re
from itertools import pairwise

import jiwer
import numpy as np

from af3stream.config import Config, load
from af3stream.engine import whisper
from af3stream.engine.factory import Loaded, load_engine
from af3stream.engine.worker import Worker
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.session import Session
from bench.common import RATE, RECORDINGS, report, speech

BLOCK = RATE // 10
PAUSE_S = 0.8
SECONDS = 28.7  # the recordings, once, with pauses between them


def main() -> None:
    """Measure both ways, finals only and with interims."""
    config, loaded = load(), load_engine(load())
    ours = measure(config, loaded)
    lengths = (whisper.FINAL_LEAST_S, whisper.INTERIM_LEAST_S)
    whisper.FINAL_LEAST_S = whisper.INTERIM_LEAST_S = whisper.FULL_S
    padded = measure(config, loaded)
    whisper.FINAL_LEAST_S, whisper.INTERIM_LEAST_S = lengths
    report("captions", at_length=ours, padded_to_30_s=padded)


def measure(config: Config, loaded: Loaded) -> dict[str, float]:
    """Seconds of computing a second of audio, words wrong, and words changed after they were shown."""
    finals, finals_busy = listen(config, loaded, interims=False)
    captions, all_busy = listen(config, loaded, interims=True)
    shown = [caption for caption in captions if not caption.final]
    return {
        "computing_s_a_second_finals_only": finals_busy / SECONDS,
        "computing_s_a_second_with_interims": all_busy / SECONDS,
        "word_error_rate": jiwer.wer(bare(said()), bare(" ".join(caption.text for caption in finals))),
        "interims": float(len(shown)),
        "stable_words_taken_back": float(taken_back(captions)),
    }


def listen(config: Config, loaded: Loaded, *, interims: bool) -> tuple[list[m.Caption], float]:
    """Speak the recordings to a session; returns its captions and the engine's time."""
    worker, captions = Worker(loaded.engine), list[m.Caption]()
    session = Session(
        "bench", m.Start(interims=interims), config=config, engine=loaded.engine, notes="off", metrics=Metrics()
    )
    pcm = (speech(SECONDS, PAUSE_S) * 32_767).astype("<i2")
    pcm = np.concatenate([pcm, np.zeros(RATE, "<i2")])
    now = 0.0
    for at in range(0, len(pcm), BLOCK):
        session.receive(m.Audio(at, pcm[at : at + BLOCK].tobytes()), now)
        now += BLOCK / RATE
        while jobs := session.take_jobs():
            for job in jobs:
                worker.submit("bench", job, lambda job, result, done: session.complete(job, result, done, now))  # noqa: B023
            worker.run_all()
        captions += [message for message in session.take_messages() if isinstance(message, m.Caption)]
    return captions, worker.busy_s


def taken_back(captions: list[m.Caption]) -> int:
    """Words that were called stable and are not in the next caption of the utterance."""
    count = 0
    for before, after in pairwise(captions):
        if before.utterance == after.utterance and before.stable:
            stable, now = bare(before.stable).split(), bare(after.text).split()
            count += sum(old != new for old, new in zip(stable, now, strict=False)) + max(0, len(stable) - len(now))
    return count


def said() -> str:
    """What is said in the recordings."""
    lines = (RECORDINGS / "transcription.txt").read_text().splitlines()
    return " ".join(re.sub(r"</?s>|\(.*\)", "", line).strip() for line in lines)


def bare(text: str) -> str:
    """The words alone."""
    words = re.sub(r"[^\w\s']", " ", text.casefold()).split()
    return " ".join({"mr": "mister"}.get(word, word) for word in words)


if __name__ == "__main__":
    main()
