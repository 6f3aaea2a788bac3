"""Captions in the terminal view: one row for each utterance, after who speaks, with its translation below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from rich.text import Text
from textual.containers import VerticalScroll
from textual.widgets import Static

from af3stream.listen import clean, clock
from af3stream.protocol.messages import Caption, CaptionUpdate, SpeakerNamed, SpeakerUpdate
from af3stream_clients.speaker_names import SpeakerNames

MAX_ROWS: Final = 500  # older captions leave the view; --captions writes them all

CaptionMessage = Caption | CaptionUpdate | SpeakerUpdate | SpeakerNamed


@dataclass(slots=True)
class _Row:
    """A caption, and the widget that shows it."""

    caption: Caption
    widget: Static


class CaptionsPane(VerticalScroll):
    """The captions, and what else happened in the order of time."""

    def __init__(self) -> None:
        super().__init__(id="captions")
        self.border_title = "captions"
        self._names = SpeakerNames()
        self._shown: dict[int, _Row] = {}

    def receive(self, message: CaptionMessage) -> None:
        """Show a caption, a correction, or who speaks."""
        if isinstance(message, SpeakerNamed):
            self._names.receive(message)
            for row in self._shown.values():
                if row.caption.speaker == message.speaker:
                    row.widget.update(self._text(row.caption))
            return
        known = self._shown.get(message.utterance)
        match message:
            case Caption() if not (known and known.caption.final):
                self._put(message)
            case CaptionUpdate() if known:
                self._put(_corrected(known.caption, message))
            case SpeakerUpdate() if known:
                self._put(msgspec.structs.replace(known.caption, speaker=message.speaker))

    def add(self, text: Text) -> Static:
        """Add a row, and drop the oldest one if there are too many."""
        widget = Static(text)
        self.mount(widget)
        if len(self.children) > MAX_ROWS:
            self.children[0].remove()
        return widget

    def _put(self, caption: Caption) -> None:
        row = self._shown.get(caption.utterance)
        if caption.final and not caption.text:
            if row:
                row.widget.remove()
                del self._shown[caption.utterance]
        elif row:
            row.caption = caption
            row.widget.update(self._text(caption))
        else:
            self._shown[caption.utterance] = _Row(caption, self.add(self._text(caption)))
            if len(self._shown) > MAX_ROWS:
                del self._shown[next(iter(self._shown))]

    def _text(self, caption: Caption) -> Text:
        stable = caption.text if caption.final else caption.stable
        stable = stable if caption.text.startswith(stable) else ""
        name = self._names.label(caption.speaker)
        time = f"{clock(caption.start)}  "
        return Text.assemble(
            (time, "cyan"),
            (f"{clean(name)}: " if name else "", "bold"),
            clean(stable),
            (clean(caption.text[len(stable) :]), "dim italic"),
            (f"\n{' ' * len(time)}{clean(caption.translation)}" if caption.translation else "", "dim"),
        )


def _corrected(caption: Caption, update: CaptionUpdate) -> Caption:
    return msgspec.structs.replace(
        caption,
        text=update.text,
        start=update.start,
        end=update.end,
        translation=update.translation,
        speaker=caption.speaker if update.speaker is None else update.speaker,
    )
