"""Audio that may have to be sent again, against a list of sample frames; in memory as in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3stream.client.replay_buffer import Memory, ReplayBuffer, Spool
from af3stream.errors import SourceError
from af3stream.protocol.messages import Audio, Gap

FRAME_BYTES, CAPACITY = 3, 40  # sample frames in the spool
STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "lost", "lose", "free"]), st.integers(1, 15), st.integers(0, CAPACITY)),
    min_size=10,
    max_size=40,
)


def read_back(kept: ReplayBuffer, most: int) -> list[bytes | None]:
    """Every sample frame that is kept, as pieces tell it."""
    frames: list[bytes | None] = []
    while kept.begin + len(frames) < kept.end:
        piece = kept.piece(kept.begin + len(frames), most)
        assert piece.offset == kept.begin + len(frames)
        told = [None] * piece.frames if isinstance(piece, Gap) else list(split(piece))
        assert 1 <= len(told) <= most
        frames += told
    return frames


def split(audio: Audio) -> Iterator[bytes]:
    for start in range(0, len(audio.pcm), FRAME_BYTES):
        yield audio.pcm[start : start + FRAME_BYTES]


@given(steps=STEPS, most=st.integers(1, 20))
def test_what_is_kept_is_what_was_said(steps: list[tuple[str, int, int]], most: int, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    with closing(Memory()) as memory, closing(Spool(folder, CAPACITY * FRAME_BYTES)) as spool:
        pair = ReplayBuffer(FRAME_BYTES, memory), ReplayBuffer(FRAME_BYTES, spool)
        model: list[bytes | None] = []
        begin, numbers = 0, count()
        for step, frames, back in steps:
            if step in ("append", "lost") and len(model) - begin + frames > CAPACITY:
                continue
            pcm = b"".join(next(numbers).to_bytes(FRAME_BYTES, "big") for _ in range(frames))
            at = max(begin, len(model) - back)
            to = min(len(model), at + frames)
            for kept in pair:
                match step:
                    case "append":
                        kept.append(pcm)
                    case "lost":
                        kept.append_lost(frames)
                    case "lose" if at < to:
                        kept.lose(at, to)
                    case "free":
                        kept.free(at)
            match step:
                case "append":
                    model += split(Audio(0, pcm))
                case "lost":
                    model += [None] * frames
                case "lose":
                    model[at:to] = [None] * (to - at)
                case "free":
                    begin = at
        for kept in pair:
            assert (kept.begin, kept.end) == (begin, len(model))
            assert read_back(kept, most) == model[begin:]


def test_lost_ranges_that_touch_are_one_gap():
    kept = ReplayBuffer(2, Memory())
    kept.append(b"aabb")
    for _ in range(3):
        kept.append_lost(10)
    assert kept.piece(2, 100) == Gap(2, 30)
    kept.lose(1, 2)
    assert kept.piece(1, 100) == Gap(1, 31)


def test_memory_holds_no_more_than_what_is_not_freed():
    memory = Memory()
    for address in range(0, 1_000_000, 1_000):
        memory.write(address, bytes(1_000))
        memory.free(address)
    assert len(memory._bytes) == 1_000


def test_a_spool_leaves_no_name_in_its_folder(tmp_path: Path):
    with closing(Spool(tmp_path, 8)) as spool:
        spool.write(4, b"abcdef")
        assert spool.read(4, 6) == b"abcdef"
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_one_sentence(tmp_path: Path):
    with pytest.raises(SourceError, match=r"cannot keep audio in .*absent: No such file or directory"):
        Spool(tmp_path / "absent", 8)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_sentence_and_nothing_is_kept(tmp_path: Path):
    with closing(Spool(tmp_path, 8)) as spool, Path("/dev/full").open("wb", buffering=0) as full:
        kept = ReplayBuffer(1, spool)
        spool._file, whole = full, spool._file
        with pytest.raises(SourceError, match="No space left on device"):
            kept.append(b"abc")
        assert kept.end == 0
        spool._file = whole
