"""Ask for the names of sounds that no caption covers, and tell those that the model is sure of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from af3stream.audio import SAMPLE_RATE
from af3stream.engine.captioning import NamedSound
from af3stream.engine.jobs import Failed, Job, Result, SoundJob
from af3stream.protocol.messages import Sound
from af3stream.session.caption_line import CaptionLine
from af3stream.session.closed_window import ClosedWindow
from af3stream.session.job_tracker import JobTracker
from af3stream.session.ledger import seconds
from af3stream.session.prompt_body import uncaptioned

SHORTEST: Final = SAMPLE_RATE  # samples; what is shorter is a click or a cough
MOST_AFTER_RESTART: Final = 4  # windows whose sounds are named; an old journal does not tell which were
NO_UTTERANCE: Final = -1

# A reply with such a word tells of speech or silence, and not of a sound.
NO_SOUND: Final = re.compile(
    r"\b(?:speech|speak\w*|spoken|voices?|talk\w*|say\w*|said|conversation"
    r"|silen\w+|quiet|nothing|no|not|none|nobody|unknown)\b"
)
MUSIC: Final = re.compile(r"\b(?:music\w*|play(?:s|ing))\b")
NAME: Final = re.compile(r"[^\W\d_]+(?:[ '’-][^\W\d_]+){0,3}")
FILLER: Final = re.compile(r"^(?:(?:it|it's|is|i|hear|there|this|that|the|an?|some|sounds?|of|are)\s+)+")


def bracketed(reply: str) -> str | None:
    """Return the caption of a reply to "What do you hear?"; ``None`` if it is no short name of a sound.

    "The sound of a bell." becomes "[bell]"; whatever is played becomes "[music]".
    """
    heard = reply.lower().strip(" .!")
    if NO_SOUND.search(heard):
        return None
    if MUSIC.search(heard):
        return "[music]"
    name = FILLER.sub("", heard)
    return f"[{name}]" if NAME.fullmatch(name) else None


class SoundTrack:
    """The stretches without a caption whose sounds are still to be named, the oldest first.

    Args:
        sure: the least confidence of a name that may be told; ``None``: no sounds are named.
    """

    def __init__(self, sure: float | None, jobs: JobTracker) -> None:
        self._sure = sure
        self._jobs = jobs
        self._waiting: dict[Job, ClosedWindow] = {}

    @property
    def waiting(self) -> bool:
        """Whether a sound is still to be named."""
        return bool(self._waiting)

    def settle(self, window: ClosedWindow, lines: Iterable[CaptionLine], spoken: Iterable[tuple[int, int]]) -> None:
        """Have the sounds of a window named whose captions are final.

        Args:
            lines: these captions, and others.
            spoken: ranges of utterances without a final caption: one may begin in the window, and end after it.
        """
        if self._sure is None or window.sound is None:
            return
        covered = [*((line.start, line.end) for line in lines), *spoken]
        for start, end in uncaptioned(window.start, window.end, covered):
            if end - start >= SHORTEST:
                job = SoundJob(window.index, window.sound, start, end)
                self._waiting[job] = window
                window.unnamed += 1
                self._jobs.submit(job)

    def complete(self, job: SoundJob, result: Result) -> list[Sound]:
        """Take a name, or a failure, which is not told: a caption is missing, and nothing else."""
        if isinstance(result, Failed) and self._jobs.retry(job, result):
            return []
        sure = isinstance(result, NamedSound) and self._sure is not None and result.confidence >= self._sure
        caption = bracketed(result.text) if isinstance(result, NamedSound) and sure else None
        self._finish(job, caption)
        return [Sound(caption, seconds(job.start), seconds(job.end))] if caption else []

    def restore(self, jobs: Sequence[Job], named: Mapping[float, str], named_to: float) -> list[Job]:
        """Take names from the journal.

        Args:
            jobs: new jobs of any kind.
            named: the captions of sounds, each by its start in seconds.
            named_to: the sample up to which all sounds were named.

        Returns:
            The other jobs. Of the windows whose sounds were not named, only the newest are.
        """
        indexes = sorted({window.index for window in self._waiting.values()})
        oldest = indexes[-MOST_AFTER_RESTART:][:1]
        left = list[Job]()
        for job in jobs:
            if not isinstance(job, SoundJob):
                left.append(job)
            elif caption := named.get(seconds(job.start)):
                self._finish(job, caption)
            elif job.end <= named_to or [job.window] < oldest:
                self._finish(job, None)
            else:
                left.append(job)
        return left

    def _finish(self, job: SoundJob, caption: str | None) -> None:
        self._jobs.finish(job)
        window = self._waiting.pop(job)
        window.unnamed -= 1
        if caption:
            window.name_sound(CaptionLine(NO_UTTERANCE, job.start, job.end, caption))
