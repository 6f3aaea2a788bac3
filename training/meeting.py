"""Synthesise a meeting of four people for the meeting bot: ``python -m training.meeting OUT.wav``; about 40 minutes.

The text is ``meeting.txt``, one turn a line: ``Name: sentences``. One natural voice speaks all turns; resampling gives
each person a different pitch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from training import neural
from training.voices import read

RATE: Final = 16_000
TEXT: Final = Path(__file__).with_name("meeting.txt")
PITCH: Final = {"Anna": 1.06, "Ben": 0.9, "Carla": 1.02, "David": 0.95}
SENTENCE_PAUSE_S: Final = (0.5, 1.1)
TURN_PAUSE_S: Final = (1.2, 2.4)
SEED: Final = 1


def turns(text: str) -> Iterator[tuple[str, list[str]]]:
    """Return the turns: name and sentences."""
    for line in text.splitlines():
        who, _, words = line.partition(": ")
        yield who, re.split(r"(?<=[.!?]) ", words)


def speak(text: str, folder: Path) -> Iterator[NDArray[np.float32]]:
    """Yield the meeting in sentences and pauses, (n,) float32 at 16 kHz each."""
    random, wav = Random(SEED), folder / "sentence.wav"
    for who, sentences in turns(text):
        for index, sentence in enumerate(sentences):
            neural.joe(sentence, random, wav)
            yield soxr.resample(read(wav), RATE, RATE / PITCH[who]).astype(np.float32)
            pause = TURN_PAUSE_S if index == len(sentences) - 1 else SENTENCE_PAUSE_S
            yield np.zeros(round(random.uniform(*pause) * RATE), np.float32)


def main(out: Path) -> None:
    """Write the recording, and print its length."""
    with TemporaryDirectory() as folder, soundfile.SoundFile(out, "w", RATE, 1, "PCM_16") as file:
        for piece in speak(TEXT.read_text(), Path(folder)):
            file.write(piece)
        print(f"{out}: {file.tell() / RATE / 60:.1f} minutes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
