"""Speech in several languages, to evaluate how a session's language is found.

The recordings of people are Debian's asterisk-core-sounds-es, -fr, -it and -ru, each of one speaker, at 8 kHz, with
their texts. They are held out. The clips for development are sentences in Kokoro's Japanese styles, which speak every
language with a strong accent.
"""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import soundfile

from af3stream.audio import SAMPLE_RATE
from training import neural, score
from training.exams import WORDS_MIN, Recording
from training.voices import Samples, read

SOUNDS: Final = Path("/usr/share/asterisk/sounds")
SPEAKERS: Final = {"es": "es_MX_f_Allison", "fr": "fr_CA_f_June", "it": "it_IT_m_Carlo", "ru": "ru_RU_f_IvrvoiceRU"}
TEXTS: Final = "/usr/share/doc/asterisk-core-sounds-{0}/core-sounds-{0}.txt.gz"
SENTENCES: Final = Path(__file__).with_name("languages.json")
ACCENTED: Final = {"en": "en-us", "es": "es-419", "fr": "fr", "it": "it"}  # espeak's names
PAUSE_S: Final = 1.0  # between two recordings of a session
SESSION: Final = 8  # recordings in a session
CHANGES: Final = 4  # recordings in one language, before a session changes it


def people(code: str, share: float) -> list[Recording]:
    """Return recordings of at least six words in a language, spread over all of them.

    Args:
        share: of the recordings; 1 for all.
    """
    found = []
    for line in gzip.decompress(Path(TEXTS.format(code)).read_bytes()).decode("utf-8", "replace").splitlines():
        name, _, text = line.partition(": ")
        path = SOUNDS / SPEAKERS[code] / f"{name.strip()}.wav"
        if len(text.split()) >= WORDS_MIN and not re.search(r"[\d\[\]<>(]", text) and path.exists():
            found.append(Recording(path, text.strip(), code))
    return found[:: max(1, round(1 / share))]


def accented(code: str, folder: Path) -> list[Recording]:
    """Return the sentences of a language as Kokoro speaks them, and synthesise those that are missing."""
    found = []
    for number, text in enumerate(json.loads(SENTENCES.read_text(encoding="utf-8"))[code]):
        path = folder / f"{code}-{number}.wav"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            neural.kokoro(neural.KOKORO_STYLES, text, Random(path.stem), path, ACCENTED[code])
        found.append(Recording(path, text, code))
    return found


def sessions(recordings: Sequence[Recording], folder: Path) -> list[Recording]:
    """Join recordings to sessions of eight, with pauses between them."""
    return list(
        _joined("session", [recordings[at : at + SESSION] for at in range(0, len(recordings), SESSION)], folder)
    )


def changing(languages: Sequence[Sequence[Recording]], folder: Path) -> list[Recording]:
    """Join recordings to sessions that change their language after each four; ``source`` is ``changing``."""
    groups = []
    for place, recordings in enumerate(languages):
        others = languages[(place + 1) % len(languages)]
        groups.append([*recordings[:CHANGES], *others[CHANGES : 2 * CHANGES], *recordings[2 * CHANGES : 3 * CHANGES]])
    return [Recording(joined.path, joined.text, "changing") for joined in _joined("changing", groups, folder)]


def _joined(kind: str, groups: Sequence[Sequence[Recording]], folder: Path) -> Iterator[Recording]:
    pause: Samples = np.zeros(round(PAUSE_S * SAMPLE_RATE), np.float32)
    for group in groups:
        path = folder / f"{kind}-{group[0].source}-{group[0].path.stem}.wav"
        parts = [part for recording in group for part in (read(recording.path), pause)]
        soundfile.write(path, np.concatenate(parts), SAMPLE_RATE)
        yield Recording(path, " ".join(recording.text for recording in group), group[0].source)


def bare(text: str) -> list[str]:
    """Normalise a text to words without accents, which the Spanish texts do not have."""
    letters = unicodedata.normalize("NFD", text.replace("’", "'").replace("'", " "))
    return score.bare("".join(letter for letter in letters if not unicodedata.combining(letter)))
