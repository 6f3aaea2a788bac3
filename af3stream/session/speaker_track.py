"""Who speaks in the closed utterances of one session, and what the speakers are called."""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Mapping
from typing import Final

import numpy as np

from af3stream.audio.events import Span, Utterance
from af3stream.audio.pcm import Samples
from af3stream.engine.captioning import Voices
from af3stream.engine.jobs import VoiceJob
from af3stream.errors import BadText, UnknownSpeaker
from af3stream.session.event_log import Divided
from af3stream.session.job_tracker import JobTracker
from af3stream.session.prompt_body import speaker_label
from af3stream.session.question_text import clean_text
from af3stream.session.speakers import MOST, Part, Speakers, divide, stretches

CONTROLS: Final = ("Cc", "Zl", "Zp")  # Unicode's categories: control characters, and what ends a line
STORED: Final = np.dtype("<f2")  # a number of a voice in the journal


class SpeakerTrack:
    """The utterances whose voices are still to be heard, oldest first, and the speakers so far.

    Args:
        wanted: of `start`: true, or how many speakers there are at most.
        jobs: where jobs for the voice encoder go.

    Attributes:
        names: what clients call the speakers.
    """

    def __init__(self, wanted: bool | int, jobs: JobTracker) -> None:
        self._jobs = jobs
        self.names: dict[int, str] = {}
        self._speakers = Speakers(MOST if wanted is True else min(int(wanted), MOST))
        self._waiting: deque[tuple[VoiceJob, Utterance]] = deque()
        self._heard: dict[VoiceJob, list[Part]] = {}
        self._early: tuple[VoiceJob, Span] | None = None  # of the open utterance, begun in its pause

    def begun(self, span: Span) -> bool:
        """Return whether the voices of the open utterance are heard, or on their way, as it will be if it ends here."""
        return self._early is not None and self._early[1] == span

    def begin(self, span: Span, samples: Samples) -> None:
        """Have the voices of the open utterance heard in its pause, as it will be if the pause holds."""
        self.abandon()
        job = VoiceJob(samples, stretches(len(samples)), start=span.start)
        self._early = job, span
        self._jobs.submit(job)

    def is_whole(self, span: Span) -> bool:
        """Return whether the open utterance has one part if it ends here; false if its voices are not heard yet."""
        if self._early is None or self._early[1] != span or self._early[0] not in self._heard:
            return False
        return len(self._speakers.join(self._heard[self._early[0]])) == 1

    def abandon(self) -> None:
        """Forget the voices that were begun in a pause: the voice goes on."""
        early, self._early = self._early, None
        if early is not None and self._heard.pop(early[0], None) is None:
            self._jobs.cancel(early[0])

    def close(self, utterance: Utterance, position: int, *, late: bool) -> None:
        """Have the voices of a closed utterance heard, unless that was begun in its pause."""
        if self._early is not None and self.begun(Span(utterance.start, utterance.end)):
            (job, _), self._early = self._early, None
            if job not in self._heard:
                self._jobs.make_due(job, position)
        else:
            self.abandon()
            job = VoiceJob(utterance.samples, stretches(len(utterance.samples)), late, utterance.start)
            self._jobs.submit(job, position)
        self._waiting.append((job, utterance))

    def heard(self, job: VoiceJob, voices: Voices | None) -> None:
        """Take the voices of an utterance; ``None``: they could not be heard, and nobody knows who speaks."""
        self._jobs.finish(job)
        early = self._early is not None and self._early[0] is job
        if not early and all(job is not waiting for waiting, _ in self._waiting):
            return  # given up
        if voices is None or not job.stretches:
            self._heard[job] = [Part(0, len(job.samples), None)]
        else:
            self._heard[job] = divide(job.samples, voices.vectors)

    def next_divided(self, utterance: int) -> tuple[Divided, list[tuple[Utterance, int | None]]] | None:
        """Divide the oldest utterance that waits, if its voices are there; ``utterance``: the number of its first part.

        Returns:
            What the journal keeps, and the parts with their speakers.
        """
        if not self._waiting or self._waiting[0][0] not in self._heard:
            return None
        job, whole = self._waiting.popleft()
        parts = self._speakers.join(self._heard.pop(job))
        speakers = tuple(self._speakers.hear(utterance + i, part) for i, part in enumerate(parts))
        voices = tuple(b"" if part.voice is None else part.voice.astype(STORED).tobytes() for part in parts)
        kept = Divided(utterance, tuple(part.end for part in parts), speakers, voices)
        return kept, _pieces(whole, kept)

    def restore(self, whole: Utterance, kept: Divided, told: Mapping[int, int]) -> list[tuple[Utterance, int | None]]:
        """Divide an utterance as the journal has it. What is learned of the voices is what was learned then.

        Args:
            told: speakers of utterances, as they were told and corrected.
        """
        start = 0
        for i, (end, speaker, voice) in enumerate(zip(kept.ends, kept.speakers, kept.voices, strict=True)):
            if speaker is not None and voice:
                vector = np.frombuffer(voice, STORED).astype(np.float32)
                self._speakers.restore(kept.utterance + i, speaker, Part(start, end, vector))
            start = end
        speakers = tuple(told.get(kept.utterance + i, speaker) for i, speaker in enumerate(kept.speakers))
        return _pieces(whole, Divided(kept.utterance, kept.ends, speakers, kept.voices))

    def move(self, utterance: int, speaker: int) -> None:
        """Correct the speaker of an utterance, as was decided before."""
        self._speakers.move(utterance, speaker)

    def correct(self) -> dict[int, int]:
        """Return the utterances whose speaker is another one by now, with that speaker."""
        return self._speakers.correct()

    def inherit_names(self) -> dict[int, str]:
        """Give the names of speakers that turned out to be another one to that one, if it has none; returns these."""
        given = {
            other: self.names[one]
            for one, other in self._speakers.aliases.items()
            if one in self.names and other not in self.names
        }
        self.names.update(given)
        return given

    def name(self, speaker: int, name: str) -> str | None:
        """Name a speaker, or take its name away with an empty one.

        Returns:
            The name as it is kept; ``None`` if the speaker has it already.

        Raises:
            UnknownSpeaker: if nobody has spoken under this number.
            BadText: for a name with control characters, or without a letter, a digit or a symbol.
        """
        if any(unicodedata.category(character) in CONTROLS for character in name):
            raise BadText("a name is one line without control characters")
        cleaned = clean_text(name) if name else ""
        if not self._speakers.knows(speaker):
            raise UnknownSpeaker(f"there is no speaker {speaker}")
        if self.names.get(speaker, "") == cleaned:
            return None
        self.restore_name(speaker, cleaned)
        return cleaned

    def restore_name(self, speaker: int, name: str) -> None:
        """Name a speaker as it was named before."""
        self.names.pop(speaker, None)
        if name:
            self.names[speaker] = name

    def introduction(self) -> list[str]:
        """Return the lines that stand beside a question: who the numbers in the captions are."""
        aliases = [f"{speaker_label(one)} is {speaker_label(other)}." for one, other in self._speakers.aliases.items()]
        names = [
            f"{speaker_label(speaker)} is {name}."
            for speaker, name in sorted(self.names.items())
            if speaker not in self._speakers.aliases
        ]
        return [*aliases, *names]


def _pieces(whole: Utterance, kept: Divided) -> list[tuple[Utterance, int | None]]:
    """The parts of an utterance as utterances, with their speakers."""
    pieces, start = [], 0
    for end, speaker in zip(kept.ends, kept.speakers, strict=True):
        piece = Utterance(whole.index, whole.start + start, whole.start + end, whole.samples[start:end])
        pieces.append((piece, speaker))
        start = end
    return pieces
