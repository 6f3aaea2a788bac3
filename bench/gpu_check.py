"""Run all GPU measurements in a few minutes, on random weights of the published sizes, without downloads.

Each row is one JSON line: its figures, or why it was skipped or failed. Each row has a share of the time. It is skipped
if less is left, and stopped if it takes longer. The exit code is 1 if a row failed.
``python -m bench.gpu_check [--seconds 470] [--device cuda] [--dtype bfloat16] [--quick]``
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from af3stream.config import ModelConfig, load
from af3stream.engine.af3.checkpoint import LoadedCheckpoint, describe
from af3stream.engine.af3.context import PrefixContext
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.contract import Completion, PromptPart
from af3stream.engine.encoded_audio import EncodedAudio
from af3stream.engine.request import MAX_DECODE_BATCH
from bench import append, floor, question
from bench.common import RATE, endless, once, report, speech, timed
from bench.together import tokens_a_second
from tests.checkpoints import make_processor, make_tokenizer, published_config, seeded, tiny_config
from tests.engine import reference

ROOT: Final = Path(__file__).parent.parent
QUESTION: Final = question.QUESTION
WINDOW_S: Final = 30

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the measurements.

    Attributes:
        config: returns the configuration of the checkpoint for a tokenizer.
        windows: numbers of kept windows; the largest last.
        sessions: numbers of sessions that are answered in a batch.
        tokens: tokens of an answer.
        runs: repetitions of each figure of the engine.
        summed: bytes of memory that are summed to measure the bandwidth.
        tests: further arguments for pytest.
    """

    config: Callable[[Any], Any] = published_config
    windows: tuple[int, ...] = (1, 10, 20)
    sessions: tuple[int, ...] = (1, 4, 16, 64)
    tokens: int = 64
    runs: int = 5
    summed: int = 8 * floor.GIB
    tests: tuple[str, ...] = ()


QUICK: Final = Size(
    partial(tiny_config, text="qwen2"), (1, 2), (1, 4), 8, 1, 64 << 20, ("-k", "the_mel_is_as_long_as_the_window")
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its name, its time limit in seconds, and the function that measures it."""

    name: str
    share_s: float
    measure: Callable[[], Figures]


class Skipped(Exception):
    """A row cannot be measured here, with the reason."""


class TooLate(BaseException):
    """A row took longer than its share. It is no ``Exception``, so that ordinary handlers do not catch it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print every row, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=470.0, help="time limit of all rows together")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--quick", action="store_true", help="a tiny checkpoint, to check that the rows run")
    options = parser.parse_args(argv)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    settings = (f"model.device={options.device}", f"model.dtype={options.dtype}")
    check = Check(load(ROOT / "configs" / "gpu.toml", settings).model, QUICK if options.quick else Size())
    return run(check.rows(), time.monotonic() + options.seconds)


def run(rows: Sequence[Row], deadline: float) -> int:
    """Print one line for each row; return 1 if a row failed, and 0 otherwise.

    Args:
        deadline: time of the monotonic clock at which all rows must be done.
    """
    failed = False
    for row in rows:
        left = deadline - time.monotonic()
        began = time.monotonic()
        try:
            if left < row.share_s:
                raise Skipped(f"may take {row.share_s:g} s, {max(0.0, left):.0f} s are left")
            with within(row.share_s):
                figures = row.measure()
            figures = {**figures, "took_s": time.monotonic() - began}
        except Skipped as reason:
            figures = {"skipped": str(reason)}
        except TooLate:
            figures = {"skipped": f"took longer than its share, {row.share_s:g} s"}
        except Exception as error:  # noqa: BLE001 - an error of any kind costs one row only
            failed = True
            figures = {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        report("gpu_check", row=row.name, **figures)
        if torch.cuda.is_initialized():
            gc.collect()
            torch.cuda.empty_cache()
    return int(failed)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Interrupt the block after ``seconds``, between two operations of Python.

    Raises:
        TooLate: when the time is over.
    """

    def late(*_: object) -> None:
        raise TooLate

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


class Check:
    """A checkpoint of random weights, and the rows that are measured on it.

    Args:
        config: configuration of the model; its name is ignored.
    """

    def __init__(self, config: ModelConfig, size: Size) -> None:
        self._config = config
        self._size = size
        self._loaded: LoadedCheckpoint | None = None
        self._compiled: Af3Engine | None = None

    def rows(self) -> list[Row]:
        """Return all rows in order; those that compile are last."""
        size = self._size
        fewest_and_most = size.windows[0], size.windows[-1]
        return [
            Row("machine", 20, self._machine),
            Row("tests", 150, self._tests),
            Row("checkpoint", 60, self._checkpoint),
            Row("memory", 20, self._memory),
            Row("encode", 20, self._encode),
            Row("append", 30, self._append),
            *(Row(f"first_token_{n}", 30, partial(self._first_token, n)) for n in size.windows),
            *(Row(f"decode_{n}", 25, partial(self._decode, n)) for n in fewest_and_most),
            *(Row(f"sessions_{n}", 15 + n / 2, partial(self._sessions, n)) for n in size.sessions),
            Row("compile", 100, self._compile),
            *(Row(f"decode_compiled_{n}", 25, partial(self._decode, n, compiled=True)) for n in fewest_and_most),
            Row("decode_cuda_graphs", 1, self._cuda_graphs),
        ]

    def _engine(self, *, compiled: bool = False) -> Af3Engine:
        """Return a new engine over the same weights."""
        if self._loaded is None:
            raise Skipped("there is no checkpoint")
        loaded = replace(self._loaded, compiled=compiled)
        together, on_host = self._config.encode_together, self._config.embeddings == "host"
        return Af3Engine(loaded, "random", encode_together=together, keep_on_host=on_host)

    def _machine(self) -> Figures:
        device = torch.device(self._config.device)
        figures: Figures = {"device": str(device), "torch": torch.__version__, "transformers": transformers.__version__}
        if device.type == "cuda":
            found = torch.cuda.get_device_properties(device)
            figures |= {"gpu": found.name, "gpu_memory_mb": found.total_memory / 1e6, "cuda": torch.version.cuda}
        return figures

    def _tests(self) -> Figures:
        """Run the engine's tests on this device, in a process of their own."""
        marked = [path for path in sorted(ROOT.glob("tests/engine/test_*.py")) if "mark.device" in path.read_text()]
        without_plugins = ["-c", os.devnull, f"--rootdir={ROOT}", "-p", "no:cacheprovider", "-W", "ignore"]
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                *without_plugins,
                "-m",
                "device",
                *map(str, marked),
                *self._size.tests,
            ],
            cwd=ROOT,
            env=os.environ | {"AF3STREAM_TEST_DEVICE": self._config.device},
            capture_output=True,
            text=True,
            check=False,
        )
        *_, last = done.stdout.splitlines() or ["pytest said nothing"]
        if done.returncode:
            print(done.stdout[-8_000:], done.stderr[-2_000:], sep="\n", file=sys.stderr)
            raise RuntimeError(last)
        counts = {outcome: int(count) for count, outcome in re.findall(r"(\d+) (passed|skipped)", last)}
        return {"passed": counts["passed"], "only_for_a_cpu": counts.get("skipped", 0)}

    def _checkpoint(self) -> Figures:
        """Create the random weights on the device."""
        config, tokenizer = self._config, make_tokenizer()
        model = seeded(self._size.config(tokenizer), tokenizer, dtype=config.dtype, device=config.device)
        self._loaded = describe(model, make_processor(model.config, tokenizer), config)
        weights = sum(parameter.numel() for parameter in model.parameters())
        return {"dtype": config.dtype, "parameters": weights, "positions": self._loaded.positions}

    def _memory(self) -> Figures:
        """Measure MB by part; working memory is included if the device counts its memory."""
        engine = self._engine()
        model, frames = engine._loaded.model, engine.tokens.frames(WINDOW_S * RATE)
        slot, together = engine._decoder.new_slot(engine._loaded.positions), engine.encode_together
        figures = {
            "encoder_mb": mb(model.model.audio_tower, model.model.multi_modal_projector),
            "language_model_mb": mb(model.model.language_model, model.lm_head),
            "kv_slot_mb": slot.nbytes / 1e6,
            "kv_window_mb": slot.nbytes / slot.capacity * frames / 1e6,
            "embeddings_window_mb": engine.frame_bytes * frames / 1e6,
        }
        if model.device.type == "cuda":
            for count in (1, together):
                figures[f"encoding_{count}_mb"] = peak(partial(engine._encode, [speech(WINDOW_S)] * count)) / 1e6
        return figures

    def _encode(self) -> Figures:
        """Measure encoding windows of their own length in batches, against transformers, which pads each to 30 s."""
        engine, runs, several = self._engine(), self._size.runs, [speech(WINDOW_S)] * self._config.encode_together
        seconds = {str(s): timed(partial(engine._encode, [speech(s)]), runs) for s in (3, 10, WINDOW_S)}
        return {
            "seconds": seconds,
            "transformers_s": timed(lambda: reference.projected(engine._loaded, speech(3.0)), runs),
            "together": len(several),
            "together_s": timed(lambda: engine._encode(several), runs),
        }

    def _append(self) -> Figures:
        """Measure appending each window after the previous ones."""
        engine = self._engine()
        most = self._size.windows[-1]
        audio = EncodedAudio()
        (sound,) = audio.encode(engine, [speech(WINDOW_S)])
        append.ours(engine, audio, sound, 1)  # warm up
        seconds, copied, _ = append.ours(engine, audio, sound, most)
        stock_seconds, stock_copied = append.stock(engine, audio.embeddings(sound), most)
        return {
            "windows": most,
            "seconds": seconds,
            "transformers_seconds": stock_seconds,
            "bytes_copied_a_token": copied[-1],
            "bytes_transformers_copies_a_token": stock_copied[-1],
        }

    def _first_token(self, windows: int) -> Figures:
        """Measure the time to the first token, and how much of an answer equals that of `generate`."""
        engine = self._engine()
        once(lambda: question.generate(engine, [speech(WINDOW_S)]))  # warm up
        kept = question.context_of(engine, windows)
        took = question.measure(engine, kept, self._size.runs)
        ours, theirs = self._replies(engine, *kept)
        return {
            "windows": windows,
            "seconds": took,
            "sooner_than_generate": took["generate"] / took["kept"],
            "sooner_than_generate_with_10s_open": took["generate_open"] / took["open"],
            "same_as_generate": ours == theirs,
            "characters": len(theirs),
            "characters_the_same": sum(
                1 for _ in takewhile(lambda two: two[0] == two[1], zip(ours, theirs, strict=False))
            ),
        }

    def _replies(self, engine: Af3Engine, context: PrefixContext, parts: list[PromptPart]) -> tuple[str, str]:
        """Return an answer over windows of the same audio, and that of `generate`."""
        tokens = self._size.tokens
        pieces = [piece for piece in context.answer(parts, QUESTION, tokens) if not isinstance(piece, Completion)]
        expected = reference.reply(engine._loaded, [speech(WINDOW_S)] * len(parts), QUESTION, tokens)
        return "".join(pieces), engine.text(expected)

    def _decode(self, windows: int, *, compiled: bool = False) -> Figures:
        """Measure tokens per second, and their share of the memory bandwidth; see `bench.floor`."""
        engine = self._compiled if compiled else self._engine()
        if engine is None:
            raise Skipped("nothing is compiled")
        endless(engine)
        size = floor.Size(tokens=self._size.tokens, summed=self._size.summed, rounds=self._size.runs)
        figures = floor.measure(engine, windows, size)
        return {"windows": windows, **figures, "floor_tokens_a_second": figures["tokens_a_second"] / figures["share"]}

    def _sessions(self, sessions: int) -> Figures:
        """Measure tokens per second of several sessions, one answer and one window each."""
        engine = self._engine()
        slots = sessions * engine._decoder.new_slot(1).nbytes * engine._loaded.positions
        rate = tokens_a_second(engine, [speech(WINDOW_S / 2)] * sessions, QUESTION, self._size.tokens)
        return {
            "sessions": sessions,
            "written_together": min(sessions, MAX_DECODE_BATCH),
            "tokens_a_second": rate,
            "kv_slots_mb": slots / 1e6,
        }

    def _compile(self) -> Figures:
        """Measure how long `model.compile` takes before the first answer."""
        began = time.perf_counter()
        self._compiled = self._engine(compiled=True)
        return {"seconds": time.perf_counter() - began}

    def _cuda_graphs(self) -> Figures:
        """Not implemented."""
        raise Skipped(
            "not there: a graph reads at fixed addresses, and model.compile runs one function on every layer's weights "
            "and attends over as many positions as a slot holds"
        )


def peak(act: Callable[[], Any]) -> int:
    """Return the peak bytes of GPU memory that a call adds."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    act()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def mb(*models: Any) -> float:
    """Return MB of weights, each counted once."""
    held: dict[int, int] = {
        id(tensor): tensor.nbytes for model in models for tensor in chain(model.parameters(), model.buffers())
    }
    return sum(held.values()) / 1e6


if __name__ == "__main__":
    sys.exit(main())
