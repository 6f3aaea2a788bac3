"""Which engine a session goes to, for any engines."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from af3stream.cluster.placement import Candidate, Pool, place, pool_of
from af3stream.engine.contract import AudioSegment
from af3stream.engine.jobs import AnswerJob, CaptionJob, EncodeJob, ExtendJob, Job, ReviseJob, SoundJob, VoiceJob

NAMES: Final = "abcdef"
SAMPLES: Final = np.zeros(16_000, np.float32)
SEGMENT: Final = AudioSegment(0, 16_000, 25)

CANDIDATES: Final = st.builds(
    Candidate,
    st.sampled_from(NAMES),
    st.sampled_from(["all", "answers", "captions"]),
    st.integers(0, 100),
    st.sampled_from([0, 50, 100]),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
)
ENGINES: Final = st.lists(CANDIDATES, max_size=6, unique_by=lambda engine: engine.name)
POOLS: Final = st.sampled_from(Pool)
BYTES: Final = st.integers(0, 40)


def named(engines: list[Candidate], name: str) -> Candidate:
    return next(engine for engine in engines if engine.name == name)


@given(ENGINES, POOLS, BYTES)
def test_new_session_goes_to_the_engine_with_the_fewest_reserved_bytes(
    engines: list[Candidate], pool: Pool, session_bytes: int
) -> None:
    chosen = place(engines, pool, session_bytes)
    roomy = [engine for engine in engines if engine.has_room(session_bytes) and place([engine], pool)]
    if chosen is not None:
        captioners = [engine for engine in roomy if engine.role == "captions"]
        able = captioners if pool is Pool.CAPTIONS and named(engines, chosen).role == "captions" else roomy
        assert named(engines, chosen).reserved_bytes == min(engine.reserved_bytes for engine in able)


@given(ENGINES, POOLS, BYTES)
def test_full_engine_takes_no_new_session(engines: list[Candidate], pool: Pool, session_bytes: int) -> None:
    chosen = place(engines, pool, session_bytes)
    assert chosen is None or named(engines, chosen).has_room(session_bytes)


@given(ENGINES, POOLS, BYTES, st.sampled_from(NAMES), st.booleans())
def test_draining_engine_takes_nothing(
    engines: list[Candidate], pool: Pool, session_bytes: int, sticky: str, must: bool
) -> None:
    chosen = place(engines, pool, session_bytes, sticky, must=must)
    assert chosen is None or not named(engines, chosen).draining


@given(ENGINES, BYTES, CANDIDATES)
def test_session_stays_where_it_is_whatever_the_load_and_whoever_joins(
    engines: list[Candidate], session_bytes: int, joining: Candidate
) -> None:
    at = place(engines, Pool.ANSWERS, session_bytes)
    if at is not None and joining.name not in [engine.name for engine in engines]:
        loaded = [replace(engine, reserved_bytes=10**9) if engine.name == at else engine for engine in engines]
        assert place([*loaded, joining], Pool.ANSWERS, session_bytes, at) == at


@given(ENGINES, POOLS, BYTES)
def test_session_without_an_engine_is_placed_while_any_is_left(
    engines: list[Candidate], pool: Pool, session_bytes: int
) -> None:
    able = [e for e in engines if not e.draining and (pool is Pool.CAPTIONS or e.role != "captions")]
    assert (place(engines, pool, session_bytes, must=True) is not None) == bool(able)


@given(ENGINES, BYTES, st.booleans())
def test_answers_never_go_to_a_captioner(engines: list[Candidate], session_bytes: int, must: bool) -> None:
    chosen = place(engines, Pool.ANSWERS, session_bytes, must=must)
    assert chosen is None or named(engines, chosen).role != "captions"


@given(ENGINES, BYTES)
def test_captions_go_to_a_captioner_if_there_is_one(engines: list[Candidate], session_bytes: int) -> None:
    chosen = place(engines, Pool.CAPTIONS, session_bytes, must=True)
    if any(engine.role == "captions" and not engine.draining for engine in engines):
        assert chosen is not None and named(engines, chosen).role == "captions"


@pytest.mark.parametrize(
    ("job", "pool"),
    [
        (CaptionJob(0, SAMPLES, None, True, 9), Pool.CAPTIONS),
        (ReviseJob(0, SAMPLES, 9), Pool.CAPTIONS),
        (VoiceJob(SAMPLES, ((0, 16_000),)), Pool.CAPTIONS),
        (EncodeJob(0, SEGMENT, SAMPLES), Pool.ANSWERS),
        (SoundJob(0, SEGMENT, 0, 16_000), Pool.ANSWERS),
        (ExtendJob((SEGMENT,), False), Pool.ANSWERS),
        (AnswerJob((SEGMENT,), "What?", 9), Pool.ANSWERS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_jobs_without_caches_go_to_captioners(job: Job, pool: Pool) -> None:
    assert pool_of(job) is pool
