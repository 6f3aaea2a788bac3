"""docs/protocol.md says what the code does: every message, field, type and default; every error; a real excerpt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from af3stream import errors
from af3stream.protocol.codec import SUBPROTOCOLS
from af3stream.protocol.features import FEATURES
from af3stream.server.admission import TOKEN_SUBPROTOCOL
from af3stream.server.http import STREAM_PATH
from af3stream.session.acknowledgements import ACK_EVERY_S
from tests.protocol import examples
from tests.protocol.test_trace import TRACE

DOC = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
Row = tuple[str, ...]


def section(heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level, _, _ = heading.partition(" ")
    _, found, rest = DOC.partition(f"\n{heading}\n")
    assert found, f"docs/protocol.md has no section {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str) -> list[Row]:
    """The rows of the first table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines[2:]]


def spelled(kind: msgspec.inspect.Type) -> str:
    """How the document names a type."""
    match kind:
        case msgspec.inspect.Metadata(type=msgspec.inspect.StrType()):
            return "id"
        case msgspec.inspect.Metadata(type=inner):
            return spelled(inner)
        case msgspec.inspect.IntType(ge=low):
            return "integer" if low is None else f"integer ≥ {low}"
        case msgspec.inspect.FloatType(gt=None):
            return "number"
        case msgspec.inspect.FloatType(gt=low, le=high):
            return f"number > {low:g}, ≤ {high:.0f}"
        case msgspec.inspect.StrType():
            return "string"
        case msgspec.inspect.BytesType():
            return "bytes"
        case msgspec.inspect.BoolType():
            return "boolean"
        case msgspec.inspect.NoneType():
            return "null"
        case msgspec.inspect.LiteralType(values=choices):
            return ", ".join(f"`{choice}`" for choice in sorted(choices))
        case msgspec.inspect.UnionType(types=kinds):
            return " or ".join(spelled(each) for each in kinds)
        case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.StrType()):
            return "list of names"
        case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.StructType()):
            return "list of words"
        case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.Metadata()):
            return "list of names"
        case msgspec.inspect.StructType(cls=cls):
            return cls.__name__.lower()
    raise TypeError(f"no name for {kind}")


def rows(cls: type[msgspec.Struct]) -> Iterator[Row]:
    """Field, type, and default or `required`, as the document's table must have them."""
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        default = "required" if field.required else f"`{msgspec.json.encode(field.default).decode()}`"
        yield f"`{field.name}`", spelled(field.type), default


def tag(cls: type[msgspec.Struct]) -> str:
    return str(cls.__struct_config__.tag)


@pytest.mark.parametrize(
    ("heading", "messages"),
    [("## Client messages", examples.CLIENT), ("## Server messages", examples.SERVER)],
)
def test_every_message_is_described_in_its_place(heading: str, messages: tuple[type[msgspec.Struct], ...]) -> None:
    described = re.findall(r"^### `(\w+)`$", section(heading), re.MULTILINE)
    assert described == [tag(cls) for cls in messages]


@pytest.mark.parametrize("cls", [*examples.CLIENT, *examples.SERVER], ids=tag)
def test_every_field_is_described_as_it_is(cls: type[msgspec.Struct]) -> None:
    described = table(section(f"### `{tag(cls)}`"))
    assert [row[:3] for row in described] == list(rows(cls))
    assert all(len(row) == 4 and row[3] for row in described)


def refusals(cls: type[errors.Refusal] = errors.Refusal) -> Iterator[type[errors.Refusal]]:
    """Every kind of refusal."""
    for kind in cls.__subclasses__():
        yield kind
        yield from refusals(kind)


def test_every_error_is_described_as_it_is() -> None:
    def row(cls: type[errors.Refusal]) -> Row:
        close, strikes = (str(cls.close_code), str(cls.strikes)) if cls.close_code else ("–", "–")
        return f"`{cls.code}`", close, strikes, "yes" if cls.retryable else "no"

    assert {row[:4] for row in table(section("## Errors"))} == {row(cls) for cls in refusals()}


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = {(code, close) for code, close in re.findall(r"── \w+ +([a-z_]+) +(\d{4}|-) ", errors.__doc__ or "")}
    assert drawn == {(cls.code, str(cls.close_code or "-")) for cls in refusals()}


def test_every_feature_is_described() -> None:
    assert [name for name, *_ in table(section("## Features"))] == [f"`{name}`" for name in FEATURES]


def test_names_and_numbers_of_the_handshake() -> None:
    handshake = section("## Handshake")
    for name in (STREAM_PATH, TOKEN_SUBPROTOCOL, *SUBPROTOCOLS):
        assert f"`{name}" in handshake
    assert f"every {ACK_EVERY_S * 1_000:.0f} ms" in DOC


def test_the_excerpt_is_real() -> None:
    """Every line of it is a line of the trace, in order; `…` stands for what is left out of a line."""
    (excerpt,) = re.findall(r"```jsonl\n(.*?)```", DOC, re.DOTALL)
    trace = iter(TRACE.read_text(encoding="utf-8").splitlines())
    for line in excerpt.splitlines():
        if line != "…":
            pattern = re.compile(".*".join(map(re.escape, line.split("…"))))
            assert any(pattern.fullmatch(real) for real in trace), f"not in the trace, or not in this order: {line}"
