"""A question that names words is answered from where they were said, and any other from the whole body."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from weakref import ref

import pytest
import torch

from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.context import SHOWN
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.focus import (
    FAINT,
    FEW,
    MISHEARD_FAINT,
    MISHEARD_PLAIN,
    PAUSE,
    PLAIN,
    SHORT,
    Focus,
    named,
    telling,
)
from af3stream.engine.af3.spelling import Spelling, Stretch, Units
from af3stream.engine.contract import Noted, Part, Samples, Sound, Text, note
from tests.engine import reference
from tests.engine.conftest import answer, as_frames, parts_of

Signal = Callable[[float, int], Samples]

TOKENS = 200
SAID = ("Rain fell.", "Snow melts.", "Dust rose.")
PAUSES = [-1] * (2 * PAUSE)  # blank frames


class Heard:
    """Windows whose frames spell what is said in them, and what finds a word there."""

    def __init__(self, loaded: LoadedCheckpoint) -> None:
        torch.manual_seed(1)
        self.tokenizer = loaded.processor.tokenizer
        self.table, self.units = torch.randn(TOKENS, 64) + 0.3, Units(self.tokenizer, TOKENS)
        self.spelling = Spelling(self.table, self.tokenizer, TOKENS)
        self.focus = Focus(self.spelling)

    def window(self, *sentences: str) -> Sound:
        """Sentences with pauses around each, a blank between its units."""
        tokens = [*PAUSES]
        for number, sentence in enumerate(sentences):
            for unit in self.units.encode(sentence, first=not number):
                tokens += [unit, -1]
            tokens += PAUSES
        frames = as_frames(self.table, tokens)
        return Sound(None, len(frames), frames)

    def spells(self, window: Sound) -> Stretch:
        """A window's frames, and what they spell."""
        assert isinstance(window.embeddings, torch.Tensor)
        return Stretch(window.embeddings, self.focus.read(window), 0, window.tokens)

    def frames(self, sentences: Sequence[str]) -> list[tuple[int, int]]:
        """The first frame, and that after the last, of each sentence in a window of these."""
        places, first = [], len(PAUSES)
        for number, sentence in enumerate(sentences):
            last = first + 2 * len(self.units.encode(sentence, first=not number)) - 1
            places.append((first, last))
            first = last + 1 + len(PAUSES)
        return places

    def utterance(self, window: Part, number: int) -> torch.Tensor:
        """The frames of one of the sentences in a window of `SAID`, with a pause on both sides."""
        assert isinstance(window, Sound)
        assert isinstance(window.embeddings, torch.Tensor)
        begun, last = self.frames(SAID)[number]
        return window.embeddings[begun - PAUSE : last + PAUSE]

    def noted(self, *sentences: str, heard: Sequence[str] | None = None) -> tuple[Sound, Text]:
        """A window of these sentences, and its note; what the captioner heard, where that differs."""
        window, places = self.window(*sentences), self.frames(sentences)
        captions = zip(heard or sentences, places, strict=True)
        return window, note(Noted(text, a / window.tokens, b / window.tokens) for text, (a, b) in captions)

    def spelled(self, frames: object) -> str:
        """What frames spell."""
        assert isinstance(frames, torch.Tensor)
        words: str = self.tokenizer.decode(self.spelling(frames))
        return words.strip()


def same_frames(part: Part, frames: torch.Tensor) -> bool:
    """Whether a sound is these frames."""
    return isinstance(part, Sound) and isinstance(part.embeddings, torch.Tensor) and part.embeddings.equal(frames)


@pytest.fixture
def heard(loaded: LoadedCheckpoint) -> Heard:
    return Heard(loaded)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Is the word rain mentioned?", ["rain"]),
        ("What did Anna say about the tea-stained budget?", ["Anna", "tea", "stained", "budget"]),
        ("Find the sentence with the word o'clock.", ["o'clock"]),
        ("What was said first?", []),
        ("Who mentions rain?", []),
        ("How does it end?", []),
        ("What do you hear?", []),
        ("Which instrument is playing?", []),
        ("Summarise the conversation.", []),
        ("?!", []),
    ],
)
def test_the_words_that_tell_what_a_question_is_about(question: str, words: list[str]) -> None:
    assert telling(question) == words


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("What is said about the voice?", ["voice"]),
        ("Is silence mentioned?", ["silence"]),
        ("Is the word silence mentioned?", ["silence"]),
        ("Quote the sentence that mentions voice.", ["voice"]),
        ("Find the sentence with the word spoken.", ["spoken"]),
        ("What did they say about it?", []),
        ("What was said first?", []),
    ],
)
def test_what_a_question_says_itself_that_it_is_about(question: str, words: list[str]) -> None:
    assert telling(question) == []
    assert named(question) == words


@pytest.mark.parametrize(("said", "shown"), [("A soft voice.", ["A soft voice."]), ("Rain fell.", None)])
def test_a_word_that_questions_are_made_of_is_looked_for_only_where_it_was_said(
    heard: Heard, said: str, shown: list[str] | None
) -> None:
    body = [*heard.noted(*SAID[:2]), *heard.noted(SAID[2], heard=[said])]
    question = "What is said about the voice?"
    assert not heard.focus.listens(body, question)
    found = heard.focus.shown(body, question)
    assert (found and told(found)) == shown


@pytest.mark.parametrize("word", ["Rain", "rain", "fell", "melts", "rose", "Dust"])
def test_a_word_is_spotted_where_it_is_said_however_it_is_written(heard: Heard, word: str) -> None:
    windows = [heard.spells(heard.window(*SAID[:2])), heard.spells(heard.window(SAID[2]))]
    spots = heard.spelling.spot(windows, word)
    spot = max(spots)
    assert spot.score > PLAIN > min(spots).score
    window = spots.index(spot)
    assert word.casefold() in " ".join((SAID[:2], SAID[2:])[window]).casefold()
    assert heard.spelled(windows[window].frames[spot.first : spot.last + 1]).casefold() == word.casefold()


def test_a_word_is_spotted_in_each_stretch_of_a_window(heard: Heard) -> None:
    window = heard.spells(heard.window(*SAID))
    stretches = [replace(window, first=first, end=end) for first, end in heard.frames(SAID)]
    spots = heard.spelling.spot(stretches, "snow")
    assert [spot.score > PLAIN for spot in spots] == [False, True, False]
    assert [spots[1]] == [max(heard.spelling.spot([window], "snow"))]
    for spot, stretch in zip(spots, stretches, strict=True):
        assert stretch.first <= spot.first <= spot.last < stretch.end


def test_a_word_that_is_not_said_is_less_likely_anywhere(heard: Heard) -> None:
    (spot,) = heard.spelling.spot([heard.spells(heard.window(*SAID))], "thunder")
    assert spot.score < FAINT


def test_nothing_is_spotted_in_nothing_and_no_word_that_cannot_be_spelled(heard: Heard) -> None:
    assert heard.spelling.spot([], "rain") == []
    assert heard.spelling.spot([heard.spells(heard.window(*SAID))], "") == []


def test_a_word_with_a_token_twice_has_a_blank_between(heard: Heard) -> None:
    """``ll`` of single letters is two tokens; said once, it is another word."""
    (twice,), (once,) = (
        heard.spelling.spot([heard.spells(heard.window(text))], "llll") for text in ("zzz llll", "zzz ll")
    )
    assert twice.score > once.score


def bodies(heard: Heard) -> list[Part]:
    """Two windows, each with its note."""
    return [*heard.noted(*SAID[:2]), *heard.noted(SAID[2])]


def misheard(heard: Heard, *captions: str) -> list[Part]:
    """The same, and what the captioner heard in the first."""
    return [*heard.noted(*SAID[:2], heard=captions), *heard.noted(SAID[2])]


def told(shown: Sequence[Part] | None) -> list[str]:
    """The captions in what is shown, where it is a note."""
    (part,) = shown or ()
    assert isinstance(part, Text)
    return [caption.words for caption in part.captions]


@pytest.mark.parametrize(
    ("question", "shown"),
    [
        ("What is said about rain?", ["Rain fell."]),
        ("Is SNOW mentioned?", ["Snow melts."]),
        ("What of the snow and the dust?", ["Snow melts.", "Dust rose."]),
        ("What of dust that rose, and of rain?", ["Dust rose."]),  # most of what is asked about
    ],
)
def test_words_that_stand_in_notes_show_their_captions(heard: Heard, question: str, shown: list[str]) -> None:
    assert told(heard.focus.shown(bodies(heard), question)) == shown
    assert not heard.focus.listens(bodies(heard), question)


@pytest.mark.parametrize("written", ["A dust-red sky.", "It is dust, red."])
def test_a_word_is_found_within_one_with_a_hyphen(heard: Heard, written: str) -> None:
    assert told(heard.focus.shown([note([Noted(written)])], "What is said about dust?")) == [written]
    assert told(heard.focus.shown([note([Noted(written)])], "What is said about dust-red?")) == [written]


def test_a_caption_is_shown_with_all_its_sentences_and_of_a_long_one_the_sentence(heard: Heard) -> None:
    caption = "A day of rest. Sunday, it is."
    assert told(heard.focus.shown([note([Noted(caption)])], "What is said about Sunday?")) == [caption]
    long = " ".join([caption, *["Rain fell."] * (SHORT // 2)])
    assert told(heard.focus.shown([note([Noted(long)])], "What is said about Sunday?")) == ["Sunday, it is."]


def test_the_stop_of_a_title_ends_no_sentence(heard: Heard) -> None:
    slept = "Then all slept. " * (SHORT // 3)
    body = [note([Noted(f"Rain fell. And Mr. Snow met Mrs. Dust, and Dr. Rose of St. Ives. {slept}")])]
    shown = heard.focus.shown(body, "What is said about Rose?")
    assert told(shown) == ["And Mr. Snow met Mrs. Dust, and Dr. Rose of St. Ives."]


@pytest.mark.parametrize("question", ["What was said first?", "Who mentions rain?"])
def test_what_names_no_words_is_asked_of_the_whole(heard: Heard, question: str) -> None:
    assert heard.focus.shown(bodies(heard), question) is None


def test_what_is_said_too_often_is_asked_of_the_whole(heard: Heard) -> None:
    often = [note([Noted("Rain fell.")] * FEW), note([Noted("And more rain.")])]
    assert heard.focus.shown(often, "What is said about rain?") is None
    assert heard.focus.shown(often[1:], "What is said about rain?") == often[1:]


def test_a_word_that_no_note_has_is_put_where_it_was_misheard(heard: Heard) -> None:
    """The frames spell ``Snow melts.``"""
    body = misheard(heard, "Rain fell.", "So melts.")
    assert heard.focus.listens(body, "What is said about snow?")
    assert told(heard.focus.shown(body, "What is said about snow?")) == ["snow melts."]


def test_of_a_long_caption_the_sentence_is_shown_that_it_belongs_in(heard: Heard) -> None:
    window, places = heard.window(*SAID), heard.frames(SAID)
    hail = "Hail fell. " * SHORT
    caption = Noted(f"So melts. Dust rose. {hail}".strip(), places[1][0] / window.tokens, places[2][1] / window.tokens)
    assert told(heard.focus.shown([window, note([caption])], "What is said about snow?")) == ["snow melts."]


@pytest.mark.parametrize("question", ["What is said about thunder?", "Is thunder mentioned?"])
def test_a_word_that_is_not_heard_either_shows_the_notes_of_the_window_that_is_likest_to_have_it(
    heard: Heard, question: str
) -> None:
    """Of few words a model sees better that it is none of them."""
    body = bodies(heard)
    (shown,) = heard.focus.shown(body, question) or ()
    assert shown in body


def test_without_notes_what_is_not_heard_either_is_asked_of_the_whole(heard: Heard) -> None:
    alone = [part for part in bodies(heard) if isinstance(part, Sound)]
    assert heard.focus.shown(alone, "What is said about thunder?") is None


def test_what_cannot_be_spelled_is_asked_of_the_whole(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard.spelling, "spot", lambda *_: [])
    body = bodies(heard)
    assert heard.focus.shown(body, "What is said about thunder?") is None
    assert heard.focus.shown([body[0]], "What is said about thunder?") is None


@pytest.mark.parametrize(
    ("question", "least"), [("Is {} mentioned?", MISHEARD_PLAIN), ("What is said about {}?", MISHEARD_FAINT)]
)
@pytest.mark.parametrize(("above", "shown"), [(0.1, ["snow melts."]), (-0.1, ["Rain fell.", "So melts."])])
def test_a_word_is_put_in_where_it_is_likely_enough_and_more_so_where_nothing_is_taken_for_granted(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, question: str, least: float, above: float, shown: list[str]
) -> None:
    found = heard.focus._fitting
    monkeypatch.setattr(heard.focus, "_fitting", lambda *args: [replace(max(found(*args)), score=least + above)])
    body = misheard(heard, "Rain fell.", "So melts.")
    assert told(heard.focus.shown(body, question.format("snow"))) == shown


@pytest.mark.parametrize(
    ("captions", "shown"),
    [
        (["Rain fell.", "Hail hill hull hall"], "snow hull hall"),  # where it is heard
        (["Rain fell.", "Hail hill hull knows"], "Hail hill hull snow"),  # and what is written most like it
        (["Knows fell.", "Hail hill hull hall"], "snow hull hall"),  # and not in another utterance
    ],
)
def test_it_replaces_what_stands_where_it_is_heard_or_is_written_like_it(
    heard: Heard, captions: list[str], shown: str
) -> None:
    assert told(heard.focus.shown(misheard(heard, *captions), "What is said about snow?")) == [shown]


def test_without_notes_the_frames_of_an_utterance_are_shown(heard: Heard) -> None:
    body: Sequence[Part] = [part for part in bodies(heard) if isinstance(part, Sound)]
    (shown,) = heard.focus.shown(body, "What is said about snow?") or ()
    assert same_frames(shown, heard.utterance(body[0], 1))


def test_whether_a_word_is_said_is_told_beside_its_frames_where_it_is_heard_plainly(heard: Heard) -> None:
    body: Sequence[Part] = [part for part in bodies(heard) if isinstance(part, Sound)]
    stretch, word = heard.focus.shown(body, "Is snow mentioned?") or ()
    assert same_frames(stretch, heard.utterance(body[0], 1))
    assert word == note([Noted("snow")])
    (unlikely,) = heard.focus.shown(body, "Is thunder mentioned?") or ()
    assert isinstance(unlikely, Sound)


def test_a_window_is_read_once_and_its_frames_can_be_dropped(heard: Heard) -> None:
    window = heard.window(*SAID)
    frames = ref(window.embeddings)
    read = heard.focus.read(window)
    window.embeddings = None
    assert frames() is None
    assert heard.focus.read(window) is read


@pytest.fixture
def focused(loaded: LoadedCheckpoint) -> Af3Engine:
    return Af3Engine(loaded, "tiny", spelled=TOKENS, focused=True)


def test_a_focused_answer_is_what_generate_gives_over_what_is_shown(
    focused: Af3Engine, loaded: LoadedCheckpoint, signal: Signal
) -> None:
    """And the prefix is as it was, so that the next question of the whole is read as before."""
    body = [signal(3.0, 2), "Transcript: Rain fell. Snow melts.\n", signal(4.0, 3), "Transcript: Dust rose.\n"]
    first, _, second, _ = parts_of(focused, body)
    parts = [first, note(map(Noted, SAID[:2])), second, note(map(Noted, SAID[2:]))]
    context, whole = focused.context(), "What was said first?"
    list(context.extend(parts))
    kept = context.kept_tokens
    for question, shown in (
        ("What is said about snow?", ["Transcript: Snow melts.\n"]),
        (whole, body),
        ("What is said about rain and dust?", ["Transcript: Rain fell. Dust rose.\n"]),
    ):
        expected = focused.text(reference.reply(loaded, shown, question, 20))
        got, completion = answer(context, parts, question, 20)
        assert got == expected
        assert completion.prefilled < SHOWN
        assert context.kept_tokens == kept


def test_without_focus_every_question_is_asked_of_the_whole(loaded: LoadedCheckpoint, signal: Signal) -> None:
    engine = Af3Engine(loaded, "tiny", spelled=TOKENS)
    body = [signal(3.0, 2), "Transcript: Rain fell. Snow melts.\n"]
    parts = [parts_of(engine, body)[0], note(map(Noted, SAID[:2]))]
    question = "What is said about snow?"
    expected = engine.text(reference.reply(loaded, body, question, 20))
    assert answer(engine.context(), parts, question, 20)[0] == expected


def test_all_windows_have_to_be_there_where_a_word_is_listened_for(focused: Af3Engine, signal: Signal) -> None:
    parts, context = parts_of(focused, [signal(3.0, 2), signal(4.0, 3)]), focused.context()
    list(context.extend(parts))
    assert context.held(parts) == context.held(parts, "What was said first?") == 2
    assert context.held(parts, "What is said about snow?") == 0


@pytest.mark.parametrize("question", ["What is said about snow?", "Is snow mentioned?", "What was said first?"])
def test_a_focused_answer_takes_no_more_memory_than_it_is_promised(
    focused: Af3Engine, signal: Signal, question: str
) -> None:
    first, second = parts_of(focused, [signal(3.0, 2), signal(4.0, 3)])
    parts, context = [first, note([Noted(SAID[1])]), second], focused.context()
    list(context.extend(parts))
    promised = context.bytes_for(parts, question, 20)
    assert promised >= context.kept_bytes + context._position_bytes * (focused._fusion.positions((), question) + 20)
