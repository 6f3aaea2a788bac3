"""State of the bot in a crash-safe database: transcript, turns, answers and outbox.

An event is added to the outbox in the same transaction as its cause, so that none is lost and none is made twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from af3stream.errors import SourceError

TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS captions(begin REAL, end REAL, text TEXT, speakers TEXT);
CREATE TABLE IF NOT EXISTS utterances(number INTEGER PRIMARY KEY, caption INTEGER);
CREATE TABLE IF NOT EXISTS turns(participant TEXT, begin INTEGER, end INTEGER);
CREATE INDEX IF NOT EXISTS turns_end ON turns(end);
CREATE TABLE IF NOT EXISTS names(participant TEXT PRIMARY KEY, name TEXT);
CREATE TABLE IF NOT EXISTS lost(begin INTEGER, end INTEGER);
CREATE TABLE IF NOT EXISTS answers(chapter INTEGER, question TEXT, text TEXT, begin REAL, end REAL, problem TEXT,
                                   PRIMARY KEY(chapter, question));
CREATE TABLE IF NOT EXISTS outbox(id INTEGER PRIMARY KEY, action TEXT, key TEXT, body BLOB, attempts INTEGER DEFAULT 0);
CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox(action, id);
"""
OF_UTTERANCE: Final = "rowid = (SELECT caption FROM utterances WHERE number = ?)"


@dataclass(frozen=True, slots=True)
class FinalCaption:
    """A final caption: seconds in the recording, text, and the ids of its speakers, longest first.

    The id of a participant is the source's; that of a voice that the service told apart is ``Speaker 1``.
    """

    begin: float
    end: float
    text: str
    speakers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SectionAnswer:
    """The answer about the section that ends at ``section_end`` sample frames, or the ``problem`` if there is none."""

    section_end: int
    question: str
    text: str
    begin: float
    end: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An event that an action has not taken yet; ``key`` is the same at each attempt."""

    id: int
    key: str
    body: bytes
    attempts: int


class State:
    """The database of one bot.

    Raises:
        SourceError: if the file cannot be opened, or another running bot uses it.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a power cut loses only what the service still has
            self._db.executescript(TABLES)
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._db.close()
            hint = "another bot uses this folder" if "locked" in str(error) else str(error)
            raise SourceError(f"cannot use {path}: {hint}") from None

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes of the block, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def fact(self, name: str, default: str = "") -> str:
        """Return a named fact, or the default."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else default

    def set_facts(self, **facts: object) -> None:
        """Set named facts."""
        self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", [(n, str(v)) for n, v in facts.items()])

    def begin_session(self) -> None:
        """Forget the numbers of utterances: a session of the service counts from 0."""
        self._db.execute("DELETE FROM utterances")

    def add_caption(self, said: FinalCaption, utterance: int) -> None:
        """Add the final caption of an utterance of the current session."""
        row = (said.begin, said.end, said.text, "\n".join(said.speakers))
        added = self._db.execute("INSERT INTO captions VALUES (?, ?, ?, ?)", row).lastrowid
        self._db.execute("INSERT OR REPLACE INTO utterances VALUES (?, ?)", (utterance, added))

    def correct_caption(self, utterance: int, text: str) -> None:
        """Replace the words of an utterance's caption, or delete it if there are none."""
        if text:
            self._db.execute(f"UPDATE captions SET text = ? WHERE {OF_UTTERANCE}", (text, utterance))
        else:
            self._db.execute(f"DELETE FROM captions WHERE {OF_UTTERANCE}", (utterance,))
            self._db.execute("DELETE FROM utterances WHERE number = ?", (utterance,))

    def caption(self, utterance: int) -> FinalCaption | None:
        """Return the caption of an utterance of the current session, or ``None`` if it has none."""
        row = self._db.execute(f"SELECT * FROM captions WHERE {OF_UTTERANCE}", (utterance,)).fetchone()
        return _caption(*row) if row else None

    def set_speakers(self, utterance: int, speakers: Sequence[str]) -> None:
        """Set the speakers of an utterance's caption."""
        row = ("\n".join(speakers), utterance)
        self._db.execute(f"UPDATE captions SET speakers = ? WHERE {OF_UTTERANCE}", row)

    def captions(self) -> Iterator[FinalCaption]:
        """Yield all final captions, in order."""
        for row in self._db.execute("SELECT * FROM captions ORDER BY begin, rowid"):
            yield _caption(*row)

    def caption_end(self) -> float:
        """Return the end of the last caption, in seconds."""
        return float(self._db.execute("SELECT coalesce(max(end), 0) FROM captions").fetchone()[0])

    def caption_begin(self) -> float:
        """Return the start of the last caption, in seconds."""
        return float(self._db.execute("SELECT coalesce(max(begin), 0) FROM captions").fetchone()[0])

    def add_turn(self, participant: str, begin: int, end: int, joins: int) -> None:
        """Add a speaker turn; it extends the previous one if that ended at most ``joins`` sample frames before."""
        row = self._db.execute(
            "SELECT rowid FROM turns WHERE participant = ? AND end BETWEEN ? AND ? ORDER BY end DESC LIMIT 1",
            (participant, begin - joins, end),
        ).fetchone()
        if row:
            self._db.execute("UPDATE turns SET end = ? WHERE rowid = ?", (end, row[0]))
        else:
            self._db.execute("INSERT INTO turns VALUES (?, ?, ?)", (participant, begin, end))

    def turns(self, begin: int, end: int) -> list[tuple[str, int]]:
        """Return the participants who speak in a range, and for how many sample frames, longest first."""
        rows = self._db.execute(
            "SELECT participant, sum(min(end, :end) - max(begin, :begin)) AS heard FROM turns "
            "WHERE end > :begin AND begin < :end GROUP BY participant ORDER BY heard DESC, participant",
            {"begin": begin, "end": end},
        )
        return [(participant, heard) for participant, heard in rows]

    def speaking_s(self, rate: int) -> dict[str, float]:
        """Return the seconds that each speaker spoke: participants by their turns, then voices by their captions."""
        rows = self._db.execute(
            "SELECT participant, sum(end - begin) FROM turns GROUP BY participant ORDER BY min(begin)"
        )
        participants = {participant: frames / rate for participant, frames in rows}
        voices: dict[str, float] = {}
        for said in self.captions():
            for who in said.speakers:
                if who not in participants:
                    voices[who] = voices.get(who, 0.0) + said.end - said.begin
        return participants | voices

    def set_name(self, participant: str, name: str) -> None:
        """Set the name of a speaker, or take it away if it is empty."""
        self._db.execute("DELETE FROM names WHERE participant = ?", (participant,))
        if name:
            self._db.execute("INSERT INTO names VALUES (?, ?)", (participant, name))

    def names(self) -> dict[str, str]:
        """Return names by speaker id."""
        return dict(self._db.execute("SELECT participant, name FROM names"))

    def add_lost(self, begin: int, end: int) -> None:
        """Add a lost range of the recording."""
        self._db.execute("INSERT INTO lost VALUES (?, ?)", (begin, end))

    def lost(self, begin: int, end: int) -> tuple[int, int] | None:
        """Return the first lost range that overlaps a range, cut to it, or ``None``."""
        row = self._db.execute(
            "SELECT max(begin, ?), min(end, ?) FROM lost WHERE end > ? AND begin < ? ORDER BY begin LIMIT 1",
            (begin, end, begin, end),
        ).fetchone()
        return (row[0], row[1]) if row else None

    def lost_frames(self) -> int:
        """Return the number of lost sample frames."""
        return int(self._db.execute("SELECT coalesce(sum(end - begin), 0) FROM lost").fetchone()[0])

    def add_answer(self, answered: SectionAnswer) -> None:
        """Add or replace an answer about a section."""
        row = (answered.section_end, answered.question, answered.text, answered.begin, answered.end, answered.problem)
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)

    def answers(self) -> list[SectionAnswer]:
        """Return all answers, in the order of the questions."""
        return [SectionAnswer(*row) for row in self._db.execute("SELECT * FROM answers ORDER BY chapter, rowid")]

    def post(self, action: str, key: str, event: dict[str, object]) -> None:
        """Add an event to the outbox of an action."""
        body = msgspec.json.encode(event)
        self._db.execute("INSERT INTO outbox(action, key, body) VALUES (?, ?, ?)", (action, key, body))

    def next_entry(self, action: str) -> OutboxEntry | None:
        """Return the oldest event that an action has not taken, or ``None``."""
        row = self._db.execute(
            "SELECT id, key, body, attempts FROM outbox WHERE action = ? ORDER BY id LIMIT 1", (action,)
        ).fetchone()
        return OutboxEntry(*row) if row else None

    def record_failure(self, entry: OutboxEntry) -> None:
        """Count one more failed attempt."""
        self._db.execute("UPDATE outbox SET attempts = attempts + 1 WHERE id = ?", (entry.id,))

    def remove(self, entry: OutboxEntry) -> None:
        """Remove an event that was delivered or given up."""
        self._db.execute("DELETE FROM outbox WHERE id = ?", (entry.id,))

    def waiting(self) -> int:
        """Return the number of events in the outbox."""
        return int(self._db.execute("SELECT count(*) FROM outbox").fetchone()[0])


def _caption(begin: float, end: float, text: str, speakers: str) -> FinalCaption:
    return FinalCaption(begin, end, text, tuple(speakers.split("\n")) if speakers else ())
