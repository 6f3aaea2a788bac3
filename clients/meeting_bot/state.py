"""What the bot knows, in a database that a kill leaves whole: transcript, turns, answers, and what is still to be told.

An event enters the outbox in the transaction that notes what it came from, so that none is lost and none is made twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from af3stream.errors import SourceError

TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS captions(begin REAL, end REAL, text TEXT, speakers TEXT);
CREATE TABLE IF NOT EXISTS turns(participant TEXT, begin INTEGER, end INTEGER);
CREATE INDEX IF NOT EXISTS turns_end ON turns(end);
CREATE TABLE IF NOT EXISTS names(participant TEXT PRIMARY KEY, name TEXT);
CREATE TABLE IF NOT EXISTS lost(begin INTEGER, end INTEGER);
CREATE TABLE IF NOT EXISTS answers(chapter INTEGER, question TEXT, text TEXT, begin REAL, end REAL, problem TEXT,
                                   PRIMARY KEY(chapter, question));
CREATE TABLE IF NOT EXISTS outbox(id INTEGER PRIMARY KEY, action TEXT, key TEXT, body BLOB, attempts INTEGER DEFAULT 0);
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox(action, id);
"""


@dataclass(frozen=True, slots=True)
class FinalCaption:
    """A final caption: seconds in the recording, words, and the ids of who spoke, loudest share first."""

    begin: float
    end: float
    text: str
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SectionAnswer:
    """A question about the chapter that ends at ``chapter`` sample frames; ``problem`` where it has no answer."""

    section_end: int
    question: str
    text: str
    begin: float
    end: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An event on its way to an action; ``key`` is the same at each attempt."""

    id: int
    key: str
    body: bytes
    attempts: int


class State:
    """The database.

    Raises:
        SourceError: where the file is not to be had, or belongs to a bot that runs.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a power cut takes the newest, and the service has it still
            self._db.executescript(TABLES)
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._db.close()
            hint = "another bot uses this folder" if "locked" in str(error) else str(error)
            raise SourceError(f"cannot use {path}: {hint}") from None

    def close(self) -> None:
        """Nothing more is noted."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is noted in the block, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def fact(self, name: str, default: str = "") -> str:
        """A named fact."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else default

    def note(self, **facts: object) -> None:
        """Named facts, in place of those noted before."""
        self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", [(n, str(v)) for n, v in facts.items()])

    def add_caption(self, said: FinalCaption) -> None:
        """One more final caption."""
        speakers = "\n".join(said.speakers)
        self._db.execute("INSERT INTO captions VALUES (?, ?, ?, ?)", (said.begin, said.end, said.text, speakers))

    def captions(self) -> Iterator[FinalCaption]:
        """All of them, in order."""
        for begin, end, text, speakers in self._db.execute("SELECT * FROM captions ORDER BY begin, rowid"):
            yield FinalCaption(begin, end, text, tuple(speakers.split("\n")) if speakers else ())

    def caption_end(self) -> float:
        """Where the last caption ends, in seconds."""
        return float(self._db.execute("SELECT coalesce(max(end), 0) FROM captions").fetchone()[0])

    def caption_begin(self) -> float:
        """Where the last caption begins, in seconds."""
        return float(self._db.execute("SELECT coalesce(max(begin), 0) FROM captions").fetchone()[0])

    def add_turn(self, participant: str, begin: int, end: int, joins: int) -> None:
        """A participant is heard; what is at most ``joins`` sample frames from the turn before goes on with it."""
        row = self._db.execute(
            "SELECT rowid FROM turns WHERE participant = ? AND end BETWEEN ? AND ? ORDER BY end DESC LIMIT 1",
            (participant, begin - joins, end),
        ).fetchone()
        if row:
            self._db.execute("UPDATE turns SET end = ? WHERE rowid = ?", (end, row[0]))
        else:
            self._db.execute("INSERT INTO turns VALUES (?, ?, ?)", (participant, begin, end))

    def turns(self, begin: int, end: int) -> list[tuple[str, int]]:
        """Who is heard in a range, and for how many sample frames of it; who is heard most comes first."""
        rows = self._db.execute(
            "SELECT participant, sum(min(end, :end) - max(begin, :begin)) AS heard FROM turns "
            "WHERE end > :begin AND begin < :end GROUP BY participant ORDER BY heard DESC, participant",
            {"begin": begin, "end": end},
        )
        return [(participant, heard) for participant, heard in rows]

    def speaking_s(self, rate: int) -> dict[str, float]:
        """Seconds that each participant was heard."""
        rows = self._db.execute(
            "SELECT participant, sum(end - begin) FROM turns GROUP BY participant ORDER BY min(begin)"
        )
        return {participant: frames / rate for participant, frames in rows}

    def set_name(self, participant: str, name: str) -> None:
        """What a participant is called."""
        self._db.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (participant, name))

    def names(self) -> dict[str, str]:
        """What participants are called, by id."""
        return dict(self._db.execute("SELECT participant, name FROM names"))

    def add_lost(self, begin: int, end: int) -> None:
        """A range of the recording that never arrived."""
        self._db.execute("INSERT INTO lost VALUES (?, ?)", (begin, end))

    def lost(self, begin: int, end: int) -> tuple[int, int] | None:
        """The first lost range that reaches into another, cut to it."""
        row = self._db.execute(
            "SELECT max(begin, ?), min(end, ?) FROM lost WHERE end > ? AND begin < ? ORDER BY begin LIMIT 1",
            (begin, end, begin, end),
        ).fetchone()
        return (row[0], row[1]) if row else None

    def lost_frames(self) -> int:
        """How much never arrived."""
        return int(self._db.execute("SELECT coalesce(sum(end - begin), 0) FROM lost").fetchone()[0])

    def add_answer(self, answered: SectionAnswer) -> None:
        """An answer about a chapter."""
        row = (answered.section_end, answered.question, answered.text, answered.begin, answered.end, answered.problem)
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)

    def answers(self) -> list[SectionAnswer]:
        """All of them, in the order they were asked."""
        return [SectionAnswer(*row) for row in self._db.execute("SELECT * FROM answers ORDER BY chapter, rowid")]

    def post(self, action: str, key: str, event: dict[str, object]) -> None:
        """An event for an action."""
        body = msgspec.json.encode(event)
        self._db.execute("INSERT INTO outbox(action, key, body) VALUES (?, ?, ?)", (action, key, body))

    def next_entry(self, action: str) -> OutboxEntry | None:
        """The oldest event that an action has not taken."""
        row = self._db.execute(
            "SELECT id, key, body, attempts FROM outbox WHERE action = ? ORDER BY id LIMIT 1", (action,)
        ).fetchone()
        return OutboxEntry(*row) if row else None

    def record_failure(self, entry: OutboxEntry) -> None:
        """One more attempt has failed."""
        self._db.execute("UPDATE outbox SET attempts = attempts + 1 WHERE id = ?", (entry.id,))

    def remove(self, entry: OutboxEntry) -> None:
        """Taken, or given up: it is not tried again."""
        self._db.execute("DELETE FROM outbox WHERE id = ?", (entry.id,))

    def waiting(self) -> int:
        """Events that are still to be taken."""
        return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])
