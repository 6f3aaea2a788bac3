"""Measure our server beside WhisperLive on the same real-time streams, in the same run.

Both servers are processes with the same whisper-base weights, partial captions and the default settings. They may use
all cores, and their OpenMP threads wait in the same way. Our server detects the language; WhisperLive is told it. The
streams are parts of ``training/meeting.txt`` in natural voices. The servers take turns.
``python -m bench.peers [--quick]``; it needs the extra ``training``, and installs WhisperLive into the cache folder.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jiwer
import numpy as np

from af3stream.config import cache_dir
from af3stream.engine.captioning import Samples
from af3stream.engine.loading import run_in_thread
from af3stream.models.registry import resolve
from bench import live, whisper_live
from bench.common import RATE, p95, quick, report
from bench.screens import Screen, final_delays, of_captions, word_delays
from bench.words import Word, bare, timed_words
from training import free, meeting
from training.voices import read

SILENCE_S: Final = 3.0  # after a conversation, as a microphone that stays open
WARM_S: Final = 3.0

Stream = Callable[[Samples], Awaitable[list[Screen]]]


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench: numbers of concurrent streams, and words of a conversation, at least."""

    counts: tuple[int, ...] = (1, 2, 4)
    words: int = 70


QUICK: Final = Size((1,), 15)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A spoken conversation: its text, its audio (n,) float32 at 16 kHz, and the times of its words."""

    text: str
    samples: Samples
    words: list[Word]


def main(argv: list[str] | None = None) -> None:
    """Measure both servers at each number of streams."""
    size = QUICK if quick(__doc__, argv) else Size()
    python = whisper_live.installed()
    spoken = run_in_thread(lambda: conversations(max(size.counts), size.words))
    report(
        "peers",
        seconds=[len(one.samples) / RATE for one in spoken],
        whisper_live_version=whisper_live.VERSION,
        by_streams=asyncio.run(measure(python, spoken, size.counts)),
    )


# ---- the streams -----------------------------------------------------------------------------------------------------


def texts(count: int, words: int) -> list[str]:
    """Return consecutive parts of the meeting, each of whole turns with at least so many words."""
    parts = [""]
    for _, sentences in meeting.turns(meeting.TEXT.read_text()):
        if len(parts[-1].split()) >= words:
            parts.append("")
        parts[-1] = " ".join([*parts[-1].split(), *sentences])
    return parts[:count]


def conversations(count: int, words: int) -> list[Conversation]:
    """Return conversations and the time of each word; what is synthesised is stored in the cache folder."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(resolve("mini").captioner), device="cpu", compute_type="int8")
    silence = np.zeros(round(SILENCE_S * RATE), np.float32)
    spoken = []
    for number, text in enumerate(texts(count, words)):
        samples = np.concatenate([read(recording(text, f"meeting-{words}-{number}")), silence])
        spoken.append(Conversation(text, samples, timed_words(model, [samples], [0.0])))
    return spoken


def recording(text: str, name: str) -> Path:
    """Return the recording of a text, and synthesise it if it is missing."""
    return free.Free(meeting.TEXT.parent, cache_dir() / "peers").recording(free.Conversation(name, text, []))


# ---- the servers -----------------------------------------------------------------------------------------------------


async def measure(python: Path, spoken: list[Conversation], counts: Sequence[int]) -> dict[str, Any]:
    """Return the figures of both servers, by the number of streams."""
    theirs = whisper_live.command(python, Path(str(resolve("mini").captioner)))
    async with (
        live.process(live.command(), live.LISTENS, environment()) as (our_process, url),
        live.process(theirs, whisper_live.LISTENS, environment()) as (their_process, address),
    ):

        async def to_us(samples: Samples) -> list[Screen]:
            return of_captions((await live.stream(url, samples)).captions)

        async def to_them(samples: Samples) -> list[Screen]:
            return await whisper_live.stream(address, samples)

        for stream in (to_us, to_them):
            await stream(spoken[0].samples[: round(WARM_S * RATE)])
        by_streams = {}
        for count in counts:
            ours = await together(to_us, our_process, spoken[:count])
            other = await together(to_them, their_process, spoken[:count])
            by_streams[str(count)] = {
                "ours": ours,
                "whisper_live": other,
                "computing_share": ours["computing_s_a_second"] / other["computing_s_a_second"],
            }
            print(f"streams: {count}, {by_streams[str(count)]}", file=sys.stderr, flush=True)
    return by_streams


def environment() -> dict[str, str]:
    """Return the environment of both servers: that which `af3stream.engine` sets."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}


async def together(stream: Stream, process: int, spoken: list[Conversation]) -> dict[str, Any]:
    """Run concurrent streams, which start within a second of each other."""

    async def one(index: int) -> list[Screen]:
        await asyncio.sleep(index / len(spoken))
        return await stream(spoken[index].samples)

    before = live.cpu_s(process)
    screens = await asyncio.gather(*(one(index) for index in range(len(spoken))))
    computing = live.cpu_s(process) - before
    seconds = sum(len(one.samples) for one in spoken) / RATE
    return {"computing_s_a_second": computing / seconds, **figures(screens, spoken)}


def figures(screens: Sequence[list[Screen]], spoken: Sequence[Conversation]) -> dict[str, Any]:
    """Return the errors and delays of concurrent streams.

    Raises:
        RuntimeError: if nothing was shown of a stream.
    """
    if not all(screens):
        raise RuntimeError("a stream got no captions")
    pairs = list(zip(screens, spoken, strict=True))
    delays = [delay for shown, one in pairs for delay in word_delays(shown, one.words)]
    finals = [delay for shown, one in pairs for delay in final_delays(shown, one.words)]
    texts = [" ".join(shown[-1].words()) for shown in screens]
    return {
        "word_error_rate": jiwer.wer([bare(one.text) for one in spoken], texts),
        "words_timed": len(delays) / sum(len(one.words) for one in spoken),
        "word_delay_mean_s": statistics.fmean(delays) if delays else None,
        "word_delay_p95_s": p95(delays) if delays else None,
        "finals": len(finals),
        "speech_end_to_final_mean_s": statistics.fmean(finals) if finals else None,
        "speech_end_to_final_p95_s": p95(finals) if finals else None,
    }


if __name__ == "__main__":
    main()
