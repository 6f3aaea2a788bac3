"""Records are whole, or refused."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3stream.journal.errors import TornRecord
from af3stream.journal.reading import scan
from af3stream.journal.records import HEADER_BYTES, AudioInput, AudioRecord, GapRecord, decode, encode

offsets = st.integers(0, 1 << 53)
audio_records = st.builds(AudioRecord, offsets, st.binary(max_size=200), st.integers(0, (1 << 32) - 1))
records = audio_records | st.builds(GapRecord, offsets, st.integers(0, (1 << 32) - 1))


@given(records, st.binary(max_size=50), st.binary(max_size=50))
def test_a_record_comes_back_wherever_it_stands(record: AudioInput, before: bytes, after: bytes) -> None:
    data = before + encode(record) + after
    assert decode(data, len(before)) == (record, len(data) - len(after))
    assert record.size == len(encode(record))


@given(st.binary(max_size=200), st.integers(0, 220))
def test_any_bytes_decode_or_are_torn(data: bytes, at: int) -> None:
    with pytest.raises(TornRecord):
        decode(data, at)


@given(audio_records, st.data())
def test_no_part_of_a_record_is_one(record: AudioRecord, data: st.DataObject) -> None:
    encoded = encode(record)
    with pytest.raises(TornRecord):
        decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(records, st.data())
def test_a_flipped_bit_is_seen(record: AudioInput, data: st.DataObject) -> None:
    encoded = bytearray(encode(record))
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TornRecord):
        decode(bytes(encoded))


def test_a_kind_of_a_later_version_is_not_taken_for_audio() -> None:
    head = struct.pack("<4sBQII", b"AF3j", 9, 0, 1, 0)
    with pytest.raises(TornRecord, match="kind 9"):
        decode(head + struct.pack("<I", zlib.crc32(head)))


def test_a_scan_ends_where_the_offsets_stop_following_one_another() -> None:
    follow = [AudioRecord(10, b"ab", 1), GapRecord(11, 5), AudioRecord(16, b"cdef", 2)]
    data = b"".join(map(encode, [*follow, AudioRecord(19, b"gh", 1)]))
    assert scan(data, 10) == follow
    assert scan(data, 9) == []
    assert scan(data[: -HEADER_BYTES - 3], 10) == follow[:2]
