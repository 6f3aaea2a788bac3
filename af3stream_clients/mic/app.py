"""Terminal view: captions on the left, windows and questions on the right, an input line below."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Footer, Input, Static

from af3stream.client import ConnectionLost, LagMeter, ReaderTooSlow, ServerError, State
from af3stream.errors import Af3StreamError
from af3stream.listen import FOLLOW_UP, Listening, ListenOptions, Lost, clean, clock, follow_up
from af3stream.protocol.messages import (
    Answer,
    AnswerDelta,
    Caption,
    CaptionUpdate,
    Degraded,
    Ended,
    Error,
    Ready,
    ServerMessage,
    SpeakerNamed,
    SpeakerUpdate,
    Speech,
    WatchHit,
    Window,
)
from af3stream_clients.answer_range import describe_range
from af3stream_clients.load_messages import LOAD_MESSAGES
from af3stream_clients.mic.captions_pane import CaptionsPane
from af3stream_clients.mic.level_meter import FLOOR_DBFS, level_dbfs, meter
from af3stream_clients.mute_detector import MuteDetector

METER_CELLS: Final = 14
METER_STYLE: Final = "green on grey23"  # the background shows the full width
REFRESH_S: Final = 0.1
NORMAL_LAG_S: Final = 5.0  # a smaller lag is not highlighted
FALL_DB: Final = 3.0  # the meter falls by at most this between two refreshes
STATES: Final[dict[str, tuple[str, str]]] = {
    "connecting": ("○ connecting", "dim"),
    "open": ("● listening", "green"),
    "reconnecting": ("◌ reconnecting, nothing is lost", "yellow"),
    "finishing": ("◌ finishing", "yellow"),
    "over": ("○ finished", "dim"),
}


class MicrophoneApp(App[None]):
    """The screen of one ``Listening``.

    Attributes:
        problem: why the session did not start or broke off, in one sentence.
    """

    TITLE = "af3stream"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #status { height: 1; padding: 0 1; background: $panel; }
    #captions { width: 3fr; padding: 0 1; border: round $panel-lighten-2; border-title-color: $text-muted; }
    #side { width: 2fr; }
    #windows { height: auto; max-height: 8; padding: 0 1; border: round $panel-lighten-2; }
    #questions { height: 1fr; padding: 0 1; border: round $panel-lighten-2; }
    #captions Static, #questions Static { margin-bottom: 1; }
    #questions .reply { margin-left: 2; padding-left: 1; border-left: solid $panel-lighten-2; }
    Input { border: round $accent; border-title-color: $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "stop", "Stop, again to leave", priority=True),
        Binding("ctrl+q", "leave", "Leave", priority=True),
        Binding("ctrl+r", "reply", "Reply", priority=True),
        Binding("pageup", "page(-1)", "Scroll", show=False),
        Binding("pagedown", "page(1)", "Scroll", show=False),
    ]

    def __init__(self, options: ListenOptions) -> None:
        super().__init__()
        self.problem = ""
        self._listening = Listening(options, lambda: self)
        self._status = Static(id="status")  # may be refreshed once more after the screen is closed
        self._watched = set(map(clean, options.watches))
        self._lag_meter = LagMeter()
        self._state = "connecting"
        self._device = options.device or "default microphone"
        self._degraded = ""
        self._level = FLOOR_DBFS
        self._mute_detector = MuteDetector()
        self._lost_s = 0.0
        self._windows: list[Window] = []
        self._captions = CaptionsPane()
        self._asked: dict[str, str] = {}  # questions and watches
        self._last: str | None = None  # the id of the newest question
        self._partial_answers: dict[str, str] = {}  # the text of each unfinished answer, by question id
        self._answers: dict[str, Static] = {}

    def compose(self) -> ComposeResult:
        yield self._status
        with Horizontal():
            yield self._captions
            with Vertical(id="side"):
                yield Static("none has closed yet", id="windows")
                yield VerticalScroll(id="questions")
        yield Input(placeholder="Ask about what was heard, and press Enter; > replies to the last answer")
        yield Footer()

    def on_mount(self) -> None:
        """Start listening once the widgets are mounted."""
        for name in ("windows", "questions"):
            self.query_one(f"#{name}").border_title = name
        for name in ("captions", "questions"):
            self.query_one(f"#{name}").anchor()
        self.query_one(Input).focus()
        self.set_interval(REFRESH_S, self._refresh_status)
        self.run_worker(self._listen())

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show in the input line which question a follow-up replies to."""
        follows_up, _ = follow_up(event.value.lstrip())
        last = self._asked[self._last] if follows_up and self._last else ""
        event.input.border_title = Text(f"reply to: {last}") if last else None

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Send the typed question."""
        follows_up, text = follow_up(event.value.strip())
        if not text:
            return
        if follows_up and not self._listening.takes_follow_ups:
            self._note("the server takes no questions that follow up others")
            return
        self._listening.ask(text, follows_up=follows_up)
        event.input.clear()

    def action_reply(self) -> None:
        """Turn the typed text into a follow-up to the last answer, or back into a separate question."""
        field = self.query_one(Input)
        follows_up, text = follow_up(field.value.lstrip())
        field.value = text if follows_up else f"{FOLLOW_UP} {field.value}"
        field.cursor_position = len(field.value)
        field.focus()

    def action_stop(self) -> None:
        """Stop the microphone and wait for the last captions; the second time, exit."""
        if self._state == "over":
            self.exit()
        else:
            self._listening.stop()
            self._state = "finishing"
            self._level = FLOOR_DBFS

    def action_leave(self) -> None:
        """Exit at once."""
        self.exit()

    def action_page(self, direction: int) -> None:
        """Scroll the captions, whichever widget has the focus."""
        self._captions.scroll_page_up() if direction < 0 else self._captions.scroll_page_down()

    async def _listen(self) -> None:
        work = self._listening.begin()
        try:
            await work
        except asyncio.CancelledError:
            if not self._listening.leaving:
                work.cancel()
                raise
            self.exit()
        except (ConnectionLost, ReaderTooSlow, ServerError, TimeoutError) as error:
            self.problem = str(error) or "left before the last captions came"
            self._note(self.problem)
            self._state = "over"
        except Af3StreamError as error:  # the session never started: there is nothing to show
            self.problem = str(error)
            self.exit(return_code=2)
        else:
            self._state = "over"

    # Callbacks of `Listening`.

    def asked(self, question_id: str, text: str, after: str | None = None) -> None:
        self._asked[question_id] = clean(text)
        if self._asked[question_id] not in self._watched:
            self._last = question_id
        self._answer(question_id, "", reply=after is not None)

    def sending(self, block: bytes | Lost, begin: float, end: float) -> None:
        if isinstance(block, Lost):
            self._lost_s += end - begin
            self._captions.add(Text(f"{clock(begin)}  [{end - begin:.1f} s lost]", style="red"))
        else:
            self._level = max(self._level - FALL_DB, level_dbfs(block))
            self._mute_detector.add(block, end - begin)

    def show(self, message: ServerMessage) -> None:
        self._lag_meter.hear(message)
        match message:
            case Ready():
                self._state = "open"
                self.sub_title = clean(message.model)
            case Caption() | CaptionUpdate() | SpeakerUpdate() | SpeakerNamed():
                self._captions.receive(message)
            case Speech(state="started"):
                self._captions.border_subtitle = "speech"
            case Speech():
                self._captions.border_subtitle = ""
            case Window():
                self._windows.append(message)
                self._show_windows()
            case AnswerDelta():
                self._answer(message.id, self._partial_answers.get(message.id, "") + message.text)
            case Answer():
                self._answer(message.id, message.text, heard=describe_range(message, clock, clock))
            case WatchHit():
                self._answer(message.id, message.text, heard=f"Heard {clock(message.start)} to {clock(message.end)}")
            case Degraded():
                self._degraded = LOAD_MESSAGES[message.level]
            case Error(ref=str(ref)) if ref in self._asked:
                self._answer(ref, f"refused: {message.message}", "red")
            case Error():
                self._note(message.message)
            case Ended():
                parts = {"received": message.received_s, "heard": message.heard_s, "lost": message.lost_s}
                heard = ", ".join(f"{seconds:.1f} s {what}" for what, seconds in parts.items())
                self._captions.add(Text(heard, style="dim"))

    def state(self, state: State) -> None:
        if self._state != "finishing" or state == "over":
            self._state = state

    def close(self) -> None:
        self._level = FLOOR_DBFS

    # Drawing.

    def _note(self, text: str) -> None:
        self._captions.add(Text(clean(text), style="yellow"))

    def _answer(self, question_id: str, answer: str, style: str = "", heard: str = "", *, reply: bool = False) -> None:
        asked = self._asked.get(question_id, question_id)
        nothing = ("watched; no answer yet", "dim") if asked in self._watched else ("…", style)
        words = (clean(answer), style) if answer else nothing
        text = Text.assemble((asked, "bold"), "\n", words, (f"\n{heard}" if heard else "", "dim cyan"))
        if question_id in self._answers:
            self._answers[question_id].update(text)
        else:
            self._answers[question_id] = Static(text, classes="reply" if reply else None)
            self.query_one("#questions").mount(self._answers[question_id])
        self._partial_answers[question_id] = answer

    def _show_windows(self) -> None:
        lines = [f"{w.index + 1:>3}  {clock(w.start)} to {clock(w.end)}  {w.tokens} tokens" for w in self._windows[-6:]]
        self.query_one("#windows", Static).update(Text("\n".join(lines)))

    def _refresh_status(self) -> None:
        session = self._listening.session
        parts = [STATES[self._state], (self._device, "dim"), (meter(self._level, METER_CELLS), METER_STYLE)]
        if self._mute_detector.muted and self._state == "open":
            parts.append(("no sound: is it muted?", "yellow"))
        if session:
            behind_s = self._lag_meter.seconds(session.sent / session.ready.rate)
            parts.append((f"lag {behind_s:.1f} s", "yellow" if behind_s > NORMAL_LAG_S else ""))
        if self.sub_title:
            parts.append((self.sub_title, "dim"))
        if self._lost_s:
            parts.append((f"{self._lost_s:.1f} s lost", "red"))
        if self._degraded:
            parts.append((self._degraded, "yellow"))
        self._status.update(Text("   ", end="").join(Text(*part) for part in parts))
