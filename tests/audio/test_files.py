"""Files: read whole, read as the service hears them, and streamed."""

from __future__ import annotations

from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile

from af3stream.audio.events import Utterance, Window
from af3stream.audio.files import length, normalise, read, read_mono_16k, stream_blocks
from af3stream.audio.pcm import PcmDecoder, Samples
from af3stream.audio.segmenter import Mode, Segmenter
from af3stream.config import AudioConfig
from af3stream.errors import SourceError

RECORDINGS = sorted((Path(__file__).parents[1] / "recordings").glob("*.wav"))


def tone(rate: int, channels: int, seconds: float = 0.5) -> Samples:
    """A tone of its own in every channel.  # (n, channels) float32"""
    time = np.arange(int(rate * seconds)) / rate
    tones = [0.3 * np.sin(2 * np.pi * 330 * (n + 1) * time) for n in range(channels)]
    return np.stack(tones, axis=1).astype(np.float32)


def encode(path: Path, codec: str, layout: str, samples: Samples, rate: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
@pytest.mark.parametrize("rate", [4_000, 8_000, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_read_gives_the_file_as_it_is(tmp_path: Path, kind: str, rate: int, channels: int) -> None:
    path, samples = tmp_path / "tone", tone(rate, channels)
    soundfile.write(path, samples, rate, format=kind, subtype="PCM_24")
    recording = read(path)
    assert recording.rate == rate
    assert recording.samples.dtype == np.float32
    assert np.allclose(recording.samples, samples, atol=1e-6)
    assert length(path) == 0.5


@pytest.mark.parametrize(
    ("rate", "channels", "sent_rate", "sent_channels"),
    [
        (8_000, 1, 8_000, 1),
        (16_000, 2, 16_000, 2),
        (44_100, 2, 44_100, 2),
        (48_000, 6, 48_000, 1),
        (96_000, 2, 48_000, 2),
        (192_000, 1, 48_000, 1),
        (4_000, 1, 16_000, 1),
    ],
)
def test_a_file_is_streamed_in_a_format_the_service_takes(
    tmp_path: Path, rate: int, channels: int, sent_rate: int, sent_channels: int
) -> None:
    path, samples = tmp_path / "tone.wav", tone(rate, channels)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    audio_format, blocks = stream_blocks(path, block_ms=100)
    sent = list(blocks)
    assert (audio_format.rate, audio_format.channels) == (sent_rate, sent_channels)
    assert [audio_format.frames(block) for block in sent] == [sent_rate // 10] * 5

    decoder = PcmDecoder(audio_format)
    heard = np.concatenate([*map(decoder.decode, sent), decoder.finish()])
    assert np.array_equal(heard, read_mono_16k(path))
    expected = librosa.resample(samples.mean(axis=1), orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
    assert np.allclose(heard[500:-500], expected[500:-500], atol=2e-3)


def test_sixteen_bits_pass_unchanged_and_the_last_block_is_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "all.wav"
    values = np.arange(-32_768, 32_768, dtype=np.int16)
    soundfile.write(path, values, 16_000)
    _, blocks = stream_blocks(path, block_ms=1_000)
    sizes = []
    sent = b""
    for block in blocks:
        sizes.append(len(block))
        sent += block
    assert sizes == [32_000] * 4 + [3_072]
    assert sent == values.tobytes()


@pytest.mark.parametrize(
    ("name", "codec", "layout", "rate", "channels"),
    [
        ("a.m4a", "aac", "stereo", 44_100, 2),
        ("a.mp4", "aac", "5.1", 48_000, 6),
        ("a.webm", "libopus", "mono", 48_000, 1),
    ],
)
def test_what_libsndfile_does_not_know(
    tmp_path: Path, name: str, codec: str, layout: str, rate: int, channels: int
) -> None:
    samples = tone(rate, channels)
    encode(tmp_path / name, codec, layout, samples, rate)
    recording = read(tmp_path / name)
    assert recording.rate == rate
    assert recording.samples.shape[1] == channels
    assert recording.samples.dtype == np.float32
    assert recording.samples.shape[0] == pytest.approx(len(samples), abs=2_048)
    level = np.sqrt(np.mean(recording.samples[4_000:16_000, 0] ** 2))
    assert level == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    assert len(read_mono_16k(tmp_path / name)) == pytest.approx(8_000, abs=1_000)
    assert length(tmp_path / name) == pytest.approx(0.5, abs=0.1)


def video_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot read {path}: No such file or directory"),
        (lambda path: path.mkdir(), "{path} is a folder, expected an audio file"),
        (lambda path: path.touch(), "{path} is empty, expected an audio file"),
        (lambda path: path.write_text("words"), "{path} is not an audio file of a known kind"),
        (lambda path: soundfile.write(path, np.zeros(0), 16_000, format="WAV"), "no audio in {path}"),
        (video_only, "no audio in {path}"),
    ],
    ids=["missing", "folder", "empty", "text", "no samples", "video only"],
)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "source"
    make(path)  # type: ignore[operator]
    for attempt in (read, length, read_mono_16k, lambda path: stream_blocks(path, 100)):
        with pytest.raises(SourceError) as raised:
            attempt(path)
        assert str(raised.value) == message.format(path=path)


@pytest.mark.parametrize("playlist", ["ffconcat version 1.0\nfile other.wav\n", "#EXTM3U\n#EXTINF:1,\nother.wav\n"])
def test_a_playlist_opens_no_other_file(tmp_path: Path, playlist: str) -> None:
    soundfile.write(tmp_path / "other.wav", tone(16_000, 1), 16_000)
    path = tmp_path / "list.m3u8"
    path.write_text(playlist)
    with pytest.raises(SourceError, match="not an audio file of a known kind"):
        read(path)


@pytest.mark.parametrize("offset", [0.3, 0.9])
@pytest.mark.parametrize("name", ["a.flac", "a.webm", "a.m4a"])
def test_a_damaged_file_gives_audio_or_a_source_error(tmp_path: Path, name: str, offset: float) -> None:
    path, samples = tmp_path / name, tone(48_000, 1, seconds=3)
    if name == "a.flac":
        soundfile.write(path, samples, 48_000)
    else:
        encode(path, "libopus" if name == "a.webm" else "aac", "mono", samples, 48_000)
    whole = path.read_bytes()
    middle = int(len(whole) * offset)
    path.write_bytes(whole[:middle] + b"\xff" * 200 + whole[middle + 200 :])
    try:
        assert np.isfinite(read_mono_16k(path)).all()
    except SourceError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], []),
        ([0.0, 0.0], [0.0, 0.0]),
        ([0.25, -0.5], [0.5, -1.0]),
        ([0.0, 0.25, 0.5], [-1.0, 0.0, 1.0]),
        ([-0.25, -0.5], [-0.5, -1.0]),
    ],
)
def test_normalise(samples: list[float], expected: list[float]) -> None:
    normalised = normalise(np.array(samples, np.float32))
    assert normalised.dtype == np.float32
    assert normalised.tolist() == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # librosa looks for readers of its own
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem[-4:])
def test_a_16_khz_recording_is_read_as_librosa_reads_it(path: Path) -> None:
    reference, _ = librosa.load(path, sr=16_000, mono=True)
    assert np.array_equal(read_mono_16k(path), reference)


@pytest.mark.parametrize("mode", ["speech", "everything"])
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem[-4:])
def test_a_recorded_sentence_is_one_utterance_or_two_in_one_window(path: Path, mode: Mode) -> None:
    samples = read_mono_16k(path)
    subject = Segmenter(AudioConfig(), mode, 30.0)
    events = subject.push(samples) + subject.flush()
    utterances = [event for event in events if isinstance(event, Utterance)]
    (window,) = (event for event in events if isinstance(event, Window))
    assert 1 <= len(utterances) <= 2
    assert window.start <= utterances[0].start <= 0.3 * 16_000
    assert utterances[-1].end >= len(samples) - 0.3 * 16_000
    assert window.end >= utterances[-1].end


def test_recordings_with_pauses_between_them_are_one_utterance_each() -> None:
    pause = np.zeros(20_000, np.float32)
    starts, samples = [], np.zeros(0, np.float32)
    for path in RECORDINGS:
        starts.append(len(samples))
        samples = np.concatenate([samples, read_mono_16k(path), pause])
    subject = Segmenter(AudioConfig(), "speech", 30.0)
    events = subject.push(samples) + subject.flush()
    utterances = [event for event in events if isinstance(event, Utterance)]
    assert len(utterances) == len(RECORDINGS)
    assert [utterance.start for utterance in utterances] == pytest.approx(starts, abs=0.5 * 16_000)
    assert [event.end - event.start <= 30 * 16_000 for event in events if isinstance(event, Window)] == [True] * 2
