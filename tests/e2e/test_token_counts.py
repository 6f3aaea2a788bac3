"""A process without the model counts the positions of `mini`'s prompts as the engine reads them."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.contract import Turn
from af3stream.engine.factory import Loaded
from af3stream.engine.facts import EngineFacts
from tests.engine.test_facts import TEXTS


@settings(max_examples=300)
@given(TEXTS, TEXTS)
def test_texts_and_turns_count_as_they_are_read(mini: Loaded, asked: list[str], answered: list[str]) -> None:
    engine, told = mini.engine, msgspec.msgpack.encode(mini.facts)
    assert isinstance(engine, Af3Engine)
    tokens = msgspec.msgpack.decode(told, type=EngineFacts).tokens
    turn, read = Turn("".join(asked), "".join(answered)), engine._asking.positions
    assert tokens.count_turn(turn) == read((), "", [turn]) - read(())
