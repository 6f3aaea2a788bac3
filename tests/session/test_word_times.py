"""Word times in a session: the words of the displayed text, in order, within the caption, told, kept and corrected."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from af3stream.engine.captioning import CaptionRequest, Hypothesis, TimedWord
from af3stream.engine.counters import Counters
from af3stream.engine.jobs import CaptionJob
from af3stream.engine.scripted import ScriptedEngine
from af3stream.engine.worker import Worker
from af3stream.errors import BadFormat
from af3stream.journal.records import Record
from af3stream.protocol import messages as m
from af3stream.protocol.features import known_to, restrict
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.session.hallucinations import without_loops
from af3stream.session.session import Session
from af3stream.session.word_times import fitted, kept, shared_out, told
from tests.session.conversation import SENTENCE, SILENCE, Conversation
from tests.session.test_caption_revision import HearsBetterTogether
from tests.session.test_restore import hear, new_session, recovered, run

WORDS = m.Start(interims=False, words=True)


def timed(text: str, step: int = 1_600) -> list[TimedWord]:
    """The words of a text, a tenth of a second each."""
    return [TimedWord(word, i * step, (i + 1) * step, 0.9) for i, word in enumerate(text.split())]


def letters(text: str) -> str:
    return "".join(text.split())


def spans(words: tuple[TimedWord, ...]) -> list[tuple[str, int, int]]:
    return [(word.text, word.start // 1_600, word.end // 1_600) for word in words]


# ---- the words of a text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "text", "words"),
    [
        pytest.param("a b c", "a b c", [("a", 0, 1), ("b", 1, 2), ("c", 2, 3)], id="the same"),
        pytest.param("no no no no it", "no it", [("no", 3, 4), ("it", 4, 5)], id="left out"),
        pytest.param("i is it", "I, was it", [("I,", 0, 1), ("was", 1, 2), ("it", 2, 3)], id="replaced"),
        pytest.param("a xx c", "a b b c", [("a", 0, 1), ("b", 1, 1), ("b", 1, 2), ("c", 2, 3)], id="one by two"),
        pytest.param("a c", "a b c", [("a", 0, 1), ("b", 1, 1), ("c", 1, 2)], id="put in"),
        pytest.param("b", "a b c", [("a", 0, 0), ("b", 0, 1), ("c", 1, 1)], id="put in at the ends"),
        pytest.param("a b", "", [], id="no text"),
        pytest.param("", "a b", [], id="no times"),
    ],
)
def test_a_text_has_its_own_words_with_the_times_of_those_that_were_heard(
    heard: str, text: str, words: list[tuple[str, int, int]]
) -> None:
    assert spans(fitted(timed(heard), text, 100_000)) == words


times = st.integers(-5_000, 50_000)
words = st.builds(TimedWord, st.sampled_from(["a", "b", "b,", "c.", "« d", "字"]), times, times, st.floats(0, 1))


@given(st.lists(words, min_size=1, max_size=12), st.text(" abcd.«字-", max_size=30), st.integers(0, 40_000))
def test_words_are_those_of_the_text_in_order_and_inside(heard: list[TimedWord], text: str, length: int) -> None:
    for displayed in (text, without_loops(" ".join(word.text for word in heard))):
        made = fitted(heard, displayed, length)
        assert letters("".join(word.text for word in made)) == letters(displayed)
        assert all(0 <= word.start <= word.end <= length for word in made)
        assert all(early.end <= late.start for early, late in pairwise(made))


@given(st.lists(words, max_size=12), st.lists(st.integers(0, 12), max_size=3), st.integers(1, 30_000))
def test_shared_words_are_those_of_each_caption_in_order_and_inside(
    heard: list[TimedWord], cuts: list[int], length: int
) -> None:
    bounds = [0, *sorted(min(cut, len(heard)) for cut in cuts), len(heard)]
    texts = [" ".join(word.text for word in heard[first:end]) for first, end in pairwise(bounds)]
    ranges = [(i * length, (i + 1) * length) for i in range(len(texts))]
    for text, share in zip(texts, shared_out(heard, texts, ranges), strict=True):
        assert letters("".join(word.text for word in share)) == letters(text)
        assert all(0 <= word.start <= word.end <= length for word in share)


def test_words_of_a_message_come_back_as_they_were() -> None:
    line = tuple(timed("Good morning."))
    caption = m.Caption(0, "Good morning.", 2.5, 3.0, final=True, words=told(line, 40_000))
    assert [(word.start, word.end) for word in caption.words] == [(2.5, 2.6), (2.6, 2.7)]
    assert kept(caption) == line


# ---- in a session ----------------------------------------------------------------------------------------------------


def test_finals_have_words_where_they_are_asked_for() -> None:
    talk = Conversation(m.Start(words=True))
    talk.hear(SILENCE + SENTENCE * 2)
    for caption in talk.finals:
        assert " ".join(word.text for word in caption.words) == caption.text
        assert caption.start <= caption.words[0].start and caption.words[-1].end <= caption.end
        assert all(early.end <= late.start for early, late in pairwise(caption.words))
    assert talk.interims and not any(caption.words for caption in talk.interims)
    assert talk.of(m.Ready)[0].words


def test_nothing_is_aligned_where_nobody_asks() -> None:
    talk = Conversation()
    talk.hear(SENTENCE * 2)
    counters: Counters = talk.engine.counters
    assert counters.caption_encodes and not counters.alignments
    assert talk.finals and not any(caption.words for caption in talk.finals)
    assert not any(job.options.words for job in talk.asked_of_engine(CaptionJob))
    assert not talk.of(m.Ready)[0].words


def test_a_captioner_without_times_refuses_words_by_name() -> None:
    engine = ScriptedEngine()
    engine.captioner.times_words = False
    with pytest.raises(BadFormat, match=r"scripted .*words"):
        Conversation(m.Start(words=True), engine=engine)
    Conversation(engine=engine)


def test_words_are_told_to_who_asks_or_lists_the_feature() -> None:
    caption = m.Caption(0, "Hm.", 0.0, 1.0, final=True, words=(m.Word("Hm.", 0.0, 1.0, 0.5),))
    update = m.CaptionUpdate(0, "Hm.", 0.0, 1.0, words=caption.words)
    assert restrict(caption, known_to(m.Start(words=True))) == caption
    for message in (caption, update):
        assert restrict(message, ("words", "caption_updates")) == message
        told = restrict(message, ("caption_updates",))
        assert isinstance(told, m.Caption | m.CaptionUpdate) and told.words == ()


def test_a_word_is_a_map_of_four_fields() -> None:
    assert msgspec.json.encode(m.Word("Hm.", 0.25, 1.0, 0.5)) == (
        b'{"text":"Hm.","start":0.25,"end":1.0,"probability":0.5}'
    )


class TimesBoth(HearsBetterTogether):
    """Gives every word of an utterance and of a window a tenth of a second."""

    def __init__(self, together: str) -> None:
        super().__init__(together)
        hear = self.captioner.hear

        def with_words(request: CaptionRequest) -> Hypothesis:
            said = hear(request)
            return replace(said, words=tuple(timed(said.text)))

        self.captioner.hear = with_words  # type: ignore[method-assign]


def test_a_correction_has_the_words_and_the_times_of_the_second_pass() -> None:
    talk = Conversation(WORDS, engine=TimesBoth("caption number one. Caption number two. Caption number three."))
    talk.hear(SENTENCE * 3 + SILENCE * 2)
    talk.tell(m.Flush("f"))
    [update] = talk.of(m.CaptionUpdate)
    assert [word.text for word in update.words] == ["caption", "number", "one."]
    assert [round(word.start - update.start, 3) for word in update.words] == [0.0, 0.1, 0.2]
    finals = FinalCaptions()
    for message in talk.said:
        finals.add(message)
    assert all(" ".join(word.text for word in caption.words) == caption.text for caption in finals)


def test_a_restart_keeps_word_times() -> None:
    engine, records = ScriptedEngine(), list[Record]()
    first = new_session(engine, start=WORDS)
    hear(first)
    run(first, Worker(engine), records)
    alignments = engine.counters.alignments
    second = new_session(engine, start=WORDS)
    second.restore(recovered(records, joined=True))
    run(second, Worker(engine), list[Record]())
    assert [caption.words for caption in finals(second)] == [caption.words for caption in finals(first)]
    assert all(caption.words for caption in finals(second))
    assert engine.counters.alignments == alignments


def finals(session: Session) -> list[m.Caption]:
    return [message for message in session.greet() if isinstance(message, m.Caption)]
