"""Time to first token of a question that names a word, answered from where the word was said.

Named alternative, in the same run: the same question over the whole body, whose prefix is kept. All windows have notes
of the recordings; the word stands in one window's alone, then in none, and then there are no notes.
``python -m bench.focus [--quick]``
"""

from __future__ import annotations

from typing import Final

from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.contract import Noted, Part, Sound, note
from bench.common import first_token, loaded, mini, quick, report, speech, timed
from bench.question import WINDOW_S, opened

WORD: Final = "leisure"
QUESTION: Final = f"What is said about {WORD}?"
SAID: Final = "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his power to do."
OTHERS: Final = "He was not an ill-disposed young man. He might even have been made amiable himself."


def main(argv: list[str] | None = None) -> None:
    """Measure each of the three over a full horizon."""
    small = quick(__doc__, argv)
    focused, whole = loaded(), mini()
    windows, runs = (2, 1) if small else (focused.capacity.windows, 5)
    bodies = {
        "in_the_notes": [SAID, *[OTHERS] * (windows - 1)],
        "in_no_note": [OTHERS] * windows,
        "without_notes": [""] * windows,
    }
    report(
        "focus",
        windows=windows,
        ttft_s={how: first(focused, notes, runs) for how, notes in bodies.items()},
        ttft_s_whole_body={how: first(whole, notes, runs) for how, notes in bodies.items()},
    )


def first(engine: Af3Engine, notes: list[str], runs: int) -> float:
    """Seconds to the first token over windows with these notes, none where they are empty."""
    sound = opened(engine, speech(WINDOW_S))
    parts: list[Part] = []
    for words in notes:
        parts += [Sound(None, sound.tokens, sound.embeddings), *([note([Noted(words)])] if words else [])]
    context = engine.context()
    list(context.extend(parts))
    return timed(lambda: first_token(context, parts, QUESTION), runs)


if __name__ == "__main__":
    main()
