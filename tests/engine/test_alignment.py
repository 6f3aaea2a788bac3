"""How audio lines up with tokens, against the published numbers and the stock processor."""

from __future__ import annotations

import numpy as np
import pytest

from af3stream.engine.af3.alignment import (
    Alignment,
    additive_mask,
    check_alignment,
    conv_length,
    expand,
    padding_mask,
    pooled_length,
)
from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.errors import AlignmentMismatch, PlaceholderMismatch, TooManyWindows

STOCK = Alignment(sampling_rate=16_000, chunk_length=30, hop_length=160, max_windows=20)


@pytest.mark.parametrize(
    ("mel", "conv", "pooled"),
    [(3_000, 1_500, 750), (2_999, 1_500, 750), (300, 150, 75), (7, 4, 2), (3, 2, 1), (2, 1, 0)],
)
def test_lengths_after_the_convolution_and_the_pool(mel: int, conv: int, pooled: int) -> None:
    assert conv_length(mel) == conv
    assert pooled_length(conv) == pooled


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 479, 480, 16_000, 250_001, 479_999, 480_000])
def test_mel_frames_are_those_of_the_stock_mask(loaded: LoadedCheckpoint, samples: int) -> None:
    extracted = loaded.processor.feature_extractor(
        np.zeros(samples, np.float32), sampling_rate=16_000, return_attention_mask=True, return_tensors="np"
    )
    assert STOCK.mel_frames(samples) == extracted["attention_mask"].sum()


def test_a_full_window_is_750_tokens_and_a_second_25() -> None:
    assert STOCK.frames(480_000) == 750
    assert STOCK.frames(16_000) == 25


@pytest.mark.parametrize(("samples", "windows"), [(0, [0]), (1, [1]), (480_000, [480_000]), (480_001, [480_000, 1])])
def test_audio_is_cut_into_full_windows_and_a_rest(samples: int, windows: list[int]) -> None:
    audio = np.arange(samples, dtype=np.float32)
    cut = STOCK.split(audio)
    assert [len(window) for window in cut] == windows
    assert np.array_equal(np.concatenate(cut), audio)


def test_more_windows_than_a_prompt_holds_are_refused_not_truncated() -> None:
    with pytest.raises(TooManyWindows, match="21 windows, and at most 20"):
        STOCK.split(np.zeros(20 * 480_000 + 1, np.float32))


@pytest.mark.parametrize(
    ("text", "counts", "expanded"),
    [
        ("say", [2, 1], "<s><s><s>say"),
        ("a<s>b<s>c", [2, 1], "a<s><s>b<s>c"),
        ("<s>", [3], "<s><s><s>"),
        ("<s><s>say", [1, 0], "<s>say"),
    ],
)
def test_placeholders_are_prepended_when_absent_and_expanded_where_they_stand(
    text: str, counts: list[int], expanded: str
) -> None:
    assert expand(text, "<s>", counts) == expanded


@pytest.mark.parametrize(("text", "counts"), [("<s>", [1, 1]), ("<s><s>", [5])])
def test_another_number_of_placeholders_than_windows_is_refused(text: str, counts: list[int]) -> None:
    found, windows = text.count("<s>"), len(counts)
    message = f"Sample 3: found {found} placeholders but audio was split into {windows} window\\(s\\)."
    with pytest.raises(PlaceholderMismatch, match=message):
        expand(text, "<s>", counts, sample=3)


def test_placeholders_and_frames_must_agree() -> None:
    ids = np.array([5, 9, 9, 5])
    check_alignment(ids, 9, 2)
    with pytest.raises(AlignmentMismatch, match="Audio tokens and features mismatch: tokens: 2, features: 3"):
        check_alignment(ids, 9, 3)


def test_masks_in_two_and_four_dimensions() -> None:
    valid = padding_mask([3, 1], 3)
    assert valid.tolist() == [[True, True, True], [True, False, False]]
    mask = additive_mask(valid)
    assert mask.shape == (2, 1, 3, 3)
    assert (mask[0] == 0).all()
    assert mask[1, 0].tolist() == [[0, -np.inf, -np.inf]] * 3
