"""Translation of captions to transcript events, one item after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from af3stream.protocol import messages as m
from af3stream.server.logprobs import word_logprobs
from af3stream.server.rest.formats import Fields, speaker_label

EVENTS: Final = "conversation.item.input_audio_transcription."
TOLERANCE_S: Final = 1e-3  # times of captions are rounded

Emit = Callable[..., None]


@dataclass(eq=False, slots=True)
class AudioItem:
    """Audio of the user. Times are seconds on the session's axis.

    Attributes:
        end: ``None`` while it is open.
        flushed: whether it is complete when its flush is answered, and not with the caption that reaches its end.
        discarded: whether no transcript is sent.
        logprobs: of the final words.
        told: what the deltas of the newest utterance made up.
    """

    id: str
    start: float
    end: float | None = None
    flushed: bool = False
    discarded: bool = False
    texts: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    logprobs: list[Fields] = field(default_factory=list)
    told: str = ""
    utterance: int | None = None

    @property
    def transcript(self) -> str:
        """The final words."""
        return " ".join(text for text in self.texts if text)


class Transcripts:
    """The audio items whose transcripts are not complete, oldest first.

    Args:
        emit: sends an event.
        completed: called with each item whose transcript is complete, unless it was discarded.

    Attributes:
        silent: whether the client is told nothing.
        logprobs: whether `completed` tells how probable each word is.
    """

    def __init__(self, emit: Emit, completed: Callable[[AudioItem], None]) -> None:
        self.silent = self.logprobs = False
        self._emit = emit
        self._completed = completed
        self._items: deque[AudioItem] = deque()

    @property
    def open(self) -> AudioItem | None:
        """The item that audio goes into."""
        return self._items[-1] if self._items and self._items[-1].end is None else None

    def begin(self, item_id: str, start: float) -> AudioItem:
        """Begin an item."""
        item = AudioItem(item_id, start)
        self._items.append(item)
        return item

    def caption(self, caption: m.Caption) -> None:
        """Handle a caption. Final captions come in order."""
        if caption.final:
            while self._items and _ends_before(self._items[0], caption):
                if self._items[0].flushed:
                    break
                self._complete(self._items[0], None)
        item = self._item_of(caption)
        if item is None or (item is not self._items[0] and not caption.final):
            return
        self._tell(item, caption)
        reached = item.end is not None and caption.end >= item.end - TOLERANCE_S
        if caption.final and reached and not item.flushed:
            self._complete(item, None)

    def expects(self, caption: m.Caption) -> bool:
        """Return whether a caption belongs to an item."""
        return self._item_of(caption) is not None

    def _item_of(self, caption: m.Caption) -> AudioItem | None:
        item = next((item for item in self._items if not _ends_before(item, caption)), None)
        return item if item and item.start < caption.end else None

    def answered(self, flush: str) -> None:
        """Complete the item of a flush, and all items before it."""
        if any(item.id == flush for item in self._items):
            while self._items and (first := self._items[0]):
                self._complete(first, None)
                if first.id == flush:
                    break

    def reached(self, seconds: float) -> None:
        """Complete the items that end before a time."""
        while self._items and (end := self._items[0].end) is not None and end <= seconds + TOLERANCE_S:
            if self._items[0].flushed:
                break
            self._complete(self._items[0], None)

    def failed(self, error: dict[str, Any]) -> None:
        """Fail the oldest item, because an utterance could not be captioned."""
        if self._items and self._items[0].end is not None:
            self._complete(self._items[0], error)

    def fail(self, item: AudioItem, error: dict[str, Any]) -> None:
        """Complete an item with an error."""
        self._complete(item, error)

    def replay(self, item: AudioItem, caption: m.Caption) -> None:
        """Send the transcript of an item that is already complete."""
        self._items.append(item)
        self._tell(item, caption)
        self._complete(item, None)

    def _tell(self, item: AudioItem, caption: m.Caption) -> None:
        if item.utterance != caption.utterance:
            item.utterance, item.told = caption.utterance, ""
        words = caption.text if caption.final else caption.stable.rpartition(" ")[0]
        if words.startswith(item.told) and len(words) > len(item.told):
            between = " " if item.transcript and not item.told else ""
            self._say(item, "delta", delta=between + words[len(item.told) :])
            item.told = words
        if not caption.final:
            return
        if self.logprobs:
            item.logprobs += word_logprobs(caption, " " if item.transcript else "")
        item.texts.append(caption.text)
        if caption.language and caption.language not in item.languages:
            item.languages.append(caption.language)
        if caption.text and (caption.speaker is not None or caption.words):
            timed = [{"word": word.text.strip(), "start": word.start, "end": word.end} for word in caption.words]
            self._say(
                item,
                "segment",
                id=f"seg_{caption.utterance}",
                start=caption.start,
                end=caption.end,
                text=caption.text,
                speaker=speaker_label(caption.speaker),
                **({"words": timed} if timed else {}),
            )

    def _complete(self, item: AudioItem, error: dict[str, Any] | None) -> None:
        self._items.remove(item)
        if error:
            self._say(item, "failed", error=error)
        else:
            seconds = round((item.end or item.start) - item.start, 3)
            self._say(
                item,
                "completed",
                transcript=item.transcript,
                usage={"type": "duration", "seconds": seconds},
                **({"languages": [{"code": code} for code in item.languages]} if item.languages else {}),
                **({"logprobs": item.logprobs} if self.logprobs else {}),
            )
        if not item.discarded:
            self._completed(item)

    def _say(self, item: AudioItem, kind: str, **fields: Any) -> None:
        if not (item.discarded or self.silent):
            self._emit(EVENTS + kind, item_id=item.id, content_index=0, **fields)


def _ends_before(item: AudioItem, caption: m.Caption) -> bool:
    return item.end is not None and item.end < caption.end - TOLERANCE_S
