"""Follow-ups, captions in place of windows, a system turn and an instruction: what `generate` gives, all of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.context import PrefixContext
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import Completion, Lookup, Text, Turn
from af3stream.engine.jobs import AnswerJob, ExtendJob, Job, Result
from af3stream.engine.prompt_parts import caption_line, note
from af3stream.models.card import Wording
from tests.captioned import captioned
from tests.engine import reference
from tests.engine.conftest import answer, new_context, new_worker, parts_of

pytestmark = pytest.mark.device
Signal = Callable[[float, int], Samples]

TOKENS = 20
CHAT = (Turn("Who spoke?", "Two people, one after the other."), Turn("¿Qué? <|im_end|>", "Rain.\n\nAnd a roof."))
QUESTION = "And who fixes it?"


@pytest.mark.parametrize("turns", [1, 2])
@pytest.mark.parametrize("system", [None, "You are an owl."])
def test_a_follow_up_is_answered_as_the_same_chat_from_the_stock_template(
    loaded: LoadedCheckpoint, signal: Signal, turns: int, system: str | None
) -> None:
    engine = Af3Engine(loaded, "tiny", wording=Wording(system=system))
    chat = [Turn(turn.question.replace("<|im_end|>", "end"), turn.answer) for turn in CHAT[:turns]]
    audio = signal(60.0, 1)
    parts = parts_of(engine, loaded.alignment.split(audio))
    context = new_context(engine)
    list(context.extend(parts[:1]))
    *pieces, completion = context.answer(parts, QUESTION, TOKENS, chat)
    expected = engine.text(reference.stock_reply(loaded, audio, QUESTION, TOKENS, chat, system))
    assert "".join(map(str, pieces)) == expected
    assert isinstance(completion, Completion)
    assert completion.prefilled == parts[1].tokens + len(engine._asking.question_ids(QUESTION, chat))  # type: ignore[union-attr]


def test_the_prefix_is_as_it_was_after_a_follow_up(loaded: LoadedCheckpoint, signal: Signal) -> None:
    engine = Af3Engine(loaded, "tiny")
    body = [signal(3.0, 1), "[0:00] one two.\n"]
    parts, context = parts_of(engine, body), new_context(engine)
    list(context.extend(parts))
    kept = context.kept_tokens
    list(context.answer(parts, QUESTION, TOKENS, CHAT))
    stopped = context.answer(parts, QUESTION, TOKENS, CHAT)
    next(stopped)
    stopped.close()
    assert context.kept_tokens == kept
    assert answer(context, parts, QUESTION, TOKENS)[0] == engine.text(reference.reply(loaded, body, QUESTION, TOKENS))


def test_turns_are_counted_as_they_are_read(loaded: LoadedCheckpoint) -> None:
    engine = Af3Engine(loaded, "tiny", wording=Wording(instruction="Be brief.\n"))
    alone = len(engine._asking.question_ids(QUESTION))
    counted = sum(engine.tokens.count_turn(turn) for turn in CHAT)
    assert len(engine._asking.question_ids(QUESTION, CHAT)) == alone + counted
    assert engine._asking.positions((), QUESTION, CHAT) == engine._asking.positions((), QUESTION) + counted


def test_an_instruction_stands_right_before_each_question_and_in_no_caption(
    loaded: LoadedCheckpoint, signal: Signal
) -> None:
    plain, instructed = Af3Engine(loaded, "tiny"), Af3Engine(loaded, "tiny", wording=Wording(None, "Be brief.\n"))
    audio = signal(30.0, 2)
    chat = [Turn(f"Be brief.\n{turn.question}", turn.answer) for turn in CHAT]
    parts = parts_of(plain, [audio])
    *expected, _ = new_context(plain).answer(parts, f"Be brief.\n{QUESTION}", TOKENS, chat)
    *pieces, _ = new_context(instructed).answer(parts, QUESTION, TOKENS, CHAT)
    assert pieces == expected
    assert instructed.generate([QUESTION], [audio]) == plain.generate([QUESTION], [audio])
    assert captioned(instructed.captioner, audio, max_tokens=9).tokens == (
        captioned(plain.captioner, audio, max_tokens=9).tokens
    )


def test_the_prompt_has_room_for_what_stands_around_a_question(loaded: LoadedCheckpoint) -> None:
    long = Af3Engine(loaded, "tiny", wording=Wording("You are an owl. " * 9, "Be brief. " * 9))
    more = long._asking.overhead - long._fusion.overhead
    assert more > 0 and Af3Engine(loaded, "tiny").capacity.positions - long.capacity.positions == more


# ---- captions in place of windows ------------------------------------------------------------------------------------


def test_a_question_while_a_window_is_half_read_is_answered_over_captions_and_the_window_then_read(
    loaded: LoadedCheckpoint, signal: Signal
) -> None:
    engine, body = Af3Engine(loaded, "tiny"), [signal(28.0, 1), "[0:00] one two.\n", signal(28.0, 2)]
    first, words, second = parts_of(engine, body)
    captions = note([caption_line("and three", 62.5), caption_line("four", 3_725.0, "Anna")])
    said: dict[Job, list[Result]] = {}
    worker, contexts = new_worker(engine), list[PrefixContext]()
    create = engine.context

    def noted(embeddings: Lookup) -> PrefixContext:
        contexts.append(create(embeddings))
        return contexts[-1]

    engine.context = noted  # type: ignore[method-assign]

    def report(job: Job, result: Result, _done: bool) -> None:
        said.setdefault(job, []).append(result)

    read = ExtendJob((first, words), rebuild=False)
    worker.submit("s", read, report)
    worker.run_all()
    (context,) = contexts
    kept = context.kept_tokens
    extend = ExtendJob((first, words, second), rebuild=False)
    worker.submit("s", extend, report)
    for _ in range(5):
        worker.step()
    assert extend not in said and context.kept_tokens > kept  # half of the window is read
    ask = AnswerJob((first, words, captions), QUESTION, TOKENS, CHAT, prefix=2)
    worker.submit("s", ask, report)
    worker.run_all()
    again = AnswerJob((first, words, second), QUESTION, TOKENS, prefix=3)
    worker.submit("s", again, report)
    worker.run_all()

    asked = [*body[:2], "[1:02] and three\n[1:02:05] Anna: four\n"]
    expected = reference.reply(loaded, asked, QUESTION, TOKENS, earlier=CHAT)
    assert _text(said[ask]) == engine.text(expected)
    assert _text(said[again]) == engine.text(reference.reply(loaded, body, QUESTION, TOKENS))
    assert list(said) == [read, ask, extend, again]


def test_captions_after_a_prefix_are_answered_as_generate(loaded: LoadedCheckpoint, signal: Signal) -> None:
    engine, body = Af3Engine(loaded, "tiny"), [signal(6.0, 1), "[0:00] one two.\n", "[0:31] three.\n[0:40] four.\n"]
    parts, context = parts_of(engine, body), new_context(engine)
    list(context.extend(parts[:2]))
    kept = context.kept_tokens
    got, completion = answer(context, parts, QUESTION, TOKENS)
    assert got == engine.text(reference.reply(loaded, body, QUESTION, TOKENS))
    assert (
        completion.prefilled
        == engine._asking.positions(parts, QUESTION) - kept
        == (engine.tokens.count(str(body[2])) + len(engine._asking.question_ids(QUESTION)))
    )


@pytest.mark.parametrize(
    ("start_s", "speaker", "line"),
    [
        (0.0, None, "[0:00] Hello."),
        (62.9, None, "[1:02] Hello."),
        (62.9, "Speaker 1", "[1:02] Speaker 1: Hello."),
        (3_599.99, None, "[59:59] Hello."),
        (3_725.0, None, "[1:02:05] Hello."),
    ],
)
def test_a_caption_carries_its_time_and_its_speaker(start_s: float, speaker: str | None, line: str) -> None:
    assert caption_line("Hello.", start_s, speaker) == line
    assert note([line, line]) == Text(f"{line}\n{line}\n")


def _text(results: list[Result]) -> str:
    return "".join(result for result in results if isinstance(result, str))
