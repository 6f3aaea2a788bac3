"""Questions about audio, and the right answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Literal

from af3stream.engine.af3.prompt import TRANSCRIBE
from af3stream.models.mini.recipe import CARD
from training.score import bare
from training.sounds import INSTRUMENTS
from training.stopwords import COMMON
from training.texts import DAYS, MONTHS, NAMES, PLACES

Kind = Literal["mentioned", "about", "first", "last", "who", "transcribe", "heard", "which", "speaking", "playing"]

PROPER = frozenset((*NAMES, *MONTHS, *DAYS, *PLACES))
TURN = re.compile(r"^(?:(\w+) here|This is (\w+)|(\w+) speaking)\. (.+)$")

MENTIONED = ("Is {} mentioned?", "Is the word {} mentioned?", "Does anyone mention {}?", "Was {} mentioned?")
ABOUT = (
    *("What is said about {}?", "What was said about {}?", "What do they say about {}?", "What does it say about {}?"),
    *("Find the sentence with the word {}.", "Quote the sentence that mentions {}."),
)
FIRST = ("What was said first?", "What is the first thing that was said?", "How does it begin?")
LAST = ("What was said last?", "What is the last thing that was said?", "How does it end?")
WHO = ("Who mentions {}, {} or {}?", "Who said something about {}, {} or {}?", "Who spoke of {}: {} or {}?")
TRANSCRIPTION = (TRANSCRIBE, TRANSCRIBE, TRANSCRIBE, "What was said?", "Transcribe the audio.")
HEARD = ("What do you hear?", "What can be heard?", "What is heard in the recording?", "Describe what you hear.")
SOUND = ("Which sound is it?", "What sound is that?", "What makes the sound?", "Which sound can be heard?")
INSTRUMENT = ("Which instrument is playing?", "What instrument do you hear?", "What is being played?")
SPEAKING = ("Is anybody speaking?", "Does somebody speak?", "Is there speech?")
PLAYING = ("Is there music?", "Is any music playing?", "Do you hear music?")
MASS = frozenset(("rain", "wind", "thunder", "applause", "drums", "footsteps", "touch tones", "glass"))

# The text between captions and question in the service, by mini's card.
INSTRUCTION = CARD.instruction


@dataclass(frozen=True)
class Asked:
    """A question, its kind and its right answer."""

    kind: Kind
    question: str
    answer: str


def about_speech(random: Random, sentences: Sequence[str], absent: Sequence[str], count: int) -> list[Asked]:
    """Return questions about speech, of each kind in turn.

    Args:
        sentences: spoken sentences, in order.
        absent: sentences of other audio, for questions about words that do not occur.
        count: number of questions.
    """
    words = _telling(sentences)
    said = {word for sentence in sentences for word in bare(sentence)}
    elsewhere = [word for word in _telling(absent) if word.casefold() not in said]
    asked: list[Asked] = []
    for turn in range(count):
        kind = ("mentioned", "about", "mentioned", "who", "about", "first", "mentioned", "last", "about")[turn % 9]
        if kind == "mentioned" and words and elsewhere:
            there = random.random() < 0.5
            word = random.choice(list(words) if there else elsewhere)
            asked.append(Asked("mentioned", random.choice(MENTIONED).format(word), "Yes." if there else "No."))
        elif kind == "about" and words:
            if elsewhere and random.random() < 0.08:
                word = random.choice(elsewhere)
                asked.append(Asked("about", random.choice(ABOUT).format(word), f"Nothing is said about {word}."))
            else:
                word = random.choice(list(words))
                asked.append(Asked("about", random.choice(ABOUT).format(word), words[word]))
        elif kind == "who" and (who := _who(random, sentences)):
            asked.append(who)
        elif kind == "first":
            asked.append(Asked("first", random.choice(FIRST), sentences[0]))
        elif kind == "last":
            asked.append(Asked("last", random.choice(LAST), sentences[-1]))
    return list({question.question: question for question in asked}.values())


def transcription(random: Random, text: str) -> Asked:
    """Return a question for the transcript."""
    return Asked("transcribe", random.choice(TRANSCRIPTION), text)


def about_sound(random: Random, name: str) -> list[Asked]:
    """Return questions about a sound; ``name`` is an instrument, a sound, ``silence`` or ``speech``."""
    heard, pick = _named(name), random.choice
    asked: list[tuple[Kind, str, str]]
    if name == "silence":
        asked = [
            ("heard", pick(HEARD), "Nothing is heard, it is silent."),
            ("which", pick(SOUND), "There is no sound."),
        ]
    elif name == "speech":
        asked = [("heard", pick(HEARD), "Somebody is speaking."), ("which", pick(SOUND), "It is somebody's voice.")]
    elif name in INSTRUMENTS:
        asked = [("heard", pick(HEARD), f"Music: {heard} is playing."), ("which", pick(INSTRUMENT), f"It is {heard}.")]
    else:
        asked = [("heard", pick(HEARD), f"The sound of {heard}."), ("which", pick(SOUND), f"It is {heard}.")]
    speaking = "Yes, somebody is speaking." if name == "speech" else "No, nobody is speaking."
    playing = f"Yes, {heard} is playing." if name in INSTRUMENTS else "No, there is no music."
    asked += [("speaking", pick(SPEAKING), speaking), ("playing", pick(PLAYING), playing)]
    return [Asked(kind, question, answer) for kind, question, answer in asked]


def asking(question: str) -> str:
    """Return a question as the service puts it into the prompt."""
    return f"{INSTRUCTION}{question}"


def _named(name: str) -> str:
    """Return an instrument or a sound with its article."""
    if name in MASS or name in ("silence", "speech"):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _telling(sentences: Sequence[str]) -> dict[str, str]:
    """Return the words that occur in one sentence only, with their sentences."""
    places: dict[str, list[str]] = {}
    for sentence in sentences:
        for word in {*_words(sentence)}:
            if len(word) > 3 and word.isalpha() and word.casefold() not in COMMON:
                places.setdefault(word, []).append(sentence)
    return {word: found[0] for word, found in sorted(places.items()) if len(found) == 1}


def _words(sentence: str) -> Iterator[str]:
    """Return the words of a sentence, without the capital at its beginning."""
    for before, word in pairwise([".", *sentence.split()]):
        bare_word = word.strip(".,;:!?'")
        begins = before[-1] in ".!?" and bare_word not in PROPER
        yield bare_word.lower() if begins else bare_word


def _who(random: Random, sentences: Sequence[str]) -> Asked | None:
    """Return a question about who of two speakers said a word, if two say their names."""
    turns = {next(filter(None, m.groups()[:3])): m[4] for s in sentences if (m := TURN.match(s))}
    if len(turns) < 2:
        return None
    pair = random.sample(sorted(turns), 2)
    words = [w for w, s in _telling(sentences).items() if turns[pair[0]] in s and w.casefold() in bare(turns[pair[0]])]
    if not words:
        return None
    shown = random.sample(pair, 2)
    return Asked("who", random.choice(WHO).format(random.choice(words), *shown), f"{pair[0]}.")
