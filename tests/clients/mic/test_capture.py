"""Capturing never blocks, and losses are declared at their position."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import SourceError
from af3stream.listen.microphone import Device, Lost, OverflowDeclaredLost, capturing, devices
from af3stream_clients.mic.level_meter import FLOOR_DBFS, level_dbfs, meter
from tests.clients.mic.fakes import BLOCK, FakeSounddevice

FORMAT = AudioFormat("pcm_s16le", 16_000, 1)


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    fake = FakeSounddevice()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


async def test_blocked_consumer_does_not_block_the_callback(sounddevice: FakeSounddevice):
    """The event loop is blocked until the device's thread has delivered 300 blocks: 100 are buffered, 200 lost."""
    captured = OverflowDeclaredLost(100, FORMAT.bytes_per_frame)
    with capturing(FORMAT, captured):
        taking = asyncio.create_task(captured.take())
        await asyncio.sleep(0)  # it waits, so that each block wakes it
        speaking = threading.Thread(target=lambda: [sounddevice.speak() for _ in range(300)])
        speaking.start()
        speaking.join(10)
        assert not speaking.is_alive()
    assert sounddevice.closed
    assert captured.lost == 200 * 1_600
    assert [await taking, *[await captured.take() for _ in range(99)]] == [BLOCK] * 100
    assert await captured.take() == Lost(200 * 1_600)


async def test_each_loss_is_reported_at_its_position():
    captured = OverflowDeclaredLost(capacity=2, frame_bytes=2)
    for block in (b"aa", b"bb", b"cc"):
        captured.put(block)
    assert await captured.take() == b"aa"
    captured.put(b"dd")
    captured.put(b"eeee")
    assert [await captured.take() for _ in range(4)] == [b"bb", Lost(1), b"dd", Lost(2)]


async def test_every_frame_is_read_or_reported_lost_under_any_interleaving():
    """A thread writes as fast as it can, a loop reads; all blocks are read or lost, in order."""
    captured, blocks = OverflowDeclaredLost(capacity=3, frame_bytes=1), 5_000
    putting = threading.Thread(target=lambda: [captured.put(bytes([i % 251])) for i in range(blocks)])
    putting.start()
    position = 0
    while position < blocks:
        taken = await captured.take()
        if isinstance(taken, Lost):
            position += taken.frames
        else:
            assert taken == bytes([position % 251])
            position += 1
    putting.join()
    assert position == blocks


async def test_portaudio_overflow_is_reported_as_lost(sounddevice: FakeSounddevice):
    captured = OverflowDeclaredLost(100, FORMAT.bytes_per_frame)
    with capturing(FORMAT, captured, "room"):
        sounddevice.speak()
        sounddevice.speak(overflow=True, late_s=0.25)
        sounddevice.speak()
    assert [await captured.take() for _ in range(4)] == [BLOCK, Lost(4_000), BLOCK, BLOCK]


@pytest.mark.parametrize(("named", "opened"), [(None, None), ("3", 3), ("USB", "USB")])
async def test_device_is_chosen_by_number_or_name(sounddevice: FakeSounddevice, named: str | None, opened: object):
    with capturing(FORMAT, OverflowDeclaredLost(1, 2), named):
        assert sounddevice.options["device"] == opened


def test_only_input_devices_are_listed(sounddevice: FakeSounddevice):
    assert devices() == [Device(1, "room", "ALSA", 1, default=True)]


def test_absent_device_is_reported_in_one_sentence(sounddevice: FakeSounddevice, monkeypatch: pytest.MonkeyPatch):
    def absent(**options: object) -> None:
        raise ValueError(f"No input device matching '{options['device']}'")

    monkeypatch.setattr(sounddevice, "RawInputStream", absent)
    with (
        pytest.raises(SourceError, match="no microphone can be opened: No input device matching 'nobody'"),
        capturing(FORMAT, OverflowDeclaredLost(1, 2), "nobody"),
    ):
        pass


def test_level_of_a_full_square_wave_is_0_dbfs_and_of_half_minus_6():
    loud = (32_767).to_bytes(2, "little") * 100
    half = (16_384).to_bytes(2, "little") * 100
    assert level_dbfs(loud) == pytest.approx(0, abs=0.01)
    assert level_dbfs(half) == pytest.approx(-6.02, abs=0.01)
    assert level_dbfs(b"") == level_dbfs(bytes(100)) == FLOOR_DBFS
    assert [meter(dbfs, 4) for dbfs in (FLOOR_DBFS, FLOOR_DBFS / 2, 0.0)] == ["    ", "██  ", "████"]
