"""What a session gives the engine, and gets back, is immutable and may cross to another process."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
import pytest
from msgspec.structs import asdict, fields

from af3stream.engine.captioning import CaptionOptions, Hypothesis, NamedSound, TimedWord, Voices
from af3stream.engine.contract import AudioSegment, Completion, Instructions, Text, Turn
from af3stream.engine.jobs import (
    AnswerJob,
    CaptionJob,
    EncodeJob,
    ExtendJob,
    Failed,
    Job,
    PrefixLost,
    Restarted,
    Result,
    ReviseJob,
    SoundJob,
    VoiceJob,
)
from af3stream.engine.serialisation import decode_array, encode_array

SAMPLES = np.linspace(-1, 1, 640, dtype=np.float32)
SEGMENT = AudioSegment(0, 640, 1)
PARTS = (Instructions("Be brief."), SEGMENT, Text("[0:00] Hello.\n"))
JOBS: list[Job] = [
    CaptionJob(0, SAMPLES, Hypothesis("Hello", (1, 2)), final=True, max_tokens=9, options=CaptionOptions("en")),
    ReviseJob(0, SAMPLES, 9, start=320),
    VoiceJob(SAMPLES, ((0, 320), (320, 640)), late=True, start=640),
    EncodeJob(0, SEGMENT, SAMPLES),
    SoundJob(0, SEGMENT, 0, 320),
    ExtendJob(PARTS, rebuild=False),
    AnswerJob(PARTS, "What?", 9, (Turn("Who?", "Anna."),), 2, PARTS[1:], {SEGMENT: SAMPLES}),
]
RESULTS: list[Result] = [
    Hypothesis("Hello", (1, 2), languages=(("en", 0.9),), words=(TimedWord("Hello", 0, 320, 0.5),)),
    Voices(np.eye(2, 3, dtype=np.float32)),
    NamedSound("A bell.", 0.75),
    Completion(1, "stop", 2),
    Failed("it failed"),
    Restarted(),
    PrefixLost(),
    " word",
    None,
]
ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=encode_array)


def copied(value: Job | Result, kind: Any) -> Any:
    """What another process reads."""
    return msgspec.msgpack.Decoder(kind, dec_hook=decode_array).decode(ENCODER.encode(value))


def plain(value: Any) -> Any:
    """A value, comparable: arrays as lists with their kind, jobs and results as their fields."""
    match value:
        case np.ndarray():
            return value.dtype.name, value.tolist()
        case msgspec.Struct():
            return type(value), plain(asdict(value))
        case dict():
            return {key: plain(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("job", JOBS, ids=lambda job: type(job).__name__)
def test_a_job_is_frozen_and_serialisable(job: Job) -> None:
    assert plain(copied(job, Job)) == plain(job)
    for field in fields(job):
        with pytest.raises(AttributeError):
            setattr(job, field.name, None)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_result_is_serialisable(result: Result) -> None:
    assert plain(copied(result, Result)) == plain(result)


def test_decoded_samples_can_be_written() -> None:
    samples = copied(EncodeJob(0, SEGMENT, SAMPLES), Job).samples
    samples[0] = 0.5  # what computes may take them as they are: torch warns about memory that it must not write
    assert SAMPLES[0] == -1


@pytest.mark.parametrize(
    "array", [b"", [[640], b""], [[-1], b""], [[2, "2"], b""], ["x"], [[1], b"abcd", 1], [[1], "abcd"]]
)
def test_an_array_that_is_none_is_refused(array: object) -> None:
    broken = msgspec.to_builtins(EncodeJob(0, SEGMENT, SAMPLES), enc_hook=lambda _: array)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.Decoder(Job, dec_hook=decode_array).decode(msgspec.msgpack.encode(broken))


def test_ids_grow_in_the_order_in_which_jobs_are_made() -> None:
    first, second = EncodeJob(0, SEGMENT, SAMPLES), ExtendJob(PARTS, rebuild=False)
    assert first.id < second.id
