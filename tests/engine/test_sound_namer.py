"""A sound is named by a question of its own over some frames of a window, beside the session's KV prefix."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from af3stream.config import load
from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.sound_namer import MAX_TOKENS, QUESTION, Af3SoundNamer
from af3stream.engine.captioning import NamedSound, Samples
from af3stream.engine.contract import AudioSegment
from af3stream.engine.factory import SURE, load_engine
from af3stream.engine.jobs import AnswerJob, EncodeJob, ExtendJob, Failed, SoundJob
from af3stream.engine.request import Request
from tests.checkpoints import make_tiny
from tests.engine.conftest import new_worker

pytestmark = pytest.mark.device
Signal = Callable[[float, int], Samples]


@pytest.fixture
def naming(loaded: LoadedCheckpoint) -> Af3Engine:
    return Af3Engine(loaded, "tiny", sure=0.5)


def named(engine: Af3Engine, embeddings: object, first: int, last: int) -> NamedSound:
    assert engine.sounds
    *_, name = engine.sounds.name(embeddings, first, last)
    assert name is not None
    return name


def test_a_checkpoint_that_has_not_learned_it_names_nothing(engine: Af3Engine) -> None:
    assert engine.sounds is None


def test_the_name_is_the_answer_to_the_question_over_these_frames_alone(naming: Af3Engine, signal: Signal) -> None:
    (window,) = naming.encode([signal(4.0, 1)])
    assert isinstance(window, torch.Tensor)
    part = AudioSegment(0, 1, 30)
    context = naming.context(lambda _: window[20:50])
    answer = "".join(piece for piece in context.answer([part], QUESTION, MAX_TOKENS) if isinstance(piece, str))
    name = named(naming, window, 20, 50)
    assert name.text == answer and 0 < name.confidence <= 1
    assert name != named(naming, window, 50, 80)


def test_the_confidence_is_the_mean_of_the_tokens_log_probabilities(naming: Af3Engine, signal: Signal) -> None:
    (window,) = naming.encode([signal(2.0, 2)])
    assert isinstance(window, torch.Tensor) and isinstance(naming.sounds, Af3SoundNamer)
    embedder, decoder = naming.sounds._embedder, naming.sounds._decoder
    prompt = torch.cat([embedder.head(), window, embedder.question(QUESTION)])
    written, scores = list[int](), list[float]()
    while len(written) < MAX_TOKENS and not (written and decoder.ends(written)):
        prompt = torch.cat([prompt, decoder.embed(written[-1:])])
        *_, states = decoder.prefill(decoder.new_slot(len(prompt)), prompt)
        scores.append(float(decoder.logits(states[-1]).log_softmax(-1).max()))
        written += decoder.likeliest(states[-1:])
    assert named(naming, window, 0, len(window)).confidence == pytest.approx(float(np.exp(np.mean(scores))), rel=1e-3)


def test_naming_changes_no_prefix_and_encodes_nothing_again(naming: Af3Engine, signal: Signal) -> None:
    worker, results = new_worker(naming), dict[object, object]()
    first, second = AudioSegment(0, 32_000, 50), AudioSegment(32_000, 96_000, 100)

    def submit(job: EncodeJob | ExtendJob | SoundJob | AnswerJob) -> object:
        worker.submit("s", job, lambda job, result, done: results.update({job: result}))
        worker.run_all()
        return results[job]

    for index, segment in enumerate((first, second)):
        submit(EncodeJob(index, segment, signal((segment.end - segment.start) / 16_000, index)))
    submit(ExtendJob((first,), rebuild=False))
    context = worker._core._runner.prefix("s")
    before = context.kept_tokens, context.kept_bytes, worker.kv_bytes, worker.embedding_bytes
    counted = replace(naming.counters)

    job = SoundJob(1, second, 48_000, 80_000)
    assert job.frames == (25, 75)
    embeddings = worker._core.caches.embeddings.get("s", second)
    assert submit(job) == named(naming, embeddings, *job.frames)
    assert (context.kept_tokens, context.kept_bytes, worker.kv_bytes, worker.embedding_bytes) == before
    for counter in ("encoder_passes", "sounds_encoded", "caption_encodes", "rebuilds"):
        assert getattr(naming.counters, counter) == getattr(counted, counter)
    assert context.held([first]) == 1


def test_a_job_for_an_engine_that_names_nothing_fails(engine: Af3Engine) -> None:
    worker, results = new_worker(engine), list[object]()
    segment = AudioSegment(0, 16_000, 25)
    worker.submit("s", SoundJob(0, segment, 0, 16_000), lambda job, result, done: results.append(result))
    worker.run_all()
    assert results == [Failed("the engine failed: ModelError")]


@pytest.mark.parametrize(
    ("card", "setting", "sure"),
    [
        ({}, "auto", None),
        ({}, "true", SURE),
        ({"sounds": 0.7}, "auto", 0.7),
        ({"sounds": 0.7}, "true", 0.7),
        ({"sounds": 0.7}, "false", None),
    ],
)
def test_the_card_decides_unless_the_configuration_does(
    tmp_path: Path, card: dict[str, float], setting: str, sure: float | None
) -> None:
    folder = make_tiny(tmp_path / "tiny")
    (folder / "af3stream.json").write_text(json.dumps({"name": "tiny"} | card))
    overrides = (f"model.name={folder}", f"captions.sounds={setting}", "captions.speakers=false")
    sounds = load_engine(load(overrides=overrides)).engine.sounds
    assert (sounds and sounds.sure) == sure


def test_a_name_that_takes_too_long_leaves_the_session_its_prefix(naming: Af3Engine, signal: Signal) -> None:
    worker, segment = new_worker(naming), AudioSegment(0, 32_000, 50)
    for job in (EncodeJob(0, segment, signal(2.0, 3)), ExtendJob((segment,), rebuild=False)):
        worker.submit("s", job, lambda *_: None)
        worker.run_all()
    runner = worker._core._runner
    request = Request("s", SoundJob(0, segment, 0, 32_000), lambda *_: None)
    runner.run([request])
    runner.abandon([request])
    assert runner.prefix("s").held([segment]) == 1
