"""Measure how much a background rebuild delays a running answer and final captions.

The same answer and the same finals run alone, and while the session's prefix is rebuilt.
``python -m bench.rebuild [--quick]``
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import soundfile

from af3stream.engine.captioning import Samples
from af3stream.engine.contract import AudioSegment, Completion
from af3stream.engine.encoded_audio import EncodedAudio
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Job, Result
from af3stream.engine.worker import Worker
from bench.common import RECORDINGS, endless, mini, p95, quick, report, speech

QUESTION: Final = "What was said about the young man?"
CAPTION_TOKENS: Final = 48

Told = tuple[float, Result, bool]  # when a job reported, what, and whether that was its last report


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bench: windows kept, windows rebuilt, tokens of the answer, and number of finals."""

    windows: int = 4
    rebuilt: int = 8
    tokens: int = 160
    finals: int = 12


QUICK: Final = Size(1, 4, 24, 2)


def main(argv: list[str] | None = None) -> None:
    """Measure answers and finals, alone and during a rebuild."""
    size = QUICK if quick(__doc__, argv) else Size()
    setup = Setup(size)
    alone, beside = setup.answered(rebuild=False), setup.answered(rebuild=True)
    finals_alone, finals_beside = setup.captioned(rebuild=False), setup.captioned(rebuild=True)
    report(
        "rebuild",
        windows=size.windows,
        tokens=size.tokens,
        answer_s=alone,
        answer_beside_a_rebuild_s=beside,
        answer_delayed_by=beside / alone - 1,
        final_p95_s=p95(finals_alone),
        final_beside_a_rebuild_p95_s=p95(finals_beside),
        final_delayed_s=max(finals_beside) - max(finals_alone),
        window_s=setup.window_s,
    )


class Setup:
    """An engine and a worker in the same thread, with a session that has a prefix and can rebuild a longer one.

    Attributes:
        window_s: seconds to append the last of the windows.
    """

    def __init__(self, size: Size) -> None:
        engine = mini()
        endless(engine)
        self._size = size
        self._worker = Worker(engine)
        audio, self._results = EncodedAudio(), dict[Job, list[Told]]()
        (window,) = audio.encode(engine, [speech(30.0)])
        self._kept, self._anew = (
            tuple[AudioSegment, ...](audio.repeat(window, count)) for count in (size.windows, size.rebuilt)
        )
        self._worker.open("bench", audio, lambda _: None)
        for index, segment in enumerate([*self._kept, *self._anew]):
            self._submit(EncodeJob(index, segment, audio.read(segment)))
        self._worker.run_all()
        for count in range(1, size.windows + 1):
            began = time.perf_counter()
            self._submit(ExtendJob(self._kept[:count], rebuild=False))
            self._worker.run_all()
            self.window_s = time.perf_counter() - began
        self._recording: Samples = soundfile.read(min(RECORDINGS.glob("*.wav")), dtype="float32")[0]
        self.captioned(rebuild=False)  # warm up

    def answered(self, *, rebuild: bool) -> float:
        """Return the seconds from the first words of an answer to its end."""
        anew = self._begin(rebuild)
        job = self._submit(AnswerJob(self._kept, QUESTION, self._size.tokens))
        told = self._work(job)
        self._end(anew)
        ended = next(at for at, result, _ in told if isinstance(result, Completion))
        return ended - told[0][0]

    def captioned(self, *, rebuild: bool) -> list[float]:
        """Return the seconds from the arrival of each final, at the start of a step, to its text."""
        anew, took = self._begin(rebuild), []
        for _ in range(self._size.finals):
            came = time.perf_counter()
            self._worker.step()  # the final arrives when this step begins
            job = self._submit(CaptionJob(0, self._recording, None, final=True, max_tokens=CAPTION_TOKENS))
            took.append(self._work(job)[-1][0] - came)
        self._end(anew)
        return took

    def _begin(self, rebuild: bool) -> Job | None:
        if not rebuild:
            return None
        anew = self._submit(ExtendJob(self._anew, rebuild=True))
        for _ in range(3):
            self._worker.step()
        return anew

    def _end(self, anew: Job | None) -> None:
        if anew:
            assert not any(done for _, _, done in self._results[anew]), "the rebuild ended before what it delays"
            self._worker.cancel("bench", anew.id)
        self._worker.run_all()

    def _submit(self, job: Job) -> Job:
        self._results[job] = []
        self._worker.submit("bench", job, self._note)
        return job

    def _note(self, job: Job, result: Result, done: bool) -> None:
        self._results[job].append((time.perf_counter(), result, done))

    def _work(self, job: Job) -> list[Told]:
        while not any(done for _, _, done in self._results[job]):
            self._worker.step()
        return self._results[job]


if __name__ == "__main__":
    main()
