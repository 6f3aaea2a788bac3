"""Everything that is measured on a GPU, in one run of minutes: random weights in the published sizes, nothing fetched.

Each row is one JSON line: its figures, or why it was skipped or failed. A row has a share of the time. If less is left,
it is skipped; if it takes longer, it is stopped. Ends with 1 if a row failed.
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
from af3stream.engine.contract import AudioSegment, Completion, PromptPart
from af3stream.engine.request import ANSWERS_TOGETHER
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
    """How much is measured.

    Attributes:
        config: of the checkpoint, by its tokenizer.
        windows: kept, in turn; the most last.
        sessions: that are answered together, in turn.
        tokens: of an answer.
        runs: of each of our own figures.
        summed: bytes of memory that are summed for the memory's bandwidth.
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
    """One line: its name, the seconds that it may take, and what measures it."""

    name: str
    share_s: float
    measure: Callable[[], Figures]


class Skipped(Exception):
    """A row that cannot be measured here, and why."""


class TooLate(BaseException):
    """A row took longer than its share. No handler of ordinary errors catches it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print every row; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=470.0, help="for all rows together")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--quick", action="store_true", help="a tiny checkpoint: whether it runs, not what it measures")
    options = parser.parse_args(argv)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    settings = (f"model.device={options.device}", f"model.dtype={options.dtype}")
    check = Check(load(ROOT / "configs" / "gpu.toml", settings).model, QUICK if options.quick else Size())
    return run(check.rows(), time.monotonic() + options.seconds)


def run(rows: Sequence[Row], deadline: float) -> int:
    """Print a line for each row that says what it measured, or why not; return 1 where a row failed, else 0.

    Args:
        deadline: of the monotonic clock.
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
        except Exception as error:  # noqa: BLE001 - whatever fails costs one row
            failed = True
            figures = {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        report("gpu_check", row=row.name, **figures)
        if torch.cuda.is_initialized():
            gc.collect()
            torch.cuda.empty_cache()
    return int(failed)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Stop what takes longer, between two of Python's operations.

    Raises:
        TooLate: then.
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
    """One checkpoint of random weights, and the rows that are measured on it.

    Args:
        config: how the model runs; its name is not looked at.
    """

    def __init__(self, config: ModelConfig, size: Size) -> None:
        self._config = config
        self._size = size
        self._loaded: LoadedCheckpoint | None = None
        self._compiled: Af3Engine | None = None

    def rows(self) -> list[Row]:
        """All rows, in their order; those that compile are last."""
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
        """The engine's tests on this device, in a process of their own."""
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
        """Random weights, made on the device."""
        config, tokenizer = self._config, make_tokenizer()
        model = seeded(self._size.config(tokenizer), tokenizer, dtype=config.dtype, device=config.device)
        self._loaded = describe(model, make_processor(model.config, tokenizer), config)
        weights = sum(parameter.numel() for parameter in model.parameters())
        return {"dtype": config.dtype, "parameters": weights, "positions": self._loaded.positions}

    def _memory(self) -> Figures:
        """MB by part; what is computed with is counted where the device counts its memory."""
        engine = self._engine()
        model, frames = engine._loaded.model, engine.frames(WINDOW_S * RATE)
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
        """Windows at the cost of their length, several in a pass; transformers pads each to 30 s."""
        engine, runs, several = self._engine(), self._size.runs, [speech(WINDOW_S)] * self._config.encode_together
        seconds = {str(s): timed(partial(engine._encode, [speech(s)]), runs) for s in (3, 10, WINDOW_S)}
        return {
            "seconds": seconds,
            "transformers_s": timed(lambda: reference.projected(engine._loaded, speech(3.0)), runs),
            "together": len(several),
            "together_s": timed(lambda: engine._encode(several), runs),
        }

    def _append(self) -> Figures:
        """Each window after those before it, up to the most."""
        engine = self._engine()
        most = self._size.windows[-1]
        sound = AudioSegment(speech(WINDOW_S), engine.frames(WINDOW_S * RATE))
        engine.encode([sound])
        append.ours(engine, sound, 1)  # the first of everything takes longer
        seconds, copied, _ = append.ours(engine, sound, most)
        stock_seconds, stock_copied = append.stock(engine, sound, most)
        return {
            "windows": most,
            "seconds": seconds,
            "transformers_seconds": stock_seconds,
            "bytes_copied_a_token": copied[-1],
            "bytes_transformers_copies_a_token": stock_copied[-1],
        }

    def _first_token(self, windows: int) -> Figures:
        """Seconds to the first token, and how much of an answer is what `generate` writes."""
        engine = self._engine()
        once(lambda: question.generate(engine, [speech(WINDOW_S)]))  # the first of everything takes longer
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
        """An answer over windows of the same audio, and `generate`'s."""
        tokens = self._size.tokens
        pieces = [piece for piece in context.answer(parts, QUESTION, tokens) if not isinstance(piece, Completion)]
        expected = reference.reply(engine._loaded, [speech(WINDOW_S)] * len(parts), QUESTION, tokens)
        return "".join(pieces), engine.text(expected)

    def _decode(self, windows: int, *, compiled: bool = False) -> Figures:
        """Tokens a second, and their share of what the memory gives; see `bench.floor`."""
        engine = self._compiled if compiled else self._engine()
        if engine is None:
            raise Skipped("nothing is compiled")
        endless(engine)
        size = floor.Size(tokens=self._size.tokens, summed=self._size.summed, rounds=self._size.runs)
        figures = floor.measure(engine, windows, size)
        return {"windows": windows, **figures, "floor_tokens_a_second": figures["tokens_a_second"] / figures["share"]}

    def _sessions(self, sessions: int) -> Figures:
        """Tokens a second of so many answers, of a session each, over a window each."""
        engine = self._engine()
        slots = sessions * engine._decoder.new_slot(1).nbytes * engine._loaded.positions
        rate = tokens_a_second(engine, [speech(WINDOW_S / 2)] * sessions, QUESTION, self._size.tokens)
        return {
            "sessions": sessions,
            "written_together": min(sessions, ANSWERS_TOGETHER),
            "tokens_a_second": rate,
            "kv_slots_mb": slots / 1e6,
        }

    def _compile(self) -> Figures:
        """How long `model.compile` takes before anyone is answered."""
        began = time.perf_counter()
        self._compiled = self._engine(compiled=True)
        return {"seconds": time.perf_counter() - began}

    def _cuda_graphs(self) -> Figures:
        """Nothing yet."""
        raise Skipped(
            "not there: a graph reads at fixed addresses, and model.compile runs one function on every layer's weights "
            "and attends over as many positions as a slot holds"
        )


def peak(act: Callable[[], Any]) -> int:
    """Bytes of GPU memory that a call takes at most, beside what was taken before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    act()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def mb(*models: Any) -> float:
    """MB of weights, each once."""
    held: dict[int, int] = {
        id(tensor): tensor.nbytes for model in models for tensor in chain(model.parameters(), model.buffers())
    }
    return sum(held.values()) / 1e6


if __name__ == "__main__":
    sys.exit(main())
