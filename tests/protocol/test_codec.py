"""The wire: what is encoded is decoded again; anything else parses, or is refused, never anything else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from af3stream.errors import BadFormat, BadMessage, BadOffset, BadText, Refusal, WrongFrame
from af3stream.protocol.codec import JSON, MSGPACK, SUBPROTOCOLS, Codec, client_codec, server_codec
from af3stream.protocol.features import FEATURES, FOLLOW_UPS, SOUNDS, restrict
from af3stream.protocol.messages import Answer, AnswerDelta, Ask, Cancel, ClientMessage, End, Sound, Start
from tests.protocol import examples

SECRET = "sesame"


def assert_parses_or_refuses(codec: Codec[Any], frame: bytes | str) -> Any:
    """The invariant of this file."""
    try:
        return codec.decode(frame)
    except (BadMessage, BadFormat, BadOffset, BadText):
        return None


def spell(subprotocol: str, tree: object) -> bytes | str:
    """Any map, message or not, as a frame."""
    return msgspec.msgpack.encode(tree) if subprotocol == MSGPACK else msgspec.json.encode(tree).decode()


def as_frame(subprotocol: str, raw: bytes) -> bytes | str:
    return raw if subprotocol == MSGPACK else raw.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
class TestRoundTrip:
    @pytest.mark.parametrize("cls", examples.CLIENT)
    @settings(max_examples=25)
    @given(data=st.data())
    def test_what_a_client_says_arrives(self, cls: type[msgspec.Struct], subprotocol: str, data: st.DataObject) -> None:
        message = data.draw(examples.of(cls))
        assert server_codec(subprotocol).decode(client_codec(subprotocol).encode(message)) == message

    @pytest.mark.parametrize("cls", examples.SERVER)
    @settings(max_examples=25)
    @given(data=st.data())
    def test_what_a_server_says_arrives(self, cls: type[msgspec.Struct], subprotocol: str, data: st.DataObject) -> None:
        message = data.draw(examples.of(cls))
        assert client_codec(subprotocol).decode(server_codec(subprotocol).encode(message)) == message


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
class TestFuzz:
    @given(raw=st.binary(max_size=200))
    def test_any_bytes(self, subprotocol: str, raw: bytes) -> None:
        assert_parses_or_refuses(server_codec(subprotocol), as_frame(subprotocol, raw))

    @given(message=examples.any_client_message, data=st.data())
    def test_a_damaged_message(self, subprotocol: str, message: ClientMessage, data: st.DataObject) -> None:
        codec = server_codec(subprotocol)
        frame = codec.encode(message)
        raw = bytearray(frame if isinstance(frame, bytes) else frame.encode())
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        assert_parses_or_refuses(codec, as_frame(subprotocol, bytes(raw)))

    @given(message=examples.any_client_message, data=st.data())
    def test_a_truncated_message(self, subprotocol: str, message: ClientMessage, data: st.DataObject) -> None:
        codec = server_codec(subprotocol)
        frame = codec.encode(message)
        with pytest.raises(BadMessage):
            codec.decode(frame[: data.draw(st.integers(0, len(frame) - 1))])

    @given(message=examples.any_client_message)
    def test_trailing_data(self, subprotocol: str, message: ClientMessage) -> None:
        codec = server_codec(subprotocol)
        frame = codec.encode(message)
        with pytest.raises(BadMessage):
            codec.decode(frame + frame)


@pytest.mark.parametrize(
    ("subprotocol", "frame"),
    [
        pytest.param(MSGPACK, b"\x91" * 1_000_000, id="nested arrays"),
        pytest.param(MSGPACK, b"\x81\xa4type" * 200_000, id="nested maps"),
        pytest.param(MSGPACK, b"\x82\xa4type\xa3end\xa5total" + b"\x91" * 900_000, id="nested in a field"),
        pytest.param(MSGPACK, b"\xdd\x00\x0f\xff\xff" + b"\x80" * 0xFFFFF, id="a million empty maps"),
        pytest.param(MSGPACK, b"\xdf\xff\xff\xff\xff", id="a map that claims four billion keys"),
        pytest.param(MSGPACK, b"\x81\xa4type\xc6\xff\xff\xff\xff", id="bytes that claim four gigabytes"),
        pytest.param(MSGPACK, b"\x81\xa4type\xc7\x01\x05\x00", id="an extension type"),
        pytest.param(MSGPACK, b"", id="nothing"),
        pytest.param(JSON, "[" * 1_000_000, id="nested JSON arrays"),
        pytest.param(JSON, '{"type":' * 200_000, id="nested JSON objects"),
        pytest.param(JSON, f'{{"type":"end","total":{"9" * 100_000}}}', id="a number of 100 000 digits"),
        pytest.param(JSON, '{"type":"audio","offset":0,"pcm":"?"}', id="not base64"),
    ],
)
def test_bombs_and_nonsense(subprotocol: str, frame: bytes | str) -> None:
    with pytest.raises(BadMessage):
        server_codec(subprotocol).decode(frame)


ASK = {"type": "ask", "id": "q", "text": "What?"}


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
@pytest.mark.parametrize(
    "tree",
    [
        pytest.param({"type": SECRET}, id="unknown type"),
        pytest.param({"type": "ready"}, id="a server's message"),
        pytest.param({"id": "q", "text": "What?"}, id="no type"),
        pytest.param({**ASK, SECRET: 1}, id="unknown field"),
        pytest.param({"type": "ask", "id": "q"}, id="missing field"),
        pytest.param({**ASK, "text": 5}, id="wrong type"),
        pytest.param({**ASK, "id": f"../{SECRET}"}, id="an id that is a path"),
        pytest.param({**ASK, "id": f"{SECRET}\n"}, id="an id that ends its line"),
        pytest.param({**ASK, "id": SECRET * 20}, id="an id too long"),
        pytest.param({**ASK, "id": ""}, id="an empty id"),
        pytest.param({**ASK, "max_tokens": 0}, id="no tokens"),
        pytest.param({**ASK, "after": 0}, id="an event that is none"),
        pytest.param({**ASK, "after": f"../{SECRET}"}, id="a follow-up to what is no id"),
        pytest.param({"type": "start", "features": ["a"] * 65}, id="too many features"),
        pytest.param({"type": "start", "features": [SECRET * 20]}, id="a feature's name too long"),
        pytest.param({**ASK, "scope": {"last_s": 0}}, id="an empty scope"),
        pytest.param({**ASK, "scope": {"last_s": -1.0}}, id="a negative scope"),
        pytest.param({**ASK, "scope": {"last_s": 1e300}}, id="a scope beyond all audio"),
        pytest.param({**ASK, "scope": {"last_s": 1, SECRET: 1}}, id="unknown field of the scope"),
        pytest.param({"type": "watch", "id": "w", "text": "x", "every_s": 0}, id="a watch without rest"),
        pytest.param({"type": "start", "mode": SECRET}, id="unknown mode"),
        pytest.param({"type": "end", "total": None}, id="null where a number is due"),
        pytest.param([SECRET], id="not a map"),
        pytest.param(SECRET, id="a string"),
    ],
)
def test_what_is_no_message_is_refused_and_never_repeated(subprotocol: str, tree: object) -> None:
    with pytest.raises(BadMessage) as refusal:
        server_codec(subprotocol).decode(spell(subprotocol, tree))
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None and refusal.value.__suppress_context__


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
@pytest.mark.parametrize(
    ("tree", "kind"),
    [
        ({"type": "start", "format": SECRET}, BadFormat),
        ({"type": "start", "format": 5}, BadFormat),
        ({"type": "start", "rate": SECRET}, BadFormat),
        ({"type": "start", "rate": 16_000.5}, BadFormat),
        ({"type": "start", "channels": None}, BadFormat),
        ({"type": "start", "language": SECRET * 2}, BadFormat),
        ({"type": "start", "language": 5}, BadFormat),
        ({"type": "start", "languages": ["en", SECRET * 2]}, BadFormat),
        ({"type": "start", "languages": ["en"] * 33}, BadFormat),
        ({"type": "start", "task": SECRET}, BadFormat),
        ({"type": "start", "vocabulary": [SECRET] * 10_000}, BadFormat),
        ({"type": "start", "vocabulary": [SECRET * 20]}, BadFormat),
        ({"type": "start", "vocabulary": ["a", 5]}, BadFormat),
        ({"type": "audio", "offset": SECRET, "pcm": ""}, BadOffset),
        ({"type": "gap", "offset": 0.5, "frames": 1}, BadOffset),
        ({"type": "start", f"{SECRET}` - at `$.rate": 1}, BadMessage),
    ],
)
def test_a_value_that_cannot_be_one_is_named_and_never_repeated(
    subprotocol: str, tree: object, kind: type[Refusal]
) -> None:
    with pytest.raises(kind) as refusal:
        server_codec(subprotocol).decode(spell(subprotocol, tree))
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None and refusal.value.__suppress_context__


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({**ASK, "id": "a b"}, "expected 1 to 64 of A-Z a-z 0-9 . _ : -, in the field id"),
        ({"type": "start", "features": ["A"]}, "expected 1 to 64 of a-z 0-9 _, in the field features[0]"),
        ({**ASK, "text": 5}, "expected str, got int, in the field text"),
        ({**ASK, "scope": {"last_s": 0}}, "expected float > 0.0, in the field scope.last_s"),
        ({"type": "ask", "id": "q"}, "there is no field text"),
        ({**ASK, SECRET: 1}, "the message has an unknown type, field or value"),
    ],
)
def test_what_is_wrong_is_said_in_words(subprotocol: str, tree: object, sentence: str) -> None:
    with pytest.raises(BadMessage) as refusal:
        server_codec(subprotocol).decode(spell(subprotocol, tree))
    assert str(refusal.value) == sentence


def test_an_offset_beyond_every_number() -> None:
    with pytest.raises(BadOffset):
        server_codec(JSON).decode('{"type":"audio","offset":1e400,"pcm":""}')


DELTA = {"type": "answer_delta", "id": "q", "text": "So"}


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
def test_a_client_ignores_fields_that_it_does_not_know(subprotocol: str) -> None:
    codec = client_codec(subprotocol)
    assert codec.decode_known(spell(subprotocol, {**DELTA, "mood": {"calm": 1}})) == AnswerDelta("q", "So")


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
def test_a_client_ignores_messages_of_a_type_that_it_does_not_know(subprotocol: str) -> None:
    assert client_codec(subprotocol).decode_known(spell(subprotocol, {"type": "mood", "id": 5})) is None


@pytest.mark.parametrize("subprotocol", SUBPROTOCOLS)
@pytest.mark.parametrize("tree", [{**DELTA, "text": 5}, {"id": "q"}, {"type": 5}, ["mood"]])
def test_a_client_does_not_ignore_what_is_no_message(subprotocol: str, tree: object) -> None:
    with pytest.raises(BadMessage):
        client_codec(subprotocol).decode_known(spell(subprotocol, tree))


FULL = Answer(
    "q",
    "So.",
    0.0,
    9.0,
    1,
    2,
    "stop",
    heard_until=9.0,
    captions_from=0.5,
    captioned_until=8.0,
    question="And?",
    after=3,
)


@pytest.mark.parametrize(
    ("features", "answer"),
    [
        ((), Answer("q", "So.", 0.0, 9.0, 1, 2, "stop")),
        (("mood",), Answer("q", "So.", 0.0, 9.0, 1, 2, "stop")),
        ((FOLLOW_UPS,), Answer("q", "So.", 0.0, 9.0, 1, 2, "stop", question="And?", after=3)),
        (FEATURES, FULL),
    ],
)
def test_a_client_is_sent_the_fields_of_the_features_it_lists(features: tuple[str, ...], answer: Answer) -> None:
    assert restrict(FULL, features) == answer


def test_a_sound_is_sent_to_a_client_that_knows_sounds_alone() -> None:
    sound = Sound("[music]", 1.0, 4.5)
    assert restrict(sound, (SOUNDS,)) == sound and restrict(sound, (FOLLOW_UPS,)) is None


@pytest.mark.parametrize("last_s", [float("nan"), float("inf"), float("-inf")])
def test_no_duration_that_is_not_a_number(last_s: float) -> None:
    with pytest.raises(BadMessage):
        server_codec(MSGPACK).decode(spell(MSGPACK, {**ASK, "scope": {"last_s": last_s}}))


@pytest.mark.parametrize(("subprotocol", "frame"), [(MSGPACK, '{"type":"end","total":0}'), (JSON, b'{"type":"end"}')])
def test_the_wrong_kind_of_frame(subprotocol: str, frame: bytes | str) -> None:
    with pytest.raises(WrongFrame):
        server_codec(subprotocol).decode(frame)


def test_what_is_as_usual_need_not_be_said() -> None:
    assert server_codec(JSON).encode(Start()) == '{"type":"start"}'
    assert server_codec(JSON).decode('{"type":"start"}') == Start("pcm_s16le", 16_000, 1, None, True)
    assert server_codec(JSON).decode('{"id":"a","type":"cancel"}') == Cancel("a")  # in any order


def test_messages_are_frozen() -> None:
    with pytest.raises(AttributeError):
        End(1).total = 2  # type: ignore[misc]


def test_only_known_subprotocols_have_a_codec() -> None:
    with pytest.raises(ValueError, match="unknown subprotocol"):
        server_codec("soap")


def test_a_question_survives_every_script() -> None:
    text = "שלום, 世界, مرحبا, 👩‍👩‍👧"
    for subprotocol in SUBPROTOCOLS:
        codec = server_codec(subprotocol)
        assert codec.decode(codec.encode(Ask("q", text))) == Ask("q", text)


@pytest.mark.parametrize(
    "text", [r"\ud800", r"\udfff", r"\ud800x", r"\udc00\ud800", r"\ud83d\ude00\ud83d", r"\\\uDABC", "\ud800"]
)
def test_half_a_surrogate_pair_is_no_text(text: str) -> None:
    with pytest.raises(BadText):
        server_codec(JSON).decode(f'{{"type":"ask","id":"q","text":"{text}"}}')


@pytest.mark.parametrize("text", [r"\\ud800", r"\ud83d\ude00", r"\uD83D\uDE00 \\"])
def test_whole_surrogate_pairs_are_text(text: str) -> None:
    frame = f'{{"type":"ask","id":"q","text":"{text}"}}'
    assert server_codec(JSON).decode(frame) == Ask("q", json.loads(frame)["text"])
    with pytest.raises(BadMessage):
        server_codec(JSON).decode(frame[:-1])


@pytest.mark.parametrize("raw", [b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\xc0\x80"])
def test_bytes_that_are_not_utf_8_are_no_text(raw: bytes) -> None:
    with pytest.raises(BadText):
        server_codec(MSGPACK).decode(b"\x83\xa4type\xa3ask\xa2id\xa1q\xa4text" + raw)
