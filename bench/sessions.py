"""Many sessions at once, on a real server: paced streams of recorded speech, and questions while they are spoken.

Measured against the same whisper-base driven as live servers usually do (`bench.growing`), and against one answer at a
time. ``python -m bench.sessions [--quick]``
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import soundfile

from af3stream.engine.loading import run_in_thread
from af3stream.models.registry import resolve
from bench.common import RATE, RECORDINGS, mini, p95, quick, report, speech
from bench.live import Heard, device_s, server, spoken, stream
from bench.together import tokens_a_second

QUESTION: Final = "What was said about the young man?"
PAUSE_S: Final = 0.8
BEHIND_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        counts: streams at once, with questions.
        asked_every_s: seconds from a stream's question to its next.
        alone_s: length of a stream of captions alone.
        most: streams of captions alone, at most.
        tokens: of an answer that is decoded beside others.
    """

    counts: tuple[int, ...] = (1, 2, 4, 8)
    seconds: float = 90.0
    asked_every_s: float = 20.0
    alone_s: float = 30.0
    most: int = 12
    tokens: int = 64


QUICK: Final = Size((1, 2), 3.0, 1.0, 8.0, 1, 4)


def main(argv: list[str] | None = None) -> None:
    """Measure streams with questions, then captions alone in both ways, then answers written together."""
    size = QUICK if quick(__doc__, argv) else Size()
    with_questions, alone = asyncio.run(served(size))
    usual = growing(size)
    one, four = together(1, size.tokens), together(4, size.tokens)
    report(
        "sessions",
        seconds=size.seconds,
        streams=with_questions,
        captions_alone=alone,
        captions_by_growing_buffer=usual,
        carried=carried(alone),
        carried_by_growing_buffer=carried(usual),
        tokens_a_second_of_one=one,
        tokens_a_second_of_four=four,
        four_over_one=four / one,
    )


# ---- streams on a server ---------------------------------------------------------------------------------------------


async def served(size: Size) -> tuple[dict[str, Any], dict[str, Any]]:
    """What streams with questions got, and streams of captions alone until finals are late; by their number."""
    async with server() as url:
        await stream(url, speech(2.0), question=QUESTION, every_s=1.0)  # the first of everything takes longer
        asked = {str(n): await together_on(url, n, size.seconds, size.asked_every_s) for n in size.counts}
        alone: dict[str, Any] = {}
        for count in numbers(size.most):
            alone[str(count)] = await together_on(url, count, size.alone_s, 0.0)
            if alone[str(count)]["final_lag_p95_s"] >= BEHIND_S:
                break
    return asked, alone


async def together_on(url: str, count: int, seconds: float, every_s: float) -> dict[str, float]:
    """Streams at once, begun within a second of each other."""
    before, began = await device_s(url), time.monotonic()

    async def one(index: int) -> Heard:
        await asyncio.sleep(index / count)
        question = QUESTION if every_s else ""
        return await stream(url, spoken(seconds, PAUSE_S, index), question=question, every_s=every_s)

    heard = await asyncio.gather(*(one(index) for index in range(count)))
    busy = (await device_s(url) - before) / (time.monotonic() - began)
    lags = [lag for one in heard for lag in one.final_lags_s]
    figures = {
        "finals": float(len(lags)),
        "final_lag_mean_s": statistics.fmean(lags),
        "final_lag_p95_s": p95(lags),
        "unfairness": unfairness([one.final_lags_s for one in heard]),
        "device_busy": busy,
    }
    asked = [question for one in heard for question in one.asked]
    if asked:
        first = [question.first - question.at for question in asked]
        figures |= {
            "questions": float(len(asked)),
            "ttft_mean_s": statistics.fmean(first),
            "ttft_p95_s": p95(first),
            "tokens_a_second": written(heard),
        }
    return figures


def unfairness(lags: list[list[float]]) -> float:
    """The worst session's p95 over that of all the others."""
    if len(lags) == 1:
        return 1.0
    others = [[lag for other in lags if other is not one for lag in other] for one in lags]
    return max(p95(one) / p95(rest) for one, rest in zip(lags, others, strict=True))


def written(heard: list[Heard]) -> float:
    """Answers' tokens a second, of all sessions together, while at least one answer is being written."""
    spans = sorted((asked.first, asked.done) for one in heard for asked in one.asked)
    tokens = sum(asked.tokens for one in heard for asked in one.asked)
    busy = reached = 0.0
    for first, done in spans:
        busy += max(0.0, done - max(first, reached))
        reached = max(reached, done)
    return tokens / busy if busy else 0.0


# ---- the usual way ---------------------------------------------------------------------------------------------------


def growing(size: Size) -> dict[str, Any]:
    """Streams of captions alone over one growing buffer each, until they are late; by their number."""
    from faster_whisper import WhisperModel

    from bench.growing import lags_s, listen

    model = run_in_thread(lambda: WhisperModel(str(resolve("mini").captioner), device="cpu", compute_type="int8"))
    list(model.transcribe(speech(2.0), language="en")[0])
    figures: dict[str, Any] = {}
    for count in numbers(size.most):
        streams = [spoken(size.alone_s, PAUSE_S, index) for index in range(count)]
        heard = listen(model, streams)
        lags = [lag for index, one in enumerate(heard) for lag in lags_s(one, ends(size.alone_s, index))]
        commits = [done - end for one in heard for end, done in one.commits]
        figures[str(count)] = {
            "final_lag_mean_s": statistics.fmean(lags),
            "final_lag_p95_s": p95(lags),
            "commit_lag_p95_s": p95(commits) if commits else None,
        }
        if p95(lags) >= BEHIND_S:
            break
    return figures


def ends(seconds: float, index: int) -> list[float]:
    """Where `bench.live.spoken` ends each of its recordings, in seconds."""
    lengths = [soundfile.info(path).duration for path in sorted(RECORDINGS.glob("*.wav"))]
    marks = np.zeros(round(seconds * RATE), bool)
    at = 0.0
    while lengths and at < seconds:
        for length in lengths:
            if at + length < seconds:
                marks[round((at + length) * RATE)] = True
            at += length + PAUSE_S
    return [float(mark) / RATE for mark in np.flatnonzero(np.roll(marks, -round(index * 3.7 * RATE)))]


def carried(by_count: dict[str, Any]) -> int:
    """The most streams whose captions stay less than 3 s behind."""
    return max((int(n) for n, figures in by_count.items() if figures["final_lag_p95_s"] < BEHIND_S), default=0)


def numbers(most: int) -> list[int]:
    """How many streams to try, in turn."""
    return [n for n in (1, 2, 3, 4, 6, 8, 10, 12) if n <= most]


# ---- answers written together ----------------------------------------------------------------------------------------


def together(sessions: int, tokens: int) -> float:
    """Tokens a second of one long answer in each of so many sessions, each over a window of its own."""
    return tokens_a_second(mini(), [spoken(15.0, PAUSE_S, index) for index in range(sessions)], QUESTION, tokens)


if __name__ == "__main__":
    main()
