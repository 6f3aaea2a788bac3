"""Coverage-guided fuzzing of everything that parses bytes of others: each input parses, or is refused as documented.

``python -m tests.fuzz.decoders -runs=1000000 -seed=1`` starts from a recorded conversation, with libFuzzer's options.
An input that breaks the invariant ends the run, and is left in the folder for temporary files. What parses as a message
is given on to a session, or to a client: they take it or refuse it, and what they make of it guides the fuzzer.

An input's first byte chooses what parses the rest.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import atheris
import msgspec

with atheris.instrument_imports(include=["af3stream"], enable_loader_override=False):
    from af3stream.audio.pcm import AudioFormat, PcmDecoder
    from af3stream.client.client_protocol import ClientProtocol
    from af3stream.client.errors import ServerError
    from af3stream.client.replay_buffer import Memory
    from af3stream.config import Config
    from af3stream.engine.facts import facts_of
    from af3stream.engine.scripted import ScriptedEngine
    from af3stream.errors import BadAudio, BadFormat, BadMessage, BadOffset, BadText, Refusal
    from af3stream.journal import records
    from af3stream.journal.errors import TornRecord
    from af3stream.journal.reading import scan
    from af3stream.metrics import Metrics
    from af3stream.protocol import messages as m
    from af3stream.protocol.codec import JSON, MSGPACK, Codec, client_codec, server_codec
    from af3stream.session.session import Session
    from tests.client.scripted_server import READY

TRACE: Final = Path(__file__).parents[1] / "traces" / "conversation.jsonl"
LONGEST: Final = 4_096  # bytes of an input
LONGEST_REFUSAL: Final = 500  # characters
CONFIG, FACTS, METRICS = Config(), facts_of(ScriptedEngine()), Metrics()
FORMATS: Final = (AudioFormat(), AudioFormat("pcm_f32le", 48_000, 2), AudioFormat("mulaw", 8_000))

Parse = Callable[[bytes], None]


def frame_of(codec: Codec[Any], receive: Callable[[Any], None]) -> Parse:
    """A frame; what parses is spelled, parses to the same again, and is received."""

    def parse(data: bytes) -> None:
        frame: bytes | str = data
        if not codec.binary:
            try:
                frame = data.decode()  # a text frame that is not UTF-8 does not get past the WebSocket
            except UnicodeDecodeError:
                return
        try:
            message = codec.decode(frame)
        except (BadMessage, BadText, BadFormat, BadOffset) as refusal:
            assert len(str(refusal)) < LONGEST_REFUSAL, "a refusal repeats what was sent"
            return
        spelled = codec.encode(message)
        assert codec.encode(codec.decode(spelled)) == spelled  # of messages, one with NaN would not be equal to itself
        receive(message)

    return parse


def to_a_session(message: m.ClientMessage) -> None:
    """What a client says first, or to a session that has just begun."""
    first = message if isinstance(message, m.Start) else m.Start()
    with suppress(Refusal):
        session = Session("s", first, config=CONFIG, facts=FACTS, metrics=METRICS)
        session.receive(message, 0.0)
        session.take_messages()


def to_a_client(message: m.ServerMessage) -> None:
    """What a server says to a client that has asked something."""
    store = Memory()
    with suppress(ServerError):
        dialogue = ClientProtocol(m.Start(), READY, store)
        dialogue.expect("q1")
        dialogue.receive(message)
        if isinstance(message, m.Ready):
            dialogue.resumed(message)


def audio_of(audio_format: AudioFormat) -> Parse:
    """Sample frames as they come; what parses becomes finite samples within [-1, 1]."""

    def parse(data: bytes) -> None:
        try:
            samples = PcmDecoder(audio_format).decode(data)
        except BadAudio:
            return
        assert not len(samples) or abs(samples).max() <= 1.0

    return parse


def record(data: bytes) -> None:
    """A journal's record; what parses is spelled as it stood there."""
    with suppress(TornRecord):
        heard, end = records.decode(data)
        assert records.encode(heard) == data[:end]


def raw_file(data: bytes) -> None:
    """A journal's file, however it ends: the records follow one another."""
    end = 0
    for heard in scan(data, 0):
        assert heard.offset == end
        end = heard.end


PARSERS: Final[tuple[Parse, ...]] = (
    *(frame_of(server_codec(name), to_a_session) for name in (MSGPACK, JSON)),
    *(frame_of(client_codec(name), to_a_client) for name in (MSGPACK, JSON)),
    *map(audio_of, FORMATS),
    record,
    raw_file,
)


def check(data: bytes) -> None:
    """The invariant, for one input."""
    if data:
        PARSERS[data[0] % len(PARSERS)](data[1:])


def seeds() -> Iterator[bytes]:
    """Inputs that parse: a recorded conversation in both spellings, and what a journal makes of it."""
    kinds = {"client": (m.ClientMessage, 0), "server": (m.ServerMessage, 2)}
    file = b""
    for line in TRACE.read_bytes().splitlines():
        entry = msgspec.json.decode(line)
        union, first = kinds[entry["from"]]
        message = msgspec.convert(entry["message"], union)
        if isinstance(message, m.Audio):
            message = msgspec.structs.replace(message, pcm=message.pcm[:320])
            heard = records.AudioRecord(len(file), message.pcm, len(message.pcm) // 2)
            yield bytes([7]) + records.encode(heard)
            yield from (bytes([parser]) + message.pcm for parser in (4, 5, 6))
            file = file or records.encode(records.AudioRecord(0, message.pcm, 160))
        yield bytes([first]) + msgspec.msgpack.encode(message)
        yield bytes([first + 1]) + msgspec.json.encode(message)
    yield bytes([8]) + file + records.encode(records.GapRecord(160, 160))


def main(options: list[str]) -> None:
    """Fuzz with libFuzzer's options."""
    with tempfile.TemporaryDirectory(prefix="corpus-") as corpus:
        for number, data in enumerate(dict.fromkeys(seeds())):
            (Path(corpus) / f"{number:04d}").write_bytes(data)
        defaults = [f"-max_len={LONGEST}", f"-artifact_prefix={tempfile.gettempdir()}/"]
        atheris.Setup([sys.argv[0], *defaults, *options, corpus], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
