"""Has closed windows encoded and read into the KV prefix, and turns the results into messages."""

from __future__ import annotations

from collections.abc import Sequence

from af3stream.audio.events import Window
from af3stream.config import QuestionsConfig
from af3stream.engine.facts import EngineFacts
from af3stream.engine.jobs import EncodeJob, Failed, Result
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.session.audio_replay import AudioReplay
from af3stream.session.caption_line import CaptionLine
from af3stream.session.closed_window import ClosedWindow
from af3stream.session.context_window import ContextWindow
from af3stream.session.job_tracker import JobTracker
from af3stream.session.ledger import seconds
from af3stream.session.server_messages import failure
from af3stream.session.sound_track import SoundTrack

Messages = list[m.ServerMessage]


class WindowPipeline:
    """One session's closed windows on their way through the engine.

    Attributes:
        context: the windows that questions can hear.
        sounds: their sounds that are still to be named.

    Args:
        naming: whether sounds that no caption covers are named.
        replay: gives back the samples of closed windows.
        jobs: where jobs for the engine go.
    """

    def __init__(
        self,
        config: QuestionsConfig,
        *,
        facts: EngineFacts,
        naming: bool,
        replay: AudioReplay,
        jobs: JobTracker,
        metrics: Metrics,
    ) -> None:
        self.context = ContextWindow(
            facts.capacity,
            facts.notes,
            facts.frames,
            notes_max_tokens=config.notes_max_tokens,
            reply_tokens=config.max_tokens,
            read_tokens=config.read_tokens,
            tokens=facts.tokens.frames,
            count=facts.tokens.count,
        )
        self.sounds = SoundTrack(facts.sure if naming else None, jobs)
        self._replay = replay
        self._jobs = jobs
        self._metrics = metrics

    def close(self, window: Window, position: int, received: int, *, ended: bool) -> None:
        """Add a window that closed.

        Args:
            position: samples received, at 16 kHz.
            received: client frames received.
            ended: whether no more follow.
        """
        closed = self.context.close(window)
        self._replay.closed(window, received, ended=ended)
        if not self.context.captions_replace_audio:  # else its captions decide whether it is encoded
            self._jobs.submit(closed.encode_job(), position)

    def settle(
        self, lines: Sequence[CaptionLine], final_before: int, position: int, spoken: Sequence[tuple[int, int]]
    ) -> Messages:
        """Let windows take final captions as notes; if captions replace audio, encode those that need it.

        Args:
            spoken: ranges of utterances without a final caption.
        """
        messages: Messages = []
        for window in self.context.settle(lines, final_before):
            if self.context.captions_replace_audio and window.sound:
                self._jobs.submit(window.encode_job(), position)
            elif self.context.captions_replace_audio:
                messages.append(self._readable(window))
            self.sounds.settle(window, lines, spoken)
        return messages

    def encoded(self, job: EncodeJob, result: Result) -> Messages:
        """Take the result of an encode job: embeddings, which stay with the engine, or a failure."""
        if isinstance(result, Failed) and self._jobs.retry(job, result):
            return []
        self._jobs.finish(job)
        self._replay.encoded(job.segment)
        if isinstance(result, Failed):
            self.context.drop(job)
            return [failure(f"window {job.window} could not be encoded", result)]
        return [self._readable(self.context.encoded(job))]

    def restore(self, job: EncodeJob) -> None:
        """Take a window back from the journal: it is encoded when it is read, not now."""
        self._jobs.finish(job)
        self.context.restore(job)

    def _readable(self, window: ClosedWindow) -> m.Window:
        """Return the message that a window can be read from now on."""
        self._metrics.windows.inc()
        self._metrics.seconds.labels("decoded").inc(seconds(window.end - window.start))
        return m.Window(window.index, seconds(window.start), seconds(window.end), self.context.positions(window))
