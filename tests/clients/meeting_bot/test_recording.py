"""Concurrent reads do not change where the recording appends."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

import numpy as np

from af3stream_clients.meeting_bot.recording import Recording


def test_reads_in_another_thread_do_not_disturb_appends(tmp_path: Path) -> None:
    pieces = [np.full(16, number, "<i2").tobytes() for number in range(30_000)]
    recording, done, wrong = Recording(tmp_path / "recording.pcm"), Event(), list[int]()

    def read() -> None:
        while not done.is_set():
            for number in range(0, recording.frames // 16, 500):
                if recording.read(16 * number, 16 * (number + 1)) != pieces[number]:
                    wrong.append(number)

    reader = Thread(target=read)
    reader.start()
    for piece in pieces:
        recording.append(piece)
    done.set()
    reader.join()
    recording.close()
    assert not wrong
    assert (tmp_path / "recording.pcm").read_bytes() == b"".join(pieces)
