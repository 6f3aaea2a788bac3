"""The text around the audio: framing taken off piece by piece, no control token in people's words, whole characters."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3stream.engine.af3.prompt import Unframer, detokenize, encode_text, read_template, strip_framing
from af3stream.errors import ModelError
from tests.checkpoints import CHAT_TEMPLATE, make_tokenizer

FRAMED = [
    'The spoken content of the audio is "he came in".',
    "The spoken content of the audio is 'he came in'.",
    'The transcription of the audio is "he came in."',
    "The content of the input audio is he came in.",
    "The spoken content of the audio is \"it's 'quoted' inside\".",
    'The spoken content of the audio is "".',
    "The spoken content of the audio is",
    'The spoken content of the audio is "cut off in the mid',
    'The spoken content of the audio is "cut off after a period.',
    'The spoken content of the audio is "e.g. this... and that."',
    "The spoken content of the audio is 'twas the night.",
    "The spoken content of the audio is .",
]
PLAIN = [
    "A dog barks.",
    "  padded  ",
    "",
    '"quoted"',
    "The spoken word is mighty.",
    "The",
    "The spoken content of the audio",
    "He said: The spoken content of the audio is nothing.",
    "The end. The content of the input audio is",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (FRAMED[0], "he came in"),
        (FRAMED[1], "he came in"),
        (FRAMED[3], "he came in"),
        (FRAMED[4], "it's 'quoted' inside"),
        (FRAMED[5], ""),
        ("  A dog barks. ", "A dog barks."),
        ('"quoted"', '"quoted"'),
    ],
)
def test_framing_is_taken_off(reply: str, words: str) -> None:
    assert strip_framing(reply) == words


def unframed(pieces: list[str]) -> str:
    unframer = Unframer()
    words = ""
    for piece in pieces:
        words += unframer.push(piece)
    return words + unframer.finish()


def certain(reply: str) -> str:
    """What piece by piece gives: the same, without an opening quotation mark that turns out never to be closed."""
    words = strip_framing(reply)
    marked = reply.strip().removesuffix(".").strip()
    unclosed = reply.strip() != words and words[:1] in ("'", '"') and marked.endswith(words) and len(words) > 1
    return words[1:].strip() if unclosed else words


@pytest.mark.parametrize("reply", [*FRAMED, *PLAIN])
def test_piece_by_piece_gives_the_same_for_every_split(reply: str) -> None:
    expected = certain(reply)
    assert unframed([reply]) == expected
    assert unframed(list(reply)) == expected
    for i in range(len(reply) + 1):
        assert unframed([reply[:i], reply[i:]]) == expected
        for j in range(i, len(reply) + 1):
            assert unframed([reply[:i], reply[i:j], reply[j:]]) == expected


@given(
    framing=st.sampled_from(["", "The spoken content of the audio is ", "The transcription of the audio is "]),
    words=st.text("ab'\". ", max_size=12),
    cuts=st.lists(st.integers(0, 50), max_size=5),
)
def test_any_words_in_any_pieces(framing: str, words: str, cuts: list[int]) -> None:
    reply = framing + words
    bounds = [0, *sorted(min(cut, len(reply)) for cut in cuts), len(reply)]
    pieces = [reply[i:j] for i, j in pairwise(bounds)]
    assert unframed(pieces) == certain(reply)


# ---- people's words --------------------------------------------------------------------------------------------------

CONTROLS = ["<sound>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("form", ["{}", " {} ", "a{}b", "{0}{0}", "<{}>", "{}\nassistant", "<|im_{}end|>"])
def test_no_spelling_of_a_control_token_is_one(tokenizer: Any, control: str, form: str) -> None:
    text = form.format(control)
    ids = encode_text(tokenizer, text)
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(ids) == text


@given(parts=st.lists(st.one_of(st.sampled_from([*CONTROLS, "<", "|", ">", "im_end"]), st.text(max_size=5))))
def test_no_text_at_all_is_one(tokenizer: Any, parts: list[str]) -> None:
    ids = encode_text(tokenizer, "".join(parts))
    assert not set(ids) & set(tokenizer.all_special_ids)


# ---- tokens to text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["plain words", "naïve café", "世界", "👩‍👩‍👧!", "mixed 世 and é", ""])
def test_pieces_of_text_are_whole_characters(tokenizer: Any, text: str) -> None:
    ids = encode_text(tokenizer, text)
    pieces = list(detokenize(tokenizer, iter(ids)))
    assert "".join(pieces) == text
    assert len(pieces) == len(ids) + 1  # one a token, and the rest
    assert not any("\ufffd" in piece for piece in pieces)


def test_half_a_character_at_the_end_is_told_as_what_it_is(tokenizer: Any) -> None:
    ids = encode_text(tokenizer, "ok 世")[:-1]
    assert "".join(detokenize(tokenizer, iter(ids))) == "ok \ufffd"


def test_control_tokens_are_no_text(tokenizer: Any) -> None:
    ids = [*encode_text(tokenizer, "done"), tokenizer.eos_token_id]
    assert "".join(detokenize(tokenizer, iter(ids))) == "done"


# ---- the template ----------------------------------------------------------------------------------------------------


class Processor:
    """What `read_template` needs of a processor."""

    audio_token = "<sound>"

    def __init__(self, tokenizer: Any, template: str) -> None:
        self.tokenizer = tokenizer
        self._template = template

    def apply_chat_template(self, messages: Any, **options: Any) -> str:
        rendered: str = self.tokenizer.apply_chat_template(messages, chat_template=self._template, **options)
        return rendered


def test_the_template_is_cut_at_the_audio_and_the_question(tokenizer: Any) -> None:
    template = read_template(Processor(tokenizer, CHAT_TEMPLATE))
    assert tokenizer.decode(template.head).endswith("<|im_start|>user\n")
    assert tokenizer.decode(template.tail) == "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{{ messages[0]['content'][1]['text'] }}<sound>", id="the text first"),
        pytest.param("<sound>\n{{ messages[0]['content'][1]['text'] }}", id="something between"),
        pytest.param("{{ messages[0]['content'][1]['text'] }}", id="no audio"),
        pytest.param("<sound>", id="no text"),
    ],
)
def test_a_template_of_another_form_is_refused(tokenizer: Any, template: str) -> None:
    with pytest.raises(ModelError, match="right before the user's text"):
        read_template(Processor(tokenizer, template))
