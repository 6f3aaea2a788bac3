"""The whole program with a local server: captions, a question, and a server that is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3stream_clients.captions.app import Captions
from tests.conftest import RECORDINGS
from tests.desktop.gui_driver import heard_by_screen_reader, until
from tests.words import word_error_rate

pytestmark = pytest.mark.mini

SENTENCES = {
    "0880": "he was not an ill disposed young man",
    "0930": "he might even have been made amiable himself",
}
RATE = 16_000
MAX_WER = 0.15
PATIENCE_S = 600  # on a loaded machine


def test_captions_and_answers_survive_a_server_crash(
    run: Callable[..., Captions], quick_start: tuple[str, ...], tmp_path: Path
) -> None:
    """Streams at the pace of speech, because the program reads files as it reads a microphone."""
    pieces: list[np.ndarray] = []
    for number in SENTENCES:
        (path,) = RECORDINGS.glob(f"*{number}.wav")
        pieces += [soundfile.read(path, dtype="int16")[0], np.zeros(RATE, np.int16)]
    soundfile.write(tmp_path / "talk.wav", np.concatenate(pieces), RATE)

    captions = run(url="", source=str(tmp_path / "talk.wav"), server_options=quick_start)
    until(lambda: captions.overlay.status.text() == "Starting the local server")
    until(lambda: captions.overlay.view.shown, PATIENCE_S)
    until(lambda: captions.overlay.status.text() == "Heard to the end", PATIENCE_S)
    shown = heard_by_screen_reader(captions.overlay.view)[1]
    assert word_error_rate(" ".join(SENTENCES.values()), shown) <= MAX_WER
    rows = captions.history.list.model()
    until(
        lambda: (
            " ".join(rows.index(row, 0).data() for row in range(rows.rowCount()))
            == heard_by_screen_reader(captions.overlay.view)[1].replace("\n", " ")
        )
    )

    pid = captions._local.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: captions.overlay.status.text().startswith("Connection lost, reconnecting"), PATIENCE_S)
    captions.ask.asked.emit("Who is this about?", None, None)
    until(
        lambda: captions.ask.cards[0].note.text().startswith(("Heard 0:00 to 0:0", "Captions 0:00 to 0:0")), PATIENCE_S
    )
    assert captions.ask.cards[0].answer.text()
    after = heard_by_screen_reader(captions.overlay.view)[1]  # the second pass may have corrected a word meanwhile
    assert word_error_rate(" ".join(SENTENCES.values()), after) <= MAX_WER
    assert len(after.splitlines()) == len(shown.splitlines())

    pid = captions._local.pid
    captions.close()
    assert pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
