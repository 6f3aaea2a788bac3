"""What a session's questions read: closed windows, the open one, captions, and who the speakers are."""

from __future__ import annotations

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.segmenter import Segmenter
from af3stream.engine.contract import AudioSegment, Text, TokenCounter
from af3stream.engine.prompt_parts import note
from af3stream.session.caption_track import CaptionTrack
from af3stream.session.context_window import ContextWindow
from af3stream.session.job_tracker import JobTracker
from af3stream.session.open_utterance import OpenUtterance
from af3stream.session.prompt_body import PromptBody, UnreadWindow
from af3stream.session.speaker_track import SpeakerTrack


class QuestionContext:
    """Composes the prompts of questions, and keeps the KV prefix behind them up to date.

    Args:
        windows: the closed windows that questions can hear, and the KV prefix.
        segmenter: has the open window.
        track: has the captions that no window has taken yet.
        utterance: the open one.
        speakers: who speaks; ``None`` if the session does not ask.
        tokens: counts the positions of audio.
        jobs: where jobs for the engine go.
    """

    def __init__(
        self,
        windows: ContextWindow,
        segmenter: Segmenter,
        track: CaptionTrack,
        utterance: OpenUtterance,
        speakers: SpeakerTrack | None,
        tokens: TokenCounter,
        jobs: JobTracker,
    ) -> None:
        self._windows = windows
        self._segmenter = segmenter
        self._track = track
        self._utterance = utterance
        self._speakers = speakers
        self._tokens = tokens
        self._jobs = jobs

    @property
    def start(self) -> int:
        """Where the oldest window begins that questions can hear, in samples."""
        return self._windows.start

    def prompt(self, last_s: float | None, question_tokens: int) -> tuple[PromptBody | None, PromptBody | None]:
        """Compose the prompt of a question about the last seconds, or about everything; see `ContextWindow.prompt`."""
        since = 0 if last_s is None else max(0, self._segmenter.position - round(last_s * SAMPLE_RATE))
        windows, track = self._windows, self._track
        lines = [*(line for line in track.lines if line.end > windows.settled_to), *track.partial.lines.values()]
        uncaptioned = [(utterance.start, utterance.end) for utterance in track.uncaptioned]
        return windows.prompt(since, self.open_window(), lines, question_tokens, uncaptioned)

    def introduction(self) -> Text:
        """Return what stands beside a question: who the speakers are. Empty if nothing is known of them."""
        return note(self._speakers.introduction() if self._speakers else [])

    def instruct(self, text: str) -> None:
        """Begin the prompts of later questions with instructions; see `ContextWindow.instruct`."""
        self._windows.instruct(text)

    def note_resident(self, windows: frozenset[AudioSegment]) -> None:
        """Take the news that the engine has the embeddings of these windows, and of no others."""
        self._windows.resident = windows

    def start_reading(self) -> None:
        """Read windows into the KV prefix from now on; after a restore that waits for the first question."""
        self._windows.start_reading()

    def extend_prefix(self) -> None:
        """Have the KV prefix brought up to date if that is due."""
        if (job := self._windows.next_extend()) is not None:
            self._jobs.submit(job)

    def open_window(self) -> UnreadWindow | None:
        """Return the open window so far, without its captions."""
        span = self._segmenter.open_window
        tokens = self._tokens.frames(span.end - span.start) if span else 0
        if span is None or not tokens:
            return None
        sound = AudioSegment(span.start, span.end, tokens)
        samples = self._segmenter.read(span.start, span.end)
        spoken = tuple(self._utterance.unfinished())
        return UnreadWindow(span.start, span.end, sound, (), spoken, samples=samples)
