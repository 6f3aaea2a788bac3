"""Measure the cost, the delay and the accuracy of captions.

1. Input of the utterance's length against input padded to 30 s: the recordings are fed to a session in blocks of 100 ms
   and the engine runs in between, so that only computation is timed.
2. AF3 as the captioner, with the last hypothesis as a draft against without.
3. One live stream on a real server: the delay of each word, and the device time of a second of audio.
``python -m bench.captions [--quick]``
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final
from unittest.mock import patch

import jiwer
import numpy as np
import soundfile

from af3stream.audio.events import Utterance
from af3stream.audio.segmenter import Segmenter
from af3stream.engine import whisper
from af3stream.engine.af3 import decode
from af3stream.engine.af3.engine import Af3Captioner, Af3Engine
from af3stream.engine.captioning import CaptionRequest, Hypothesis, Samples, result_of
from af3stream.engine.factory import Loaded, load_engine
from af3stream.engine.facts import facts_of
from af3stream.engine.worker import Worker
from af3stream.metrics import Metrics
from af3stream.models.registry import resolve
from af3stream.protocol import messages as m
from af3stream.session.session import Session
from bench.common import RATE, RECORDINGS, config, p95, quick, report
from bench.live import Heard, device_s, server, stream
from bench.words import Word, bare, delays, revised, said, taken_back, timed_words

BLOCK: Final = RATE // 10
PAUSE_S: Final = 0.8
WARM_S: Final = 3.0
NEAR_S: Final = 0.1  # the tolerance between two estimates of the end of a word


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench: recordings, repetitions of the live stream, and tokens of a caption by AF3."""

    recordings: int = 5
    live_times: int = 3
    tokens: int = 48


QUICK: Final = Size(1, 1, 8)


def main(argv: list[str] | None = None) -> None:
    """Run all measurements."""
    size = QUICK if quick(__doc__, argv) else Size()
    paths = sorted(RECORDINGS.glob("*.wav"))[: size.recordings]
    recordings: list[Samples] = [soundfile.read(path, dtype="float32")[0] for path in paths]
    loaded = load_engine(config())
    assert isinstance(loaded.engine, Af3Engine)
    ours = measure(loaded, recordings)
    lengths = (whisper.FINAL_LEAST_S, whisper.INTERIM_LEAST_S)
    whisper.FINAL_LEAST_S = whisper.INTERIM_LEAST_S = whisper.FULL_S
    padded = measure(loaded, recordings)
    whisper.FINAL_LEAST_S, whisper.INTERIM_LEAST_S = lengths
    report(
        "captions",
        at_length=ours,
        padded_to_30_s=padded,
        af3=drafted(loaded.engine, recordings, size.tokens),
        live=asyncio.run(live(recordings * size.live_times)),
    )


# ---- computing, without waiting --------------------------------------------------------------------------------------


def measure(loaded: Loaded, recordings: list[Samples]) -> dict[str, Any]:
    """Measure computation per second of audio, word errors, and words that changed after they were shown."""
    finals, finals_busy, _ = listen(loaded, recordings, interims=False)
    captions, all_busy, encoded = listen(loaded, recordings, interims=True)
    seconds = len(spliced(recordings)) / RATE
    shown = [caption for _, caption in captions if not caption.final]
    text = " ".join(caption.text for _, caption in finals)
    figures: dict[str, Any] = {
        "computing_s_a_second_finals_only": finals_busy / seconds,
        "computing_s_a_second_with_interims": all_busy / seconds,
        "interims": len(shown),
        "encoded_over_heard_in_interims": encoded,
        "stable_words_taken_back": taken_back(captions),
    }
    if len(recordings) == len(list(RECORDINGS.glob("*.wav"))):
        figures["word_error_rate"] = jiwer.wer(bare(said()), bare(text))
    return figures


def listen(
    loaded: Loaded, recordings: list[Samples], *, interims: bool
) -> tuple[list[tuple[float, m.Caption]], float, float]:
    """Feed the recordings to a session.

    Returns:
        Its captions, the engine's seconds for captions, and the ratio of encoded to received audio in partial captions.
    """
    worker, captions = Worker(loaded.engine), list[tuple[float, m.Caption]]()
    heard = Encoded(loaded.engine.captioner)
    loaded.engine.captioner = heard
    session = Session(
        "bench",
        m.Start(interims=interims),
        config=config(),
        facts=facts_of(loaded.engine),
        metrics=Metrics(),
    )
    worker.open("bench", session.audio_source, session.note_resident)
    pcm = np.concatenate([(spliced(recordings) * 32_767).astype("<i2"), np.zeros(RATE, "<i2")])
    now = 0.0
    for at in range(0, len(pcm), BLOCK):
        session.receive(m.Audio(at, pcm[at : at + BLOCK].tobytes()), now)
        now += BLOCK / RATE
        while jobs := session.take_jobs():
            for job in jobs:
                worker.submit("bench", job, lambda job, result, done: session.complete(job, result, done, now))  # noqa: B023
            worker.run_all()
        captions += [(now, message) for message in session.take_messages() if isinstance(message, m.Caption)]
    loaded.engine.captioner = heard.captioner
    return captions, heard.busy_s, heard.encoded / max(1, heard.heard)


class Encoded:
    """Wraps a captioner, and counts its time and the received and encoded samples of partial captions.

    Whisper's input is a spectrogram with a frame each 10 ms; another captioner encodes the samples themselves.
    """

    def __init__(self, captioner: Any) -> None:
        self.captioner = captioner
        self.name = captioner.name
        self.revises = captioner.revises
        self.languages, self.translates = captioner.languages, captioner.translates
        self.times_words = captioner.times_words
        self.busy_s = 0.0
        self.heard = self.encoded = 0

    def kv_bytes(self, request: CaptionRequest) -> int:
        """As of the wrapped captioner."""
        return int(self.captioner.kv_bytes(request))

    def caption(self, request: CaptionRequest) -> Iterator[Hypothesis | None]:
        """Caption an utterance with the wrapped captioner, in one pass."""
        features: Callable[..., Any] | None = getattr(self.captioner, "_features", None)
        frames = 0

        def noted(padded: Samples, **options: Any) -> Any:
            nonlocal frames
            assert features is not None
            mel = features(padded, **options)
            frames += mel.shape[-1] * RATE // 100
            return mel

        began = time.perf_counter()
        if features is not None:
            self.captioner._features = noted
        try:
            heard = result_of(self.captioner.caption(request))
        finally:
            self.busy_s += time.perf_counter() - began
            if features is not None:
                self.captioner._features = features
            if not request.final:
                self.heard += len(request.samples)
                self.encoded += frames or len(request.samples)
        yield heard


def spliced(recordings: list[Samples]) -> Samples:
    """Return the recordings with a pause after each.  # (n,) float32"""
    pause = np.zeros(round(PAUSE_S * RATE), np.float32)
    return np.concatenate([piece for recording in recordings for piece in (recording, pause)])


# ---- AF3 as captioner ------------------------------------------------------------------------------------------------


def drafted(engine: Af3Engine, recordings: list[Samples], tokens: int) -> dict[str, Any]:
    """Count language model passes for one hypothesis a second, with and without drafts."""
    captioner = Af3Captioner(engine)
    passes, took = {"with": 0, "without": 0}, {"with": list[float](), "without": list[float]()}
    written: dict[str, list[list[Hypothesis]]] = {}
    for way in passes:
        before = engine.counters.forward_passes
        with nullcontext() if way == "with" else patch.object(decode, "guess", lambda *_: []):
            written[way] = [grow(captioner, recording, way == "with", tokens, took[way]) for recording in recordings]
        passes[way] = engine.counters.forward_passes - before
    lengths = [[len(hypothesis.tokens) for hypothesis in row] for row in written["without"]]
    at_best = sum(1 + max(0, now - last) for row in lengths for last, now in pairwise([0, *row]))
    texts = {way: [hypothesis.text for row in rows for hypothesis in row] for way, rows in written.items()}
    return {
        "hypotheses": len(texts["with"]),
        "passes_with_draft": passes["with"],
        "passes_without": passes["without"],
        "passes_share": passes["with"] / passes["without"],
        "passes_share_if_no_word_ever_changed": at_best / passes["without"],
        "seconds_share": sum(took["with"]) / sum(took["without"]),
        "hypothesis_p95_s": p95(took["with"]),
        "words_the_same": texts["with"] == texts["without"],
    }


def grow(captioner: Af3Captioner, recording: Samples, draft: bool, tokens: int, took: list[float]) -> list[Hypothesis]:
    """Return one hypothesis for each second of a growing recording; the last one covers all of it."""
    last: Hypothesis | None = None
    written = []
    for end in [*range(RATE, len(recording), RATE), len(recording)]:
        began = time.perf_counter()
        request = CaptionRequest(recording[:end], tokens, final=False, draft=last if draft else None)
        last = result_of(captioner.caption(request))
        took.append(time.perf_counter() - began)
        written.append(last)
    return written


# ---- one live stream -------------------------------------------------------------------------------------------------


async def live(recordings: list[Samples]) -> dict[str, Any]:
    """Measure one real-time stream on a real server."""
    words = await asyncio.to_thread(reference, recordings)
    samples = spliced(recordings)
    async with server() as url:
        await stream(url, samples[: round(WARM_S * RATE)])  # warm up
        before = await device_s(url)
        heard = await stream(url, samples)
        busy = await device_s(url) - before
    pauses = [at - last_word_end(words, end) for end, at in pause_ends(samples)]
    return {
        "computing_s_a_second": busy / (len(samples) / RATE),
        "speech_end_to_pause_end_mean_s": statistics.fmean(pauses),
        "speech_end_to_pause_end_p95_s": p95(pauses),
        **shown(heard, words),
    }


def pause_ends(samples: Samples) -> list[tuple[float, float]]:
    """Return the end of each utterance, and of the pause that closes it: its final caption cannot come before.

    Both are seconds. The samples come in blocks of 100 ms, as they are streamed.
    """
    segmenter, ends = Segmenter(config().audio, "speech", whisper.FULL_S), list[tuple[float, float]]()
    for at in range(0, len(samples), BLOCK):
        events = segmenter.push(samples[at : at + BLOCK])
        ends += [(event.end / RATE, (at + BLOCK) / RATE) for event in events if isinstance(event, Utterance)]
    return ends


def reference(recordings: list[Samples]) -> list[Word]:
    """Return the time of each spoken word."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(resolve("mini").captioner), device="cpu", compute_type="int8")
    return timed_words(model, recordings, starts(recordings))


def starts(recordings: list[Samples]) -> list[float]:
    """Return the start of each recording, in seconds."""
    lengths = [0.0, *(len(recording) / RATE + PAUSE_S for recording in recordings[:-1])]
    return [float(start) for start in np.cumsum(lengths)]


def shown(heard: Heard, words: list[Word]) -> dict[str, Any]:
    """Return the figures of the captions of a stream."""
    word_delays = delays(heard.captions, words)
    stable_delays = delays(heard.captions, words, stable=True)
    interims = [at for at, caption in heard.captions if not caption.final]
    to_final = [at - last_word_end(words, caption.end) for at, caption in heard.captions if caption.final]
    return {
        "interims": len(interims),
        "words_matched": len(word_delays) / len(words),
        "word_delay_s": [round(delay, 3) for delay in sorted(word_delays)],
        "word_delay_mean_s": statistics.fmean(word_delays) if word_delays else None,
        "word_delay_p95_s": p95(word_delays) if word_delays else None,
        "stable_word_delay_mean_s": statistics.fmean(stable_delays) if stable_delays else None,
        "speech_end_to_final_mean_s": statistics.fmean(to_final),
        "speech_end_to_final_p95_s": p95(to_final),
        "revision_rate": revised(heard.captions),
    }


def last_word_end(words: list[Word], utterance_end: float) -> float:
    """Return the end of the last word of an utterance, which closes a little later."""
    return max((word.end for word in words if word.end <= utterance_end + NEAR_S), default=utterance_end)


if __name__ == "__main__":
    main()
