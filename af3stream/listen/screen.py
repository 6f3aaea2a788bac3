"""Print a session for the ``listen`` command: lines for people, lines for a pipe, or JSON lines for a program."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Final, Protocol, TextIO

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from af3stream.client import State
from af3stream.listen.microphone import Lost
from af3stream.protocol.messages import (
    Answer,
    AnswerDelta,
    Caption,
    Ended,
    Error,
    Message,
    Ready,
    ServerMessage,
    Sound,
    Speech,
    WatchHit,
)
from af3stream.subtitles import speaker_number

BIDI_CONTROLS: Final = (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
CONTROLS: Final = (*range(0x20), *range(0x7F, 0xA0))
NOTICES: Final[dict[State, str]] = {"reconnecting": "reconnecting ...", "open": "reconnected"}
HARMLESS: Final = dict.fromkeys(BIDI_CONTROLS) | dict.fromkeys(CONTROLS, " ")  # characters that control a terminal


class Screen(Protocol):
    """Shows a session."""

    def asked(self, question_id: str, text: str, after: str | None = None) -> None:
        """A question or a watch was sent; ``after`` is the id of the question that it follows up."""

    def sending(self, block: bytes | Lost, begin: float, end: float) -> None:
        """Audio is about to be sent, or declared lost; from and to are seconds of audio."""

    def show(self, message: ServerMessage) -> None:
        """A message arrived."""

    def state(self, state: State) -> None:
        """The connection was lost or restored."""

    def close(self) -> None:
        """The session is over."""


def open_screen(*, json: bool) -> Screen:
    """Return the screen that suits standard output."""
    if json:
        return JsonLines(sys.stdout, sys.stderr)
    console = Console(highlight=False)
    return LiveScreen(console) if console.is_terminal else PlainLines(sys.stdout, sys.stderr)


class JsonLines:
    """Print every message of the server as one line, and connection changes on standard error."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        self._out, self._errors = out, errors

    def asked(self, question_id: str, text: str, after: str | None = None) -> None:
        """Print nothing: only messages of the server are printed."""

    def sending(self, block: bytes | Lost, begin: float, end: float) -> None:
        """Print nothing; ``ended`` counts lost audio."""

    def show(self, message: ServerMessage) -> None:
        print(msgspec.json.encode(message).decode(), file=self._out, flush=True)

    def state(self, state: State) -> None:
        if notice := NOTICES.get(state):
            print(notice, file=self._errors, flush=True)

    def close(self) -> None:
        """Do nothing."""


@dataclass
class _Lines:
    """Convert finished messages to lines; ``None`` for messages without a line."""

    questions: dict[str, str] = field(default_factory=dict)

    def line(self, message: Message) -> str | None:
        match message:
            case Caption(final=True, text=text) if text:
                return f"{clock(message.start)}  {_speaker(message)}{clean(text)}{_translation(message)}"
            case Sound():
                return f"{clock(message.start)}  {clean(message.text)}"
            case Answer():
                return f"{self._question(message.id)} {clean(message.text)} {self._heard(message)}"
            case WatchHit():
                heard = f"({clock(message.start)} to {clock(message.end)})"
                return f"{self._question(message.id, '!')} {clean(message.text)} {heard}"
            case Error(fatal=False):  # a fatal error ends the run with its own message
                return f"refused: {clean(message.message)} ({message.code})"
        return None

    def _question(self, question_id: str, mark: str = "?") -> str:
        return f"{mark} {clean(self.questions.get(question_id, question_id))}\n ->"

    def _heard(self, answer: Answer) -> str:
        ending = "" if answer.finish == "stop" else f", {answer.finish}"
        return f"({clock(answer.start)} to {clock(answer.end)}{ending})"


class PlainLines:
    """Print final captions, answers and watch hits; refusals and connection changes go to standard error."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        self._out, self._errors = out, errors
        self._lines = _Lines()

    def asked(self, question_id: str, text: str, after: str | None = None) -> None:
        self._lines.questions[question_id] = text

    def sending(self, block: bytes | Lost, begin: float, end: float) -> None:
        if isinstance(block, Lost):
            print(_lost_line(begin, end), file=self._out, flush=True)

    def show(self, message: ServerMessage) -> None:
        if line := self._lines.line(message):
            print(line, file=self._errors if isinstance(message, Error) else self._out, flush=True)

    def state(self, state: State) -> None:
        if notice := NOTICES.get(state):
            print(notice, file=self._errors, flush=True)

    def close(self) -> None:
        """Do nothing."""


class LiveScreen:
    """Scroll finished lines up; below them show the open caption, its unstable part dim, and the open answers."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = _Lines()
        self._open_caption = Text()
        self._open_answers: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def asked(self, question_id: str, text: str, after: str | None = None) -> None:
        self._lines.questions[question_id] = text

    def sending(self, block: bytes | Lost, begin: float, end: float) -> None:
        if isinstance(block, Lost):
            self._console.print(Text(_lost_line(begin, end), style="red"))

    def show(self, message: ServerMessage) -> None:
        if self._changes_what_is_open(message):
            answers = (Text(f"-> {clean(text)}", style="cyan") for text in self._open_answers.values())
            self._live.update(Group(self._open_caption, *answers), refresh=True)
        if line := self._styled(message):
            self._console.print(line)

    def _changes_what_is_open(self, message: ServerMessage) -> bool:
        match message:
            case Caption():
                self._open_caption = Text() if message.final else _interim(message)
            case Speech(state="started"):
                self._open_caption = Text(f"{clock(message.at)}  …", style="dim")
            case AnswerDelta():
                self._open_answers[message.id] = self._open_answers.get(message.id, "") + message.text
            case Answer():
                self._open_answers.pop(message.id, None)
            case Error(ref=str(ref)):
                self._open_answers.pop(ref, None)
            case _:
                return False
        return True

    def state(self, state: State) -> None:
        if notice := NOTICES.get(state):
            self._console.print(Text(notice, style="dim"))

    def close(self) -> None:
        self._live.stop()

    def _styled(self, message: ServerMessage) -> Text | None:
        match message:
            case Ready():
                return Text(f"{clean(message.server)}, {clean(message.model)}", style="dim")
            case Ended():
                return Text(f"{message.received_s:.1f} s received, {message.heard_s:.1f} s heard", style="dim")
            case Caption(final=True, text=text) if text:
                time, translation = f"{clock(message.start)}  ", _translation(message)
                return Text.assemble((time, "dim"), (_speaker(message), "bold"), clean(text), (translation, "dim"))
        styles: dict[type[Message], str] = {Sound: "dim", Answer: "cyan", WatchHit: "yellow", Error: "red"}
        line = self._lines.line(message)
        return Text(line, style=styles.get(type(message), "")) if line else None


def clean(text: str) -> str:
    """Remove characters that control a terminal or change the text direction; line breaks become spaces."""
    return text.translate(HARMLESS)


def clock(seconds: float) -> str:
    """Format seconds as ``1:02:03.4``: hours, minutes, seconds and tenths."""
    tenths = round(seconds * 10)
    return f"{tenths // 36_000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"


def _speaker(caption: Caption) -> str:
    """Return who speaks, to stand before the words; empty if that is not known."""
    number = speaker_number(caption)
    return f"{number}: " if number else ""


def _translation(caption: Caption) -> str:
    """The caption in English, on a line of its own below its words; empty if there is none."""
    indent = " " * (len(clock(caption.start)) + 2)
    return f"\n{indent}{clean(caption.translation)}" if caption.translation else ""


def _interim(caption: Caption) -> Text:
    stable = caption.stable if caption.text.startswith(caption.stable) else ""
    parts = (clean(stable), ""), (clean(caption.text[len(stable) :]), "dim")
    return Text.assemble((f"{clock(caption.start)}  ", "dim"), *parts)


def _lost_line(begin: float, end: float) -> str:
    return f"{clock(begin)}  [{end - begin:.1f} s lost]"
