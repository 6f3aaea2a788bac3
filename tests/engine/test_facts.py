"""What a session knows of an engine crosses to another process, and counts there as the engine does."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3stream.engine.af3.prompt import encode_text
from af3stream.engine.captioning import NamedSound
from af3stream.engine.contract import Turn
from af3stream.engine.facts import EngineFacts, facts_of
from af3stream.engine.scripted import ScriptedEngine, ScriptedSounds
from af3stream.engine.token_counter import TokenizerCounter
from tests.checkpoints import make_tokenizer

CONTROL: Final = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<sound>", "<tool_call>", "<|audio_bos|>", "<think>")
TEXTS: Final = st.lists(st.one_of(st.text(), st.sampled_from(CONTROL), st.sampled_from((" ", "\n", "ï", "日本語"))))


def crossed(facts: EngineFacts) -> EngineFacts:
    """What another process reads."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(facts), type=EngineFacts)


def test_facts_are_serialisable() -> None:
    engine = ScriptedEngine()
    engine.sounds = ScriptedSounds(NamedSound("A bell.", 0.9))
    facts = facts_of(engine, "all", "uncaptioned", "for research only")
    assert crossed(facts) == facts
    assert (facts.name, facts.captioner.name, facts.sure, facts.voices) == ("scripted", "scripted", 0.5, True)


def test_an_engine_without_sounds_and_voices_says_so() -> None:
    engine = ScriptedEngine()
    engine.voices = None
    assert (facts_of(engine).sure, facts_of(engine).voices) == (None, False)


class Counts:
    """A tokenizer, and the counter of another process."""

    def __init__(self, tokenizer: Any, counter: TokenizerCounter) -> None:
        self.tokenizer = tokenizer
        self.counter = msgspec.msgpack.decode(msgspec.msgpack.encode(counter), type=TokenizerCounter)

    def check(self, text: str) -> None:
        """Compare the counter with what stands in a prompt."""
        assert self.counter.count(text) == len(encode_text(self.tokenizer, text))


@pytest.fixture(scope="module")
def tiny() -> Counts:
    from af3stream.engine.af3.alignment import Alignment

    tokenizer = make_tokenizer()
    return Counts(tokenizer, TokenizerCounter.of(tokenizer, Alignment(16_000, 30, 160, 20), 7))


@given(TEXTS)
def test_a_text_counts_as_it_is_read(tiny: Counts, pieces: list[str]) -> None:
    tiny.check("".join(pieces))


def test_a_turn_counts_with_the_template_around_it(tiny: Counts) -> None:
    turn = Turn("Who spoke?", "Anna <|im_end|>")
    assert tiny.counter.count_turn(turn) == 7 + tiny.counter.count(turn.question) + tiny.counter.count(turn.answer)


def test_several_threads_may_count_at_once(tiny: Counts) -> None:
    texts = [f"word {'and ' * (i % 50)}<sound>" for i in range(2_000)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(tiny.counter.count, texts)) == [tiny.counter.count(text) for text in texts]


def test_counting_needs_neither_torch_nor_transformers(tiny: Counts, tmp_path: Path) -> None:
    (tmp_path / "counter").write_bytes(msgspec.msgpack.encode(tiny.counter))
    code = f"""
import sys, msgspec
from af3stream.engine.token_counter import TokenizerCounter
counter = msgspec.msgpack.decode(open({str(tmp_path / "counter")!r}, "rb").read(), type=TokenizerCounter)
print(counter.count("Who spoke?"), *{{"torch", "transformers"}} & set(sys.modules))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(tiny.counter.count("Who spoke?"))]
