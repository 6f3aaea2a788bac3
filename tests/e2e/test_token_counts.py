"""A process without the model counts the positions of texts in `mini`'s prompts as the engine reads them."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.prompt import encode_text
from af3stream.engine.factory import Loaded
from af3stream.engine.facts import EngineFacts
from tests.engine.test_facts import TEXTS


@settings(max_examples=100)
@given(TEXTS)
def test_texts_count_as_they_are_read(mini: Loaded, pieces: list[str]) -> None:
    engine, told, text = mini.engine, msgspec.msgpack.encode(mini.facts), "".join(pieces)
    assert isinstance(engine, Af3Engine)
    tokens = msgspec.msgpack.decode(told, type=EngineFacts).tokens
    assert tokens.count(text) == len(encode_text(engine._asking.tokenizer, text))
