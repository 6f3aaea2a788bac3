"""Translation between the events of a Realtime client and the messages of a session.

It uses no socket. Times are seconds of audio.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from af3stream.config import Config
from af3stream.engine.facts import CaptionerFacts
from af3stream.errors import EngineFailed, EngineTimeout, Refusal
from af3stream.protocol import messages as m
from af3stream.server.openai_errors import SERVER, ApiError, api_error
from af3stream.server.realtime import client_events as events
from af3stream.server.realtime.client_events import ResponseSettings
from af3stream.server.realtime.conversation import Conversation, Wire, audio_item, edit, message, new_id
from af3stream.server.realtime.responses import Responses
from af3stream.server.realtime.settings import Settings
from af3stream.server.realtime.transcripts import AudioItem, Transcripts
from af3stream.server.tuned_start import TunedStart

EXPIRES_S: Final = 24 * 3600  # told only: a session does not expire while it is used
MOST_ITEM_S: Final = 600.0  # an item of which the client commits nothing for so long is committed
REACH_BACK_S: Final = 1.3  # an utterance begins at most so long before the frame that decides it
CAPTION_ERRORS: Final = (EngineFailed.code, EngineTimeout.code)


class Dialect:
    """Translates between one client and its session.

    Args:
        emit: sends an event.
        send: gives a message to the session, which is open then; raises `Refusal`.

    Attributes:
        decoder: of what the client sends.
        settings: in force.
    """

    decoder = events.EventDecoder(events.Event)

    def __init__(
        self,
        settings: Settings,
        config: Config,
        captioner: CaptionerFacts,
        emit: Callable[..., None],
        send: Callable[[m.ClientMessage], None],
    ) -> None:
        self.settings = settings
        self.received_s = 0.0  # of audio, on the session's axis
        self._base_s = 0.0  # what this session's axis begins at on the client's
        self._id = new_id("sess")
        self._config = config
        self._captioner = captioner
        self._emit = emit
        self._send = send
        self._expires_at = int(time.time()) + EXPIRES_S
        self._conversation = Conversation()
        self._responses = Responses(self._conversation, emit, send, config.questions.max_chars)
        self._transcripts = Transcripts(emit, self._transcribed)
        self._created = ""  # the id of the item that the last event was about
        self._filling: AudioItem | None = None  # while its audio is appended
        self._deaf_until = 0.0  # speech that begins before belongs to such an item
        self._commits = False  # whether the client committed up to the last update
        self._quiet_since = 0.0  # where speech, or the last time-out, ended
        self._update(settings)

    def welcome(self) -> None:
        """Send `session.created`."""
        self._emit("session.created", session=self._session())

    @property
    def manual(self) -> bool:
        """Whether the client commits."""
        return self.settings.turn_detection is None

    @property
    def alaw(self) -> bool:
        """Whether audio is A-law, which sessions take as 16-bit PCM."""
        return self.settings.format.type == "audio/pcma"

    @property
    def renews(self) -> bool:
        """Whether other settings amid audio begin another session."""
        return self.settings.kind == "transcription"

    # ---- what the client says ----------------------------------------------------------------------------------------

    def take(self, event: events.ClientEvent) -> None:
        """Handle an event other than audio.

        Raises:
            ApiError: if it is refused.
            Refusal: if the session refuses what follows from it.
        """
        match event:
            case events.SessionUpdate(session=update):
                conversing = self.settings.kind == "realtime" and self.received_s > 0
                self._update(self.settings.amid_audio(update) if conversing else self.settings.updated(update))
                if not self.manual and self._commits:
                    self._end_open()
                self._commits = self.manual
                self._emit("session.updated", session=self._session())
            case events.Commit():
                self._commit()
            case events.Clear():
                self._clear()
            case events.ClearOutput():
                self._emit("output_audio_buffer.cleared", response_id=None)
            case events.CreateItem() | events.DeleteItem() | events.RetrieveItem() | events.TruncateItem():
                if isinstance(event, events.CreateItem):
                    self._conversation_only()
                self._created = edit(self._conversation, event, self._emit)
            case events.CreateResponse(response=response):
                self._conversation_only()
                self._responses.create(response)
            case events.CancelResponse(response_id=name):
                if not self._responses.cancel(name):
                    raise ApiError("Cancellation failed: no active response found", code="response_cancel_not_active")
            case events.CreateWatch():
                self._send(m.Watch(event.id, event.text, event.every_s))
            case events.DeleteWatch():
                self._send(m.Unwatch(event.id))

    def heard(self, seconds: float) -> None:
        """Note that audio was sent to the session."""
        if self.manual and self._transcripts.open is None:
            self._transcripts.begin(new_id("item"), self.received_s)
        self.received_s += seconds
        item = self._transcripts.open
        if self.manual and item and self.received_s - item.start > MOST_ITEM_S:
            self._commit()
        self._time_out()

    def begin_created(self) -> None:
        """Begin the audio of the item that was created last."""
        self._end_open()
        self._filling = self._transcripts.begin(self._created, self.received_s)

    def end_created(self) -> None:
        """End the audio of the item that was created last, and request its transcript."""
        if item := self._filling:
            self._filling = None
            item.end = self._deaf_until = self.received_s
            self._flush(item)

    def renewed(self) -> None:
        """Continue with another session. All events of the previous one have been sent."""
        self._transcripts.reached(self.received_s)
        self._base_s += self.received_s
        self.received_s = self._quiet_since = self._deaf_until = 0.0

    @property
    def start(self) -> TunedStart:
        """The opening of the session that the settings ask for."""
        return self.settings.start(self._captioner)

    def _update(self, settings: Settings) -> None:
        settings.start(self._captioner)  # refuses what no session can be
        most = self._config.questions.max_instructions_chars
        self.settings = settings = msgspec.structs.replace(settings, instructions=settings.instructions[:most])
        self._transcripts.silent = not settings.tells_transcripts
        self._transcripts.logprobs = settings.logprobs
        self._responses.turns.instructions = settings.instructions
        self._responses.max_output_tokens = settings.max_output_tokens

    def _session(self) -> Wire:
        return self.settings.wire(self._id, self._expires_at, self._config.audio)

    def _commit(self) -> None:
        """End the open item, and request its transcript."""
        item = self._transcripts.open
        if item is None or self.received_s <= item.start:
            raise ApiError("the audio buffer is empty", code="input_audio_buffer_commit_empty")
        item.end = self.received_s
        self._committed(item)
        self._flush(item)

    def _end_open(self) -> None:
        """End the open item without the client's commit."""
        item = self._transcripts.open
        if item and self.received_s > item.start:
            self._commit()
        elif item:
            self._clear_open(item)

    def _clear(self) -> None:
        if item := self._transcripts.open:
            self._clear_open(item)
        self._emit("input_audio_buffer.cleared")

    def _clear_open(self, item: AudioItem) -> None:
        item.end, item.discarded = self.received_s, True
        self._flush(item)

    def _flush(self, item: AudioItem) -> None:
        """Flush the session at the end of an item."""
        item.flushed = True
        try:
            self._send(m.Flush(item.id))
        except Refusal as refusal:
            self._transcripts.fail(item, api_error(refusal).fields)

    def _conversation_only(self) -> None:
        if self.settings.kind == "transcription":
            raise ApiError("a transcription session has no conversation", code="invalid_session_type", param="type")

    # ---- what the session says ---------------------------------------------------------------------------------------

    def hear(self, said: m.ServerMessage) -> None:
        """Translate a message to events. Corrections are not sent."""
        match said:
            case m.Speech(state=state, at=at) if not (self.manual or self._filling):
                (self._started if state == "started" else self._stopped)(at)
            case m.Caption(final=True) if not (self.manual or self._transcripts.expects(said)):
                self.replayed(said)  # its speech began before this connection
            case m.Caption():
                self._transcripts.caption(said)
            case m.Flushed(id=name):
                self._transcripts.answered(name)
            case m.Window() | m.AnswerDelta() | m.Answer():
                self._responses.hear(said)
            case m.WatchHit():
                self._emit(
                    "af3stream.watch.hit", id=said.id, text=said.text, start=said.start, end=said.end, event=said.event
                )
            case m.Error(ref=None, code=code, message=text) if code in CAPTION_ERRORS:
                self._transcripts.failed({"type": SERVER, "code": code, "message": text, "param": None})
            case m.Error():
                self._responses.hear(said)

    def processed(self, seconds: float) -> None:
        """Note that all audio up to here is captioned."""
        self._transcripts.reached(seconds)

    def _started(self, at: float) -> None:
        if at < self._deaf_until - REACH_BACK_S:
            return
        self._quiet_since = self.received_s
        item = self._transcripts.begin(new_id("item"), at)
        self._emit("input_audio_buffer.speech_started", audio_start_ms=self._ms(at), item_id=item.id)
        if self.settings.interrupts:
            self._responses.cancel(None, "turn_detected")

    def _stopped(self, at: float) -> None:
        item = self._transcripts.open
        if item is None:
            return
        item.end = at
        self._quiet_since = self.received_s
        self._emit("input_audio_buffer.speech_stopped", audio_end_ms=self._ms(at), item_id=item.id)
        self._committed(item)
        if self.settings.creates_responses and self._responses.active is None:
            self._responses.create(ResponseSettings(), item.id)

    def _committed(self, item: AudioItem) -> None:
        told = audio_item(item.id)
        previous = self._conversation.add(told)
        self._emit("input_audio_buffer.committed", previous_item_id=previous, item_id=item.id)
        self._emit("conversation.item.added", previous_item_id=previous, item=told)
        self._emit("conversation.item.done", previous_item_id=previous, item=told)

    def _transcribed(self, item: AudioItem) -> None:
        """Store the transcript of an item, which may be a question."""
        if item.id in self._conversation:
            for part in self._conversation.find(item.id, "retrieve")["content"]:
                if part["type"] == "input_audio":
                    part["transcript"] = item.transcript
        self._responses.transcribed(item.id)

    def _time_out(self) -> None:
        """Commit an empty item and create a response after a long silence."""
        detection = self.settings.turn_detection
        if detection is None or not detection.idle_timeout_ms or self._transcripts.open or self._responses.active:
            return
        if self.received_s - self._quiet_since < detection.idle_timeout_ms / 1_000:
            return
        item = AudioItem(new_id("item"), self._quiet_since, self.received_s)
        self._emit(
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=self._ms(item.start),
            audio_end_ms=self._ms(self.received_s),
            item_id=item.id,
        )
        self._quiet_since = self.received_s
        self._committed(item)
        self._conversation.find(item.id, "retrieve")["content"][0]["transcript"] = ""
        if self.settings.kind == "realtime":
            self._responses.create(ResponseSettings())

    def replayed(self, missed: m.ServerMessage) -> None:
        """Send a missed final caption or answer as an item."""
        match missed:
            case m.Caption(final=True) if missed.text:
                item = AudioItem(new_id("item"), missed.start, missed.end)
                self._committed(item)
                self._transcripts.replay(item, missed)
            case m.Answer():
                told = message(new_id("item"), "assistant", [{"type": "output_text", "text": missed.text}])
                previous = self._conversation.add(told)
                self._emit("conversation.item.added", previous_item_id=previous, item=told)
                self._emit("conversation.item.done", previous_item_id=previous, item=told)
            case m.WatchHit():
                self.hear(missed)

    def _ms(self, seconds: float) -> int:
        return round((self._base_s + seconds) * 1_000)
