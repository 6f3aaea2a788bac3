"""Captions of one session: interim while an utterance is open, final when it is closed, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Utterance
from af3stream.audio.pcm import Samples
from af3stream.engine.contract import Hypothesis, TimedWord
from af3stream.engine.jobs import CaptionJob
from af3stream.protocol.messages import Caption
from af3stream.session.hallucinations import agreed, without_loops
from af3stream.session.ledger import seconds

STRETCH = 2.0  # an interim takes its turn again after this many times what the last one took
STALE = 2.0  # of the time between two interims: what is said since the last words came is too much for a question


@dataclass(frozen=True, slots=True)
class CaptionLine:
    """A caption and its place. Positions are samples at 16 kHz.

    Attributes:
        language: a code; ``None`` where the captioner does not say.
        translation: in English, where it was asked for.
        words: with their times, where they were asked for; these count from ``start``.
        speaker: 1, 2, ...; ``None`` where it is not known.
    """

    utterance: int
    start: int
    end: int
    text: str
    language: str | None = None
    translation: str = ""
    words: tuple[TimedWord, ...] = ()
    speaker: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The words that a question is answered with, and that are on their way.

    Attributes:
        utterances: those before this one are closed, and their final words come.
        draft: what hears the open utterance; ``None`` where its words are there.
    """

    utterances: int
    draft: CaptionJob | None


class CaptionTrack:
    """The utterances that are open or waiting for their final words.

    At most one interim is on its way. Its turn comes every ``every_s`` seconds of new audio, or less often where the
    last one took long.

    Attributes:
        lines: final captions that said something, in order.
    """

    def __init__(self, every_s: float, max_tokens: int, interims: bool) -> None:
        self.lines: list[CaptionLine] = []
        self.interims = interims
        self._every = int(every_s * SAMPLE_RATE)
        self._max_tokens = max_tokens
        self._waiting: dict[int, Utterance] = {}
        self._open: int = 0  # index of the open utterance, or of the next one
        self._hypothesis: Hypothesis | None = None
        self._final: dict[int, Hypothesis] = {}  # final words that wait for those of an earlier utterance
        self._drafts: dict[int, CaptionLine] = {}  # interim words of utterances without final ones
        self._interim: tuple[CaptionJob, int, int, float] | None = None  # job, start, end, submitted at
        self._heard_to = self._drafted_to = 0  # by the last interim, and by the last whose words came
        self._took_s = 0.0
        self._held: deque[Hypothesis | None] = deque()  # drafts of the newest closed utterances, which may be divided
        self._speakers: dict[int, int] = {}  # of utterances without final words

    @property
    def waiting(self) -> list[Utterance]:
        """The closed utterances without their final words."""
        return [*self._waiting.values()]

    @property
    def wordless(self) -> list[Utterance]:
        """The closed utterances of which there are no words at all yet."""
        return [utterance for number, utterance in self._waiting.items() if number not in self._drafts]

    @property
    def oldest_waiting(self) -> Utterance | None:
        """The first closed utterance without its final words."""
        return next(iter(self._waiting.values()), None)

    def worded(self, utterances: int) -> bool:
        """Whether the final words of every utterance before this one are there."""
        return self.oldest_waiting is None or self.oldest_waiting.index >= utterances

    def has(self, wanted: Wanted) -> bool:
        """Whether these words are there, or do not come; an utterance that closed under its draft has final ones."""
        drafting = self._interim is not None and self._interim[0] is wanted.draft
        closed = wanted.draft is not None and wanted.draft.utterance < self._open
        return self.worded(wanted.utterances + closed) and not drafting

    @property
    def stretched(self) -> bool:
        """Whether interims come less often than they were asked for."""
        return self.interims and STRETCH * self._took_s * SAMPLE_RATE > self._every

    @property
    def drafts(self) -> list[CaptionLine]:
        """The interim words of all that has no final ones yet."""
        return [*self._drafts.values()]

    def interim_due(self, start: int, end: int) -> bool:
        """Whether the open utterance, heard up to ``end``, should be heard again."""
        if not self.interims or self._interim is not None or self.holds:
            return False
        step = max(self._every, int(STRETCH * self._took_s * SAMPLE_RATE))
        return end - max(start, self._heard_to) >= step

    def stale(self, start: int, end: int) -> bool:
        """Whether the draft of the open utterance, spoken up to ``end``, lacks more than there is between two."""
        return end - max(start, self._drafted_to) >= STALE * self._every

    def interim(self, start: int, end: int, samples: Samples, now: float, *, urgent: bool = False) -> CaptionJob:
        """The job that hears the open utterance so far; ``urgent``: for a question."""
        job = CaptionJob(self._open, samples, self._hypothesis, final=False, max_tokens=self._max_tokens, urgent=urgent)
        self._interim = (job, start, end, now)
        self._heard_to = end
        return job

    def close(self, utterance: Utterance, *, late: bool = False) -> CaptionJob:
        """The job that hears a closed utterance for good; ``late``: far behind, so that questions go first."""
        draft, self._hypothesis = self._hypothesis, None
        return self._take(utterance, draft, late)

    def hold(self, utterance: Utterance) -> None:
        """Take a closed utterance that may be divided before it is heard for good."""
        self._held.append(self._hypothesis)
        self._hypothesis = None
        self._waiting[self._open] = utterance
        self._open += 1

    @property
    def holds(self) -> int:
        """How many utterances may still be divided. Until they are, no number is known for what follows them."""
        return len(self._held)

    @property
    def oldest_held(self) -> int:
        """The number of the oldest utterance that may still be divided, or of the next one."""
        return self._open - len(self._held)

    def divide(self, parts: Sequence[tuple[Utterance, int | None]], *, late: bool = False) -> list[CaptionJob]:
        """Put these parts, each with its speaker, in the place of the oldest held utterance; returns their jobs.

        The first part keeps its number. The utterances behind it move on by the number of other parts.
        """
        first, draft = self.oldest_held, self._held.popleft()
        behind = [self._waiting.pop(number) for number in range(first, self._open)][1:]
        self._open = first
        jobs = []
        for utterance, speaker in parts:
            if speaker is not None:
                self._speakers[self._open] = speaker
            jobs.append(self._take(utterance, draft if len(parts) == 1 else None, late))
        for utterance in behind:
            self._waiting[self._open] = utterance
            self._open += 1
        return jobs

    def _take(self, utterance: Utterance, draft: Hypothesis | None, late: bool) -> CaptionJob:
        """Give a closed utterance the next number; returns the job that hears it for good."""
        number = self._open
        self._waiting[number] = utterance
        self._open += 1
        return CaptionJob(number, utterance.samples, draft, final=True, max_tokens=self._max_tokens, late=late)

    def correct_speaker(self, utterance: int, speaker: int) -> bool:
        """Give an utterance another speaker; returns whether its final caption was told with the one before."""
        if utterance in self._waiting:
            self._speakers[utterance] = speaker
            return False
        told = [line for line in self.lines if line.utterance == utterance]
        self.revise([replace(line, speaker=speaker) for line in told])
        return bool(told)

    def abandon_interim(self) -> CaptionJob | None:
        """Give up the interim on its way: its utterance is closed, or it is heard more urgently."""
        interim, self._interim = self._interim, None
        return interim[0] if interim else None

    def heard_interim(self, job: CaptionJob, hypothesis: Hypothesis, now: float) -> Caption | None:
        """A hypothesis about the open utterance came in; it is shown to whom interims are."""
        if self._interim is None or self._interim[0] is not job:
            return None
        _, start, end, submitted = self._interim
        self._interim, self._drafted_to = None, end
        self._took_s = now - submitted
        text = without_loops(hypothesis.text)
        before = self._drafts.get(self._open)
        stable = agreed(before.text if before else "", text)
        self._hypothesis = hypothesis
        if not text:
            return None
        self._drafts[self._open] = CaptionLine(self._open, start, end, text)
        if not self.interims:
            return None
        return Caption(self._open, text, seconds(start), seconds(end), final=False, stable=stable)

    def heard_final(self, job: CaptionJob, hypothesis: Hypothesis) -> list[Caption]:
        """The final words of an utterance came in: its caption, and those that waited for it."""
        self._final[job.utterance] = hypothesis
        captions: list[Caption | None] = []
        while (number := next(iter(self._waiting), None)) in self._final:
            assert number is not None
            captions.append(self._finish(number, self._waiting.pop(number), self._final.pop(number)))
        return [caption for caption in captions if caption is not None]

    def revise(self, revised: Sequence[CaptionLine]) -> None:
        """Put other words in the place of final captions; one without words is gone."""
        words = {line.utterance: line for line in revised}
        lines = [words.get(line.utterance, line) for line in self.lines]
        self.lines = [line for line in lines if line.text]

    def _finish(self, number: int, utterance: Utterance, hypothesis: Hypothesis) -> Caption | None:
        """The final caption; nothing where nobody spoke and nothing was shown."""
        text = without_loops(hypothesis.text)
        drafted = self._drafts.pop(number, None)
        speaker = self._speakers.pop(number, None)
        if text:
            self.lines.append(CaptionLine(number, utterance.start, utterance.end, text, speaker=speaker))
        if not (text or (drafted and self.interims)):
            return None
        start, end = seconds(utterance.start), seconds(utterance.end)
        return Caption(number, text, start, end, final=True, stable=text, speaker=speaker)
