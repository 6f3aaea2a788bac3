"""Every message there can be: examples of each field's type, in each kind of message."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from af3stream.protocol.messages import ClientMessage, ServerMessage

CLIENT = ClientMessage.__args__
SERVER = ServerMessage.__args__

_INT = st.integers(-(2**63), 2**64 - 1)
_FLOAT = st.floats(allow_nan=False, allow_infinity=False)


def values(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """What a field of this type may hold."""
    match kind:
        case msgspec.inspect.Metadata(type=inner):
            return values(inner)
        case msgspec.inspect.IntType(ge=low, le=high):
            return _INT if low is None else st.integers(low, high or 2**63)
        case msgspec.inspect.FloatType(gt=low, le=high):
            return _FLOAT if low is None else st.floats(low, high, exclude_min=True)
        case msgspec.inspect.StrType(pattern=None, min_length=low, max_length=high):
            return st.text(st.characters(exclude_categories=["Cs"]), min_size=low or 0, max_size=high or 40)
        case msgspec.inspect.StrType(pattern=pattern):
            return st.from_regex(pattern)
        case msgspec.inspect.BytesType():
            return st.binary(max_size=40)
        case msgspec.inspect.BoolType():
            return st.booleans()
        case msgspec.inspect.NoneType():
            return st.none()
        case msgspec.inspect.LiteralType(values=choices):
            return st.sampled_from(choices)
        case msgspec.inspect.VarTupleType(item_type=item):
            return st.lists(values(item), max_size=4).map(tuple)
        case msgspec.inspect.UnionType(types=kinds):
            return st.one_of([values(each) for each in kinds])
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: values(field.type) for field in fields})
    raise TypeError(f"no examples of {kind}")


def of(cls: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Messages of one kind."""
    return values(msgspec.inspect.type_info(cls))


any_client_message = st.one_of([of(cls) for cls in CLIENT])
any_server_message = st.one_of([of(cls) for cls in SERVER])
