"""Whatever was appended, asked, cancelled or rebuilt before, an answer is what `generate` gives from nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import cache

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, PromptPart
from tests.engine import reference
from tests.engine.conftest import answer, new_context, parts_of

pytestmark = pytest.mark.device
Signal = Callable[[float, int], Samples]

QUESTIONS = ("What was said?", "Who spoke last, and where?", "¿Qué? 😀")
TOKENS = 20


@pytest.mark.parametrize("seconds", [70.1, 60.0, 12.0, 0.06])
def test_stock_windows_answer_as_the_stock_processor_and_generate(
    engine: Af3Engine, loaded: LoadedCheckpoint, signal: Signal, seconds: float
) -> None:
    audio = signal(seconds, 1)
    parts = parts_of(engine, loaded.alignment.split(audio))
    context = new_context(engine)
    for end in range(1, len(parts) + 1):
        list(context.extend(parts[:end]))
        for question in QUESTIONS:
            heard = audio[: end * loaded.alignment.window_samples]
            expected = engine.text(reference.stock_reply(loaded, heard, question, TOKENS))
            assert answer(context, parts[:end], question, TOKENS)[0] == expected


def test_windows_of_any_length_with_notes_between_answer_as_generate(
    engine: Af3Engine, loaded: LoadedCheckpoint, signal: Signal
) -> None:
    body = [signal(3.21, 2), "Transcript: one two.\n", signal(17.0, 3), "Transcript: three.\n", signal(0.9, 4)]
    parts = parts_of(engine, body)
    context = new_context(engine)
    for kept in range(len(parts) + 1):
        list(context.extend(parts[:kept]))
        expected = engine.text(reference.reply(loaded, body, QUESTIONS[0], TOKENS))
        assert answer(context, parts, QUESTIONS[0], TOKENS)[0] == expected


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("pieces", [0, 1, 6])
def test_an_answer_that_is_dropped_leaves_the_prefix_as_it_was_then_and_there(
    engine: Af3Engine, loaded: LoadedCheckpoint, signal: Signal, pieces: int
) -> None:
    body = [signal(3.0, 7), "Transcript: one two.\n", signal(4.0, 8)]
    parts = parts_of(engine, body)
    context = new_context(engine)
    list(context.extend(parts[:2]))
    kept = context.kept_tokens
    dropped = context.answer(parts, QUESTIONS[1], TOKENS)
    for _ in range(pieces):
        next(dropped)
    assert engine.is_decoding(dropped) == (pieces == 6)
    assert (context.kept_tokens == kept) == (pieces == 0)
    del dropped
    assert context.kept_tokens == kept
    expected = engine.text(reference.reply(loaded, body, QUESTIONS[0], TOKENS))
    assert answer(context, parts, QUESTIONS[0], TOKENS)[0] == expected


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_every_attention_implementation_answers_alike(any_attention: LoadedCheckpoint, signal: Signal) -> None:
    engine = Af3Engine(any_attention, "tiny")
    body = [signal(4.0, 5), signal(9.0, 6)]
    parts = parts_of(engine, body)
    expected = engine.text(reference.reply(any_attention, body, QUESTIONS[0], TOKENS))
    assert answer(new_context(engine), parts, QUESTIONS[0], TOKENS)[0] == expected


LENGTHS = (0.7, 2.4, 6.05)  # seconds; few, so that references are shared between examples
STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, len(LENGTHS) - 1)),
    st.tuples(st.just("note"), st.integers(0, 1)),
    st.tuples(st.just("ask"), st.integers(0, len(QUESTIONS) - 1)),
    st.tuples(st.just("ask the end"), st.integers(0, len(QUESTIONS) - 1)),
    st.tuples(st.just("cancel"), st.integers(0, 8)),
    st.tuples(st.just("roll"), st.integers(1, 3)),
    st.tuples(st.just("cool"), st.just(0)),
)
NOTES = ("Transcript: a b c.\n", "Transcript: it is.\n")


class History:
    """One context, the body it has been told to keep, and the plain reference for it."""

    def __init__(self, loaded: LoadedCheckpoint, signal: Signal) -> None:
        self._loaded = loaded
        self.engine = Af3Engine(loaded, "tiny")
        self._context = new_context(self.engine)
        self._windows = [signal(length, seed) for seed, length in enumerate(LENGTHS)]
        self._body: list[int | str] = []  # indices of windows, and notes
        self._parts: list[PromptPart] = []

    def do(self, step: str, value: int, expect: Callable[[tuple[int | str, ...], int], str]) -> None:
        match step:
            case "append":
                self._keep(value, parts_of(self.engine, [self._windows[value]])[0])
            case "note":
                self._keep(NOTES[value], parts_of(self.engine, [NOTES[value]])[0])
            case "ask" | "ask the end":
                start = max(0, len(self._body) - 2) if step == "ask the end" else 0
                given = answer(self._context, self._parts[start:], QUESTIONS[value], TOKENS)[0]
                assert given == expect(tuple(self._body[start:]), value)
            case "cancel":
                pieces = self._context.answer(self._parts, QUESTIONS[0], TOKENS)
                for _ in range(value):
                    next(pieces, None)
                pieces.close()
            case "roll":
                self._body, self._parts = self._body[value:], self._parts[value:]
                list(self._context.extend(self._parts))
            case "cool":
                self._context.evict()

    def _keep(self, name: int | str, part: PromptPart) -> None:
        self._body.append(name)
        self._parts.append(part)
        list(self._context.extend(self._parts))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=3, max_size=12))
def test_any_history_answers_as_generate(
    loaded: LoadedCheckpoint, signal: Signal, steps: list[tuple[str, int]]
) -> None:
    history = History(loaded, signal)
    for step, value in [*steps, ("ask", 0)]:
        history.do(step, value, lambda body, question: _expected(loaded, signal, body, question))


@cache
def _expected(loaded: LoadedCheckpoint, signal: Signal, body: tuple[int | str, ...], question: int) -> str:
    whole = [part if isinstance(part, str) else signal(LENGTHS[part], part) for part in body]
    if not any(not isinstance(part, str) for part in whole):
        return _text_only(loaded, whole, question)
    return Af3Engine(loaded, "tiny").text(reference.reply(loaded, whole, QUESTIONS[question], TOKENS))


def _text_only(loaded: LoadedCheckpoint, notes: list[Samples | str], question: int) -> str:
    """`generate` takes no features without a window; the language model alone reads notes."""
    engine = Af3Engine(loaded, "tiny")
    return answer(new_context(engine), parts_of(engine, notes), QUESTIONS[question], TOKENS)[0]


def test_a_question_reads_the_tail_and_itself_only(engine: Af3Engine, signal: Signal) -> None:
    window, tail = parts_of(engine, [signal(5.0, 7), signal(2.0, 8)])
    assert isinstance(tail, AudioSegment)
    context = new_context(engine)
    list(context.extend([window]))
    before = engine.counters.prefill_tokens, engine.counters.encoder_passes
    _, completion = answer(context, [window, tail], QUESTIONS[0], TOKENS)
    question_tokens = len(engine._fusion.question(QUESTIONS[0]))
    assert completion.prefilled == tail.tokens + question_tokens
    assert engine.counters.prefill_tokens - before[0] == completion.prefilled
    assert engine.counters.encoder_passes == before[1]


def test_the_kept_prefix_is_as_long_after_an_answer_as_before(engine: Af3Engine, signal: Signal) -> None:
    parts = parts_of(engine, [signal(3.0, 9)])
    context = new_context(engine)
    list(context.extend(parts))
    kept = context.kept_tokens
    for question in QUESTIONS:
        answer(context, parts, question, TOKENS)
        assert context.kept_tokens == kept


def test_an_append_writes_only_what_is_new(engine: Af3Engine, signal: Signal) -> None:
    parts = parts_of(engine, [signal(4.0, seed) for seed in range(6)])
    context = new_context(engine)
    costs = []
    for end in range(1, len(parts) + 1):
        before = engine.counters.prefill_tokens
        list(context.extend(parts[:end]))
        costs.append(engine.counters.prefill_tokens - before)
    assert costs[1:] == [engine.tokens.frames(64_000)] * 5
    assert engine.counters.rebuilds == 0


def test_notes_after_the_windows_are_set_aside_while_a_question_hears_the_open_window(
    engine: Af3Engine, loaded: LoadedCheckpoint, signal: Signal
) -> None:
    window, tail, note = signal(5.0, 1), signal(2.0, 2), NOTES[0]
    closed, opened, notes = parts_of(engine, [window, tail, note])
    context = new_context(engine)
    list(context.extend([closed, notes]))
    for body, parts in (([window, tail, note], [closed, opened, notes]), ([window, note], [closed, notes])):
        expected = engine.text(reference.reply(loaded, body, QUESTIONS[0], TOKENS))
        assert answer(context, parts, QUESTIONS[0], TOKENS)[0] == expected


def test_a_rebuild_closed_half_way_leaves_the_old_prefix_in_use(
    engine: Af3Engine, loaded: LoadedCheckpoint, signal: Signal
) -> None:
    body = [signal(28.0, seed) for seed in range(3)]
    parts = parts_of(engine, body)
    context = new_context(engine)
    list(context.extend(parts))
    rebuild = context.extend(parts[1:])
    next(rebuild)
    kept = context.kept_tokens
    before = engine.counters.prefill_tokens
    answer(context, parts, QUESTIONS[0], TOKENS)
    assert engine.counters.prefill_tokens - before == len(engine._fusion.question(QUESTIONS[0]))
    rebuild.close()
    assert context.kept_tokens == kept
    expected = engine.text(reference.reply(loaded, body, QUESTIONS[1], TOKENS))
    assert answer(context, parts, QUESTIONS[1], TOKENS)[0] == expected
