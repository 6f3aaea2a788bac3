"""A journal's whole life, for a parent that kills it: `python -m tests.journal.child FOLDER [shared]`.

Prints what it is told, line by line: `SESSION DURABLE EVENT`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from af3stream.journal.facts import Commit
from af3stream.journal.records import GapRecord, Record
from tests.journal.scenes import BLOCK, Told, audio, event, facts, running, until

BATCHES: list[list[Record]] = [
    [*audio(at, at + 3 * BLOCK), GapRecord(at + 3 * BLOCK, BLOCK), event(number)]
    for number, at in enumerate(range(0, 40 * BLOCK, 4 * BLOCK), start=1)
]
END, SEGMENT_S = 40 * BLOCK, 0.2


def say(*words: object) -> None:
    """Print a line in one write: the process may be killed by another thread between two."""
    os.write(sys.stdout.fileno(), f"{' '.join(map(str, words))}\n".encode())


class Saying(Told):
    def __call__(self, commit: Commit) -> None:
        if not commit.error:
            say(commit.session, commit.durable, commit.event)
        super().__call__(commit)


def main(folder: Path, shared: bool) -> None:
    with running(folder, segment_s=SEGMENT_S, shared=shared) as journal:
        say("old", journal.recover("old").durable, 0)  # it has a tail above its mark
        journal.create(facts())
        for number, batch in enumerate(BATCHES, start=1):
            journal.append("talk", batch, told := Saying())
            told.durable(4 * BLOCK * number, number)
        journal.finish("talk")
        until(lambda: not list((folder / "sessions/talk").rglob("*.raw")))
        say("deleting", 0, 0)
        journal.delete("old")
        say("deleted", 0, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] == ["shared"])
