"""Captions of one session: interim while an utterance is open, final when it is closed, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from af3stream.audio import SAMPLE_RATE
from af3stream.audio.events import Utterance
from af3stream.audio.pcm import Samples
from af3stream.engine.contract import DEFAULT_OPTIONS, CaptionOptions, Hypothesis, TimedWord
from af3stream.engine.jobs import CaptionJob
from af3stream.protocol.messages import Caption, CaptionUpdate
from af3stream.session.hallucinations import agreed, without_loops
from af3stream.session.language_tracker import LanguageTracker
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

    Args:
        languages: decides in which language an utterance is written down.
        options: of every job, but for the language.
    """

    def __init__(
        self,
        every_s: float,
        max_tokens: int,
        interims: bool,
        languages: LanguageTracker | None = None,
        options: CaptionOptions = DEFAULT_OPTIONS,
    ) -> None:
        self.lines: list[CaptionLine] = []
        self.interims = interims
        self._languages = languages or LanguageTracker()
        self._options = options
        self._again: list[CaptionJob] = []
        self._told: dict[int, Utterance] = {}  # whose final words were told, and whose language is open
        self._correcting: set[int] = set()  # utterances that are heard in another language than was told
        self._compared = self._heard_again = -1  # the newest utterance that was asked for again, for each reason
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

    @property
    def waiting(self) -> list[Utterance]:
        """The closed utterances without their final words."""
        return [*self._waiting.values()]

    @property
    def wordless(self) -> list[Utterance]:
        """The closed utterances of which there are no words at all yet."""
        known = self._drafts.keys() | self._correcting
        return [utterance for utterance in self.waiting if utterance.index not in known]

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
        if not self.interims or self._interim is not None:
            return False
        step = max(self._every, int(STRETCH * self._took_s * SAMPLE_RATE))
        return end - max(start, self._heard_to) >= step

    def stale(self, start: int, end: int) -> bool:
        """Whether the draft of the open utterance, spoken up to ``end``, lacks more than there is between two."""
        return end - max(start, self._drafted_to) >= STALE * self._every

    def interim(self, start: int, end: int, samples: Samples, now: float, *, urgent: bool = False) -> CaptionJob:
        """The job that hears the open utterance so far; ``urgent``: for a question."""
        job = CaptionJob(
            self._open,
            samples,
            self._hypothesis,
            final=False,
            max_tokens=self._max_tokens,
            urgent=urgent,
            options=replace(self._options, language=self._languages.held),
        )
        self._interim = (job, start, end, now)
        self._heard_to = end
        return job

    def close(self, utterance: Utterance, *, late: bool = False) -> CaptionJob:
        """The job that hears a closed utterance for good; ``late``: far behind, so that questions go first."""
        self._waiting[utterance.index] = utterance
        draft, self._hypothesis = self._hypothesis, None
        self._open = utterance.index + 1
        options = replace(self._options, language=self._languages.held, detect=self._languages.detects)
        return self._final_job(utterance, draft, options, late=late)

    def _final_job(
        self,
        utterance: Utterance,
        draft: Hypothesis | None,
        options: CaptionOptions,
        *,
        late: bool = False,
        again: bool = False,
    ) -> CaptionJob:
        return CaptionJob(
            utterance.index,
            utterance.samples,
            draft,
            final=True,
            max_tokens=self._max_tokens,
            late=late,
            options=options,
            again=again,
        )

    def take_again(self) -> list[CaptionJob]:
        """Return the jobs that hear utterances in another language than they were heard in."""
        jobs, self._again = self._again, []
        return jobs

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
        return Caption(
            self._open,
            text,
            seconds(start),
            seconds(end),
            final=False,
            stable=stable,
            language=hypothesis.language,
        )

    def heard_final(self, job: CaptionJob, hypothesis: Hypothesis) -> list[Caption | CaptionUpdate]:
        """The final words of an utterance came in: its caption, and those that waited for it.

        If they are in another language than the utterance is, they are asked for again; see `take_again`. So are those
        of utterances before it, if they turn out to be in its language.
        """
        self._final[job.utterance] = hypothesis
        captions: list[Caption | CaptionUpdate | None] = []
        while (oldest := self.oldest_waiting) and oldest.index in self._final:
            if options := self._asked_again(oldest, self._final[oldest.index]):
                del self._final[oldest.index]
                self._again.append(self._final_job(oldest, None, options, again=True))
                break
            heard = self._final.pop(oldest.index)
            del self._waiting[oldest.index]
            self._reconsider()
            captions.append(
                self._correct(oldest, heard) if oldest.index in self._correcting else self._finish(oldest, heard)
            )
        return [caption for caption in captions if caption is not None]

    def restore_final(self, job: CaptionJob, hypothesis: Hypothesis) -> None:
        """Take the final words of an utterance that were told before a restart; utterances come in order."""
        utterance = self._waiting.pop(job.utterance)
        if hypothesis.language:
            self._languages.restore(hypothesis.language, seconds(utterance.end - utterance.start))
        self._finish(utterance, hypothesis)

    def _asked_again(self, utterance: Utterance, hypothesis: Hypothesis) -> CaptionOptions | None:
        """Decide the language of a closed utterance; returns how it is to be heard once more, if that is necessary."""
        if utterance.index in self._correcting:
            return None
        probable = dict(hypothesis.languages)
        if utterance.index > self._compared and len(doubts := self._languages.doubts(probable)) > 1:
            self._compared = utterance.index
            return replace(self._options, compare=doubts)
        language = self._languages.decide(utterance.index, probable, seconds(utterance.end - utterance.start))
        if hypothesis.language in (None, language) or language is None or utterance.index <= self._heard_again:
            return None
        self._heard_again = utterance.index
        return replace(self._options, language=language)

    def _reconsider(self) -> None:
        """Ask for utterances again whose language turned out to be another one; later ones wait for their words."""
        for index in self._languages.take_wrong():
            if utterance := self._told.get(index):
                self._correcting.add(index)
                self._waiting[index] = utterance
                options = replace(self._options, language=self._languages.language)
                self._again.append(self._final_job(utterance, None, options, again=True))
        self._waiting = dict(sorted(self._waiting.items()))

    def _correct(self, utterance: Utterance, hypothesis: Hypothesis) -> CaptionUpdate | None:
        """The words of a caption in another language than was told; nothing if there are none in that language."""
        self._correcting.remove(utterance.index)
        line = self._line(utterance, hypothesis)
        if not line.text:
            return None
        self.lines = sorted(
            [line, *(each for each in self.lines if each.utterance != line.utterance)], key=lambda each: each.utterance
        )
        return CaptionUpdate(
            line.utterance,
            line.text,
            seconds(line.start),
            seconds(line.end),
            language=line.language,
            translation=line.translation,
        )

    def revise(self, revised: Sequence[CaptionLine]) -> None:
        """Put other words in the place of final captions; one without words is gone."""
        words = {line.utterance: line for line in revised}
        lines = [words.get(line.utterance, line) for line in self.lines]
        self.lines = [line for line in lines if line.text]

    def _line(self, utterance: Utterance, hypothesis: Hypothesis) -> CaptionLine:
        text = without_loops(hypothesis.text)
        return CaptionLine(
            utterance.index,
            utterance.start,
            utterance.end,
            text,
            language=hypothesis.language if text else None,
            translation=without_loops(hypothesis.translation),
        )

    def _finish(self, utterance: Utterance, hypothesis: Hypothesis) -> Caption | None:
        """The final caption; nothing where nobody spoke and nothing was shown."""
        line = self._line(utterance, hypothesis)
        drafted = self._drafts.pop(utterance.index, None)
        if line.text:
            self.lines.append(line)
        if not (line.text or (drafted and self.interims)):
            return None
        told = {**self._told, utterance.index: utterance}
        self._told = {index: told[index] for index in told.keys() & self._languages.open}
        return Caption(
            line.utterance,
            line.text,
            seconds(line.start),
            seconds(line.end),
            final=True,
            stable=line.text,
            language=line.language,
            translation=line.translation,
        )
