"""Texts for training: WordNet examples and definitions, sayings, the Jargon File, and composed sentences.

Composed sentences have meetings, dates, numbers, names and spelling. Each text is spoken as it is written: no digits,
no abbreviations, a capital at its beginning and a mark at its end.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

WORDNET = Path("/usr/share/wordnet")
FORTUNES = Path("/usr/share/games/fortunes")
JARGON = Path("/usr/share/dictd/jargon.dict.dz")

HELD_OUT = 0.03  # share of texts that no training clip uses
WORDS_MAX = 18

NAMES = (
    *("Anna", "Ben", "Clara", "Daniel", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack", "Kate", "Leo", "Mary"),
    *("Noah", "Olivia", "Peter", "Rachel", "Sam", "Tina", "Victor", "Walter", "Zoe", "Laura", "Martin", "Susan"),
)
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fifteenth", "twentieth", "twenty-first", "twenty-third", "thirtieth"),
)
SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
PLACES = (
    *("Berlin", "London", "Paris", "Boston", "Chicago", "Dublin", "Madrid", "Oslo", "Rome", "Vienna", "Tokyo"),
    *("Lisbon", "the office", "the station", "the airport", "the library", "the hotel", "the main hall"),
)
THINGS = (
    *("budget", "report", "contract", "printer", "server", "database", "key", "invoice", "schedule", "garden"),
    *("kitchen", "camera", "letter", "ticket", "window", "engine", "proposal", "survey", "website", "warehouse"),
    *("password", "meeting", "presentation", "delivery", "truck", "bridge", "project", "lease", "vaccine", "battery"),
    *("umbrella", "piano", "bicycle", "passport", "laptop", "bakery", "sample", "design", "draft", "order"),
)
STATES = (
    *("is late", "is ready", "is broken", "has arrived", "was cancelled", "needs more work", "looks good to me"),
    *("costs too much", "has to be signed", "is almost finished", "was sent yesterday", "is missing"),
    *("must be checked again", "works now", "was moved", "is still open"),
)
TASKS = (
    *("call the customer", "check the numbers", "write the summary", "book a room", "send the invoice"),
    *("test the new version", "talk to the landlord", "order more paper", "update the schedule", "fix the printer"),
    *("prepare the slides", "pick up the keys", "water the plants", "close the account", "hire two people"),
)
STEPS = (
    *("turn left at the corner", "open the second door", "press the red button", "add a cup of sugar"),
    *("stir it until it is smooth", "take the stairs to the third floor", "unplug the machine", "tighten the screws"),
    *("enter your extension", "press the star key", "wait for the tone", "leave a message after the beep"),
    *("bake it for half an hour", "read the label first", "save the file", "hold the line", "dial the number again"),
)

_PLAIN = re.compile(r"[A-Za-z][A-Za-z' ,;:.?!-]*")
_SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z])")


def spoken(text: str) -> str | None:
    """Return a text that is spoken as it is written, or ``None`` if the two may differ."""
    text = re.sub(r"\s+", " ", text.replace("--", ", ").replace("`", "'")).strip(" ,;:-'.")
    words = text.split()
    if not 1 <= len(words) <= WORDS_MAX or not _PLAIN.fullmatch(text) or any(len(word) > 16 for word in words):
        return None
    if re.search(r"\b[A-Z]{2,}|[a-z][A-Z]|\.\w|\b[B-HJ-Zb-hj-z]\b|\b(Mr|Mrs|Dr|St|etc|esp|vs)\b|(.)\2\2", text):
        return None
    text = text[0].upper() + text[1:]
    return text if text[-1] in "?!" else text + "."


def held_out(text: str) -> bool:
    """Return whether a text belongs to validation."""
    digest = hashlib.sha256(re.sub(r"\W", "", text.casefold()).encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT * 2**32


def collected() -> list[str]:
    """Return all usable texts of the packages, each once, in a fixed shuffled order."""
    found = {text for raw in _raw() if (text := spoken(raw)) and len(text.split()) >= 2}
    return sorted(found)


def _raw() -> Iterator[str]:
    for path in sorted(WORDNET.glob("data.*")):
        for line in path.read_text("latin-1").splitlines():
            gloss = line.partition(" | ")[2]
            yield from re.findall(r'"([^"]*)"', gloss)
            definition = gloss.partition(";")[0].partition('"')[0]
            if 4 <= len(definition.split()) <= 14 and not line.startswith(" "):
                yield re.sub(r"\([^)]*\)", "", definition)
    for path in sorted(FORTUNES.glob("*.u8")):
        for saying in path.read_text("utf-8", errors="replace").split("\n%\n"):
            yield from _SENTENCE.split(saying.partition("\t\t")[0])
    if JARGON.exists():
        yield from _SENTENCE.split(gzip.decompress(JARGON.read_bytes()).decode("utf-8", "replace"))


def number(random: Random, below: int = 10_000) -> str:
    """Return a random number in words."""
    value = int(random.random() ** 2 * below)
    return in_words(value)


def in_words(value: int) -> str:
    """Spell ``432`` as ``four hundred and thirty-two``; for numbers below a million."""
    if value < 20:
        return SMALL[value]
    if value < 100:
        return TENS[value // 10 - 2] + (f"-{SMALL[value % 10]}" if value % 10 else "")
    if value < 1_000:
        rest = f" and {in_words(value % 100)}" if value % 100 else ""
        return f"{SMALL[value // 100]} hundred{rest}"
    rest = f" {in_words(value % 1_000)}" if value % 1_000 else ""
    return f"{in_words(value // 1_000)} thousand{rest}"


def composed(random: Random) -> str:
    """Compose a sentence with meetings, dates, numbers, names or instructions."""
    pick = random.choice
    name, other, thing, second = pick(NAMES), pick(NAMES), pick(THINGS), pick(THINGS)
    place, month, day, nth = pick(PLACES), pick(MONTHS), pick(DAYS), pick(ORDINALS)
    digits = " ".join(random.choices(SMALL[:10], k=random.randint(3, 7)))
    hour, state, task, step = pick(SMALL[1:13]), pick(STATES), pick(TASKS), pick(STEPS)
    return pick(
        (
            f"The {thing} {state}.",
            f"I think the {thing} {state}, but the {second} {pick(STATES)}.",
            f"{name} will {task} by {day}.",
            f"Can you {task} before {day}, {name}?",
            f"Let us {task} first, and then {pick(TASKS)}.",
            f"We meet in {place} on the {nth} of {month}.",
            f"The meeting starts at {hour} o'clock on {day}.",
            f"The {thing} costs {number(random)} dollars.",
            f"The number is {digits}.",
            f"Please {step}, then {pick(STEPS)}.",
            f"First {step}.",
            f"{step.capitalize()} now.",
            f"My name is {name}, and I am calling about the {thing}.",
            f"{name} is travelling to {place} in {month}.",
            f"{name} and {other} have not seen the {thing} yet.",
            f"We sold {number(random, 900)} units last {pick(('week', 'month', 'year', 'spring'))}.",
            f"Thank you for calling, the {thing} department is closed on {day}.",
            f"There are {number(random, 60)} people waiting at {place}.",
            f"Nobody told {name} that the {thing} {state}.",
            f"Is the {thing} still in {place}?",
            f"The deadline is {day}, the {nth} of {month}.",
            f"I spell that {' '.join(random.choices('ABCDEFGHIKLMNOPQRSTUVWXYZ', k=random.randint(3, 6)))}.",
        )
    )


def turn(random: Random, texts: Sequence[str]) -> str:
    """Compose a sentence in which the speaker gives a name."""
    name, text = random.choice(NAMES), random.choice(texts)
    if random.random() < 0.5:
        text = composed(random)
    return random.choice((f"{name} here. {text}", f"This is {name}. {text}", f"{name} speaking. {text}"))


def drawn(random: Random, texts: Sequence[str]) -> str:
    """Draw a text: mostly from the packages, otherwise composed."""
    kind = random.random()
    if kind < 0.62:
        return random.choice(texts)
    return turn(random, texts) if kind > 0.93 else composed(random)
