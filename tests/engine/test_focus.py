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
from af3stream.engine.af3.focus import FAINT, PAUSE, PLAIN, SENTENCES, Focus, telling
from af3stream.engine.af3.spelling import Filler, Spelling, Units
from af3stream.engine.contract import Part, Samples, Sound, Text, note, noted
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

    def spells(self, window: Sound) -> tuple[torch.Tensor, Filler]:
        """A window's frames, and what they spell."""
        assert isinstance(window.embeddings, torch.Tensor)
        return window.embeddings, self.focus.read(window)

    def utterance(self, window: Part, number: int) -> torch.Tensor:
        """The frames of one of the sentences in a window, with a pause on both sides."""
        assert isinstance(window, Sound)
        assert isinstance(window.embeddings, torch.Tensor)
        first = len(PAUSES)
        for before in range(number + 1):
            last = first + 2 * len(self.units.encode(SAID[before], first=not before)) - 1
            first, begun = last + 1 + len(PAUSES), first
        return window.embeddings[begun - PAUSE : last + PAUSE]

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
        ("What did Anna say about the re-used budget?", ["Anna", "re-used", "budget"]),
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


@pytest.mark.parametrize("word", ["Rain", "rain", "fell", "melts", "rose", "Dust"])
def test_a_word_is_spotted_where_it_is_said_however_it_is_written(heard: Heard, word: str) -> None:
    windows = [heard.spells(heard.window(*SAID[:2])), heard.spells(heard.window(SAID[2]))]
    spot = heard.spelling.spot(windows, word)
    assert spot is not None
    assert spot.score > PLAIN
    assert word.casefold() in " ".join((SAID[:2], SAID[2:])[spot.window]).casefold()
    there = windows[spot.window][0][spot.first : spot.last + 1]
    assert heard.spelled(there).casefold() == word.casefold()


def test_a_word_that_is_not_said_is_less_likely_anywhere(heard: Heard) -> None:
    windows = [heard.spells(heard.window(*SAID))]
    spot = heard.spelling.spot(windows, "thunder")
    assert spot is not None
    assert spot.score < FAINT


def test_nothing_is_spotted_in_nothing(heard: Heard) -> None:
    assert heard.spelling.spot([], "rain") is None


def test_a_word_with_a_token_twice_has_a_blank_between(heard: Heard) -> None:
    """``ll`` of single letters is two tokens; said once, it is another word."""
    twice, once = (heard.spells(heard.window(text)) for text in ("zzz llll", "zzz ll"))
    scores = [heard.spelling.spot([window], "llll") for window in (twice, once)]
    assert scores[0] is not None and scores[1] is not None
    assert scores[0].score > scores[1].score


def bodies(heard: Heard) -> list[Part]:
    """Two windows, each with its note."""
    first, second = heard.window(*SAID[:2]), heard.window(SAID[2])
    return [first, note(" ".join(SAID[:2])), second, note(SAID[2])]


@pytest.mark.parametrize(
    ("question", "shown"),
    [
        ("What is said about rain?", "Rain fell."),
        ("Is SNOW mentioned?", "Snow melts."),
        ("What of the snow and the dust?", "Snow melts. Dust rose."),
        ("What of dust that rose, and of rain?", "Dust rose."),  # most of what is asked about
    ],
)
def test_words_that_stand_in_notes_show_their_sentences(heard: Heard, question: str, shown: str) -> None:
    assert heard.focus.shown(bodies(heard), question) == [note(shown)]
    assert not heard.focus.listens(bodies(heard), question)


def test_the_stop_of_a_title_ends_no_sentence(heard: Heard) -> None:
    body = [note("Rain fell. And Mr. Snow met Mrs. Dust, and Dr. Rose of St. Ives. Then all slept.")]
    shown = heard.focus.shown(body, "What is said about Rose?")
    assert shown == [note("And Mr. Snow met Mrs. Dust, and Dr. Rose of St. Ives.")]


@pytest.mark.parametrize("question", ["What was said first?", "Who mentions rain?"])
def test_what_names_no_words_is_asked_of_the_whole(heard: Heard, question: str) -> None:
    assert heard.focus.shown(bodies(heard), question) is None


def test_what_is_said_too_often_is_asked_of_the_whole(heard: Heard) -> None:
    often = [note("Rain fell. " * SENTENCES), note("And more rain.")]
    assert heard.focus.shown(often, "What is said about rain?") is None
    assert heard.focus.shown(often[1:], "What is said about rain?") == often[1:]


def test_a_word_that_no_note_has_is_put_where_it_was_misheard(heard: Heard) -> None:
    """The frames spell ``Snow melts.``"""
    body = bodies(heard)
    body[1] = note("Rain fell. So melts.")
    assert heard.focus.listens(body, "What is said about snow?")
    assert heard.focus.shown(body, "What is said about snow?") == [note("snow melts.")]


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


@pytest.mark.parametrize(("score", "shown"), [(PLAIN, "snow melts."), (PLAIN - 0.1, "Rain fell. So melts.")])
def test_whether_a_word_is_said_that_no_note_has_is_told_by_the_notes_with_it_where_it_is_heard_plainly(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, score: float, shown: str
) -> None:
    spot = heard.spelling.spot
    monkeypatch.setattr(heard.spelling, "spot", lambda *args: replace(spot(*args), score=score))
    body = bodies(heard)
    body[1] = note("Rain fell. So melts.")
    assert heard.focus.shown(body, "Is snow mentioned?") == [note(shown)]


@pytest.mark.parametrize(("word", "beside"), [("rain", "hail"), ("snow", "sleet")])
def test_where_it_would_fit_as_well_elsewhere_it_is_put_near_where_it_is_heard(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, word: str, beside: str
) -> None:
    monkeypatch.setattr(heard.spelling, "likelihoods", lambda _, texts: [0.0] * len(texts))
    body = [heard.window(*SAID[:2]), note("hail hail hail hail. sleet sleet sleet sleet.")]
    (shown,) = heard.focus.shown(body, f"What is said about {word}?") or ()
    assert isinstance(shown, Text)
    assert word in noted(shown) and beside in noted(shown)


def test_without_notes_the_frames_of_an_utterance_are_shown(heard: Heard) -> None:
    body: Sequence[Part] = [part for part in bodies(heard) if isinstance(part, Sound)]
    (shown,) = heard.focus.shown(body, "What is said about snow?") or ()
    assert same_frames(shown, heard.utterance(body[0], 1))


def test_whether_a_word_is_said_is_told_beside_its_frames_where_it_is_heard_plainly(heard: Heard) -> None:
    body: Sequence[Part] = [part for part in bodies(heard) if isinstance(part, Sound)]
    stretch, told = heard.focus.shown(body, "Is snow mentioned?") or ()
    assert same_frames(stretch, heard.utterance(body[0], 1))
    assert told == note("snow")
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
    parts, context, whole = parts_of(focused, body), focused.context(), "What was said first?"
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
    question = "What is said about snow?"
    expected = engine.text(reference.reply(loaded, body, question, 20))
    assert answer(engine.context(), parts_of(engine, body), question, 20)[0] == expected


def test_all_windows_have_to_be_there_where_a_word_is_listened_for(focused: Af3Engine, signal: Signal) -> None:
    parts, context = parts_of(focused, [signal(3.0, 2), signal(4.0, 3)]), focused.context()
    list(context.extend(parts))
    assert context.held(parts) == context.held(parts, "What was said first?") == 2
    assert context.held(parts, "What is said about snow?") == 0


@pytest.mark.parametrize("question", ["What is said about snow?", "Is snow mentioned?", "What was said first?"])
def test_a_focused_answer_takes_no_more_memory_than_it_is_promised(
    focused: Af3Engine, signal: Signal, question: str
) -> None:
    parts, context = parts_of(focused, [signal(3.0, 2), "Transcript: Snow melts.\n", signal(4.0, 3)]), focused.context()
    list(context.extend(parts))
    promised = context.bytes_for(parts, question, 20)
    assert promised >= context.kept_bytes + context._position_bytes * (focused._fusion.positions((), question) + 20)
