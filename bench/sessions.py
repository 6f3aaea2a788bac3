"""Measure many sessions on a real server: real-time streams of speech, with questions.

The alternatives are the same whisper-base over a growing buffer (`bench.growing`), and one answer at a time.
``python -m bench.sessions [--quick]``
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable
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
    """Size of the bench.

    Attributes:
        counts: numbers of concurrent streams with questions.
        asked_every_s: interval between the questions of a stream.
        alone_s: length of a stream without questions.
        most: the largest number of streams without questions.
        tokens: tokens of an answer in a batch.
    """

    counts: tuple[int, ...] = (1, 2, 4, 8)
    seconds: float = 90.0
    asked_every_s: float = 20.0
    alone_s: float = 30.0
    most: int = 12
    tokens: int = 64


QUICK: Final = Size((1, 2), 3.0, 1.0, 8.0, 1, 4)


def main(argv: list[str] | None = None) -> None:
    """Measure streams with questions, streams without questions in both ways, and batched answers."""
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
    """Measure streams with questions, and more and more streams without, until finals are late; by their number."""
    async with server() as url:
        await stream(url, speech(2.0), question=QUESTION, every_s=1.0)  # warm up
        asked = {str(n): await together_on(url, n, size.seconds, size.asked_every_s) for n in size.counts}
        alone: dict[str, Any] = {}
        for count in numbers(size.most):
            alone[str(count)] = await together_on(url, count, size.alone_s, 0.0)
            if alone[str(count)]["final_lag_p95_s"] >= BEHIND_S:
                break
    return asked, alone


async def together_on(url: str, count: int, seconds: float, every_s: float) -> dict[str, Any]:
    """Run concurrent streams, which start within a second of each other."""
    before, began = await device_s(url), time.monotonic()

    async def one(index: int) -> Heard:
        await asyncio.sleep(index / count)
        question = QUESTION if every_s else ""
        return await stream(url, spoken(seconds, PAUSE_S, index), question=question, every_s=every_s)

    heard = await asyncio.gather(*(one(index) for index in range(count)))
    busy = (await device_s(url) - before) / (time.monotonic() - began)
    lags = [lag for one in heard for lag in one.final_lags_s]
    figures: dict[str, Any] = {
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
            "answer_tokens": [question.tokens for question in asked],
            "tokens_a_second": tokens_a_second_of((one.at, one.done, one.tokens) for one in asked),
        }
    return figures


def unfairness(lags: list[list[float]]) -> float:
    """Return the largest ratio of one session's p95 to that of the others."""
    if len(lags) == 1:
        return 1.0
    others = [[lag for other in lags if other is not one for lag in other] for one in lags]
    return max(p95(one) / p95(rest) for one, rest in zip(lags, others, strict=True))


def tokens_a_second_of(answers: Iterable[tuple[float, float, int]]) -> float:
    """Return the tokens per second of all sessions, from the first question to the end of the last answer.

    Args:
        answers: of each, the time of its question and of its end, and its tokens.
    """
    asked, done, tokens = zip(*answers, strict=True)
    return float(sum(tokens) / (max(done) - min(asked)))


# ---- growing buffers -------------------------------------------------------------------------------------------------


def growing(size: Size) -> dict[str, Any]:
    """Measure more and more streams over growing buffers, until they are late; by their number."""
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
    """Return the ends of the recordings in the audio of `bench.live.spoken`, in seconds."""
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
    """Return the most streams whose captions are less than 3 s behind."""
    return max((int(n) for n, figures in by_count.items() if figures["final_lag_p95_s"] < BEHIND_S), default=0)


def numbers(most: int) -> list[int]:
    """Return the numbers of streams to try."""
    return [n for n in (1, 2, 3, 4, 6, 8, 10, 12) if n <= most]


# ---- batched answers -------------------------------------------------------------------------------------------------


def together(sessions: int, tokens: int) -> float:
    """Return the tokens per second of one long answer in each session, each over a window of its own."""
    return tokens_a_second(mini(), [spoken(15.0, PAUSE_S, index) for index in range(sessions)], QUESTION, tokens)


if __name__ == "__main__":
    main()
