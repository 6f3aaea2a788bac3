"""The `sessions` commands: list, show, export and delete the sessions of the journal."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from af3stream.config import Config, state_dir
from af3stream.errors import ConfigError, NoSession, quoted
from af3stream.protocol import messages as m

if TYPE_CHECKING:
    from af3stream.journal.journal import Journal

FORMATS: Final = ("flac", "wav", "vtt", "srt", "json")

Action = Callable[["StoredSession", argparse.Namespace], None]


class StoredSession:
    """The journals, opened for reading while servers may write them.

    Attributes:
        journals: the journal of the configured folder; with `auto`, those of all servers of this user.
    """

    def __init__(self, config: Config) -> None:
        from af3stream.journal.journal import Journal

        self.journals = [
            Journal(msgspec.structs.replace(config.journal, folder=str(folder))) for folder in _folders(config)
        ]
        self.console = Console(highlight=False)

    def journal(self, session: str) -> Journal:
        """Return the journal that holds a session.

        Raises:
            NoSession: if none does.
        """
        for journal in self.journals:
            if journal.facts(session):
                return journal
        raise NoSession(f"there is no session {quoted(session)}; `af3stream sessions list` names those there are")


def _folders(config: Config) -> list[Path]:
    folder = config.journal.folder
    if not folder:
        raise ConfigError("the configuration keeps no sessions: journal.folder is empty")
    if folder != "auto":
        return [Path(folder)]
    return sorted(sessions.parent for sessions in state_dir().glob("*/sessions"))


def run(action: Action, arguments: argparse.Namespace, config: Config) -> int:
    """Run one of the actions below, and return the exit code."""
    kept = StoredSession(config)
    try:
        action(kept, arguments)
    finally:
        for journal in kept.journals:
            journal.stop()
    return 0


def list_sessions(kept: StoredSession, _: argparse.Namespace) -> None:
    """Print one line per session, the oldest first."""
    table = Table("session", "begun", "audio", "events", "size", "state", box=None)
    summaries = [summary for journal in kept.journals for summary in journal.sessions()]
    for summary in sorted(summaries, key=lambda summary: summary.facts.created_at):
        facts = summary.facts
        begun = datetime.fromtimestamp(facts.created_at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
        seconds = summary.frames / facts.format.rate
        state = "ended" if summary.finished_at else "open"
        table.add_row(
            facts.session, begun, f"{seconds:.1f} s", str(summary.events), f"{summary.bytes / 1e6:.1f} MB", state
        )
    kept.console.print(table)


def show(kept: StoredSession, arguments: argparse.Namespace) -> None:
    """Print the corrected captions, answers and watch hits of a session, and its lost ranges.

    Raises:
        NoSession: if the session does not exist.
        DataLoss: if part of it is damaged.
    """
    from af3stream.journal.export import final_captions, lost
    from af3stream.session.event_log import decode_event

    recovered = kept.journal(arguments.session).recover(arguments.session)
    gaps = deque(lost(recovered))

    def show_lost(before: float) -> None:
        while gaps and gaps[0][0] <= before:
            start, end = gaps.popleft()
            kept.console.print(f"[dim]{start:9.2f}  lost, up to {end:.2f} s[/]")

    events = [decode_event(record) for record in recovered.events]
    finals = final_captions(recovered)
    captions = {caption.utterance: caption for caption in finals}
    for event in events:
        match event:
            case m.Caption(utterance=utterance, start=start) if (caption := captions[utterance]).text:
                show_lost(start)
                name = f"{speaker}: " if (speaker := finals.speaker(caption)) else ""
                kept.console.print(f"[dim]{start:9.2f}[/]  {escape(name + caption.text)}", soft_wrap=True)
            case m.Sound(text=text, start=start):
                show_lost(start)
                kept.console.print(f"[dim]{start:9.2f}[/]  {escape(text)}", soft_wrap=True)
            case (
                m.Answer(id=name, text=text, start=start, end=end)
                | m.WatchHit(id=name, text=text, start=start, end=end)
            ):
                kept.console.print(f"[cyan]{escape(name)}[/]  {escape(text)}  [dim]({start:.1f} to {end:.1f} s)[/]")
    show_lost(inf)


def export_session(kept: StoredSession, arguments: argparse.Namespace) -> None:
    """Write the audio and the captions of a session to files, and print their names.

    Raises:
        NoSession: if the session does not exist.
        DataLoss: if part of it is damaged.
    """
    from af3stream.journal.export import export

    formats = arguments.format or [name for name in FORMATS if name != "wav"]
    for path in export(kept.journal(arguments.session), arguments.session, arguments.to, formats):
        kept.console.print(str(path), soft_wrap=True)


def delete(kept: StoredSession, arguments: argparse.Namespace) -> None:
    """Delete a session and its folder.

    Raises:
        NoSession: if the session does not exist.
        SetupError: if a server is writing it.
    """
    kept.journal(arguments.session).delete(arguments.session)
    kept.console.print(f"{arguments.session} is deleted")
