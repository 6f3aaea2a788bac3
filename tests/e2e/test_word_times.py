"""Word times of the real captioner: those of recordings that were joined, over its own text and another's."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from af3stream import offline
from af3stream.engine.captioning import CaptionOptions
from af3stream.engine.whisper import WhisperCaptioner
from af3stream.engine.word_alignment import AlignedCaptioner
from tests.captioned import captioned
from tests.conftest import RECORDINGS
from tests.e2e.conftest import RunningService
from tests.engine.test_word_alignment import Plain

pytestmark = pytest.mark.mini

RATE = 16_000
PAUSE_S = 0.4  # within an utterance
OFF_S = 0.25  # of a word at most, from where its recording begins to sound
DEAREST = 0.05  # seconds of computing a second of audio


@pytest.fixture
def joined(tmp_path: Path) -> tuple[Path, list[float]]:
    """The recordings, with pauses between them; and where each begins to sound, in seconds."""
    parts, starts, at = list[np.ndarray](), list[float](), 0
    for path in sorted(RECORDINGS.glob("*.wav")):
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == RATE
        starts.append((at + int(np.argmax(np.abs(samples) > 0.05 * np.abs(samples).max()))) / RATE)
        parts += [samples, np.zeros(round(PAUSE_S * RATE), np.float32)]
        at += len(parts[-2]) + len(parts[-1])
    soundfile.write(tmp_path / "joined.wav", np.concatenate(parts), RATE)
    return tmp_path / "joined.wav", starts


def test_words_of_captions_are_where_they_are_said(
    service: RunningService, joined: tuple[Path, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, starts = joined
    captioner = service.loaded.engine.captioner
    assert isinstance(captioner, WhisperCaptioner)
    align, spent_s = captioner._aligner.align, list[float]()

    def timed(*arguments: object) -> object:
        began = time.process_time()
        try:
            return align(*arguments)  # type: ignore[arg-type]
        finally:
            spent_s.append(time.process_time() - began)

    monkeypatch.setattr(captioner._aligner, "align", timed)
    heard = offline.transcribe(path, service.config, service.loaded, words=True)
    words = [word for caption in heard.captions for word in caption.words]
    for caption in heard.captions:
        assert " ".join(word.text for word in caption.words) == caption.text
        assert caption.start <= caption.words[0].start and caption.words[-1].end <= caption.end
    assert all(early.start <= early.end <= late.start for early, late in pairwise(words))
    assert all(min(abs(word.start - start) for word in words) < OFF_S for start in starts)
    assert all(0 < word.probability <= 1 for word in words)
    assert sum(spent_s) < DEAREST * heard.seconds

    spent_s.clear()
    assert not any(caption.words for caption in offline.transcribe(path, service.config, service.loaded).captions)
    assert not spent_s


def test_words_of_another_captioner_are_where_they_are_said(service: RunningService) -> None:
    whisper = service.loaded.engine.captioner
    assert isinstance(whisper, WhisperCaptioner)
    samples, _ = soundfile.read(RECORDINGS / "sense_and_sensibility_01_austen_64kb-0880.wav", dtype="float32")
    options = CaptionOptions(language="en", words=True)
    own = captioned(whisper, samples, options=options)
    captioner = AlignedCaptioner(Plain(service.loaded.engine.counters, own.text), lambda: whisper)
    other = captioned(captioner, samples, options=options)
    assert [word.text for word in other.words] == own.text.split()
    for mine, theirs in zip(own.words, other.words, strict=True):
        assert abs(mine.start - theirs.start) < OFF_S * RATE
