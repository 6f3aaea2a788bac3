"""Compare formats of the weights on a CPU: float32, compiled code over halves, eight bits, and bfloat16.

Measured are memory of the language model, tokens per second, appending a window, and the words of AF3's captions.
``python -m bench.weights [--quick]``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import jiwer
import soundfile

from af3stream.engine.af3.engine import Af3Captioner, Af3Engine
from af3stream.engine.captioning import CaptionRequest, result_of
from af3stream.engine.encoded_audio import EncodedAudio
from bench.common import RECORDINGS, endless, loaded, quick, report, speech, timed
from bench.floor import tensors, written_in
from bench.words import bare, said

QUESTION: Final = "What was said about the young man?"
WAYS: Final = {
    "float32": (),
    "compiled": ("model.compile=true",),
    "int8": ("model.weights=int8",),
    "bfloat16": ("model.dtype=bfloat16",),
}


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench: recordings, tokens of a caption and of an answer, and repetitions."""

    recordings: int = 5
    tokens: int = 64
    runs: int = 3


QUICK: Final = Size(1, 8, 1)


def main(argv: list[str] | None = None) -> None:
    """Measure each format, and how its words differ from those of float32."""
    size = QUICK if quick(__doc__, argv) else Size()
    texts, figures = dict[str, str](), dict[str, dict[str, float]]()
    for way, settings in WAYS.items():
        texts[way], figures[way] = measure(loaded(*settings), size)
    for way, text in texts.items():
        figures[way]["words_unlike_float32"] = jiwer.wer(texts["float32"] or "-", text)
        if size.recordings == len(list(RECORDINGS.glob("*.wav"))):
            figures[way]["word_error_rate"] = jiwer.wer(bare(said()), text)
    report("weights", by_weights=figures)


def measure(engine: Af3Engine, size: Size) -> tuple[str, dict[str, float]]:
    """Caption the recordings with AF3, and return the captions and the figures."""
    captioner, paths = Af3Captioner(engine), sorted(RECORDINGS.glob("*.wav"))[: size.recordings]
    recordings = [soundfile.read(path, dtype="float32")[0] for path in paths]
    heard = [result_of(captioner.caption(CaptionRequest(each, size.tokens))).text for each in recordings]
    endless(engine)
    audio = EncodedAudio()
    (first,) = audio.encode(engine, [speech(30.0)])
    (second,) = audio.repeat(first, 1)
    context = engine.context(audio.embeddings)
    list(context.extend([first]))
    one = timed(lambda: written_in(context, [first], 1), size.runs)
    many = timed(lambda: written_in(context, [first], size.tokens + 1), size.runs)

    def append() -> None:
        list(context.extend([first]))
        list(context.extend([first, second]))

    return bare(" ".join(heard)), {
        "language_model_mb": bytes_of(engine._loaded.model.model.language_model) / 1e6,
        "tokens_a_second": size.tokens / (many - one),
        "append_s": timed(append, size.runs),
    }


def bytes_of(model: Any) -> int:
    """Return the bytes of parameters and buffers."""
    return sum(tensor.nbytes for tensor in tensors(model).values())


if __name__ == "__main__":
    main()
