"""Where the samples of a job stand: the samples of every job are one range of the session's timeline.

A link to another process relies on it: it sends each range of the timeline once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from af3stream.config import AudioConfig, CaptionsConfig
from af3stream.engine.captioning import Samples
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, Job, ReviseJob, VoiceJob, samples_of, with_samples
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedEngine
from af3stream.protocol import messages as m
from tests.session.conversation import SENTENCE, SILENCE, VOICE, Conversation, pcm

EAGER = AudioConfig(window_min_s=3.0)
SCENE = SENTENCE * 2 + VOICE + "." * 15 + VOICE * 3 + SILENCE * 5 + SENTENCE + VOICE


class RevisingCaptioner(ScriptedCaptioner):
    """Hears more over a whole window."""

    revises = True


def revising() -> ScriptedEngine:
    engine = ScriptedEngine(window_s=8.0)
    engine.captioner = RevisingCaptioner(engine.counters)
    return engine


@pytest.mark.parametrize("speakers", [False, True], ids=["one speaker", "speakers told apart"])
def test_the_samples_of_every_job_are_a_range_of_the_timeline(speakers: bool) -> None:
    start, captions = m.Start(interims=True, speakers=speakers), CaptionsConfig(early_final_ms=0 if speakers else 250)
    talk = Conversation(start, engine=revising(), notes="all", audio=EAGER, captions=captions)
    talk.hear(SCENE)
    talk.tell(m.Gap(talk.sent, 32_000))
    lost_at, talk.sent = talk.sent, talk.sent + 32_000
    talk.hear(SCENE)
    talk.ask()
    talk.end()
    spoken = np.frombuffer(pcm(SCENE), "<i2").astype(np.float32) / 32_768
    timeline = np.concatenate([spoken, np.zeros(32_000, np.float32), spoken])
    assert lost_at == len(spoken)
    check(talk.jobs, timeline)
    kinds = {type(job) for job in talk.jobs if samples_of(job)}
    assert kinds == {CaptionJob, ReviseJob, EncodeJob, AnswerJob} | ({VoiceJob} if speakers else set[Any]())


def check(jobs: list[Job], timeline: Samples) -> None:
    for job in jobs:
        for at, samples in samples_of(job):
            np.testing.assert_array_equal(samples, timeline[at : at + len(samples)], type(job).__name__)


def test_samples_are_replaced_in_the_order_in_which_they_are_named() -> None:
    talk = Conversation(engine=revising(), notes="all", audio=EAGER)
    talk.hear(SCENE)
    talk.ask()
    for job in talk.jobs:
        again = with_samples(job, [samples + 1 for _, samples in samples_of(job)])
        assert again.id == job.id
        for (at, before), (same, after) in zip(samples_of(job), samples_of(again), strict=True):
            assert at == same
            np.testing.assert_array_equal(before + 1, after)
