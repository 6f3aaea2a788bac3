"""A file is captioned and asked about without a server, and gives what a service gives that has caught up with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from af3stream import offline
from af3stream.audio.files import stream_blocks
from af3stream.config import Config, JournalConfig, ServerConfig, load
from af3stream.engine.captioning import NamedSound
from af3stream.engine.contract import AudioSegment
from af3stream.engine.factory import Loaded, load_engine
from af3stream.engine.jobs import AnswerJob
from af3stream.engine.scripted import ScriptedEngine, ScriptedSounds
from af3stream.errors import BadText, EngineError, QueryLimit
from af3stream.models.card import Frames, Notes
from af3stream.protocol import messages as m
from af3stream.protocol.features import FEATURES
from af3stream.server.service import Service
from af3stream.session import questions
from tests.audio.audio_scenes import scene_vad, sound
from tests.conftest import RECORDINGS
from tests.server.peers import connected
from tests.session.conversation import SENTENCE, SILENCE, VOICE
from tests.session.test_uncaptioned import Deaf

TALK = 20 * SENTENCE  # two windows and a part of a third
TWO_QUESTIONS = ("Who?", "And why?")
ALL = 1 << 20  # positions


@pytest.fixture(autouse=True)
def scenes() -> Iterator[None]:
    with scene_vad():
        yield


def scripted(notes: Notes = "all", frames: Frames = "all", **engine: Any) -> Loaded:
    return Loaded(ScriptedEngine(**engine), notes, None, frames)


def file(folder: Path, scene: str) -> Path:
    soundfile.write(folder / "talk.wav", sound(scene), 16_000)
    return folder / "talk.wav"


def config(**settings: Any) -> Config:
    return Config(questions=msgspec.structs.replace(Config().questions, **settings))


# ---- captions --------------------------------------------------------------------------------------------------------


def test_a_transcript_needs_no_window_of_the_model(tmp_path: Path) -> None:
    loaded = scripted()
    heard = offline.transcribe(file(tmp_path, TALK), Config(), loaded)
    assert len(heard.captions) == 20 and heard.seconds == 40
    assert loaded.engine.counters.caption_encodes == 20
    assert loaded.engine.counters.encoder_passes == loaded.engine.counters.prefill_tokens == 0


def test_each_utterance_of_a_file_is_captioned_once_however_its_blocks_lie_in_the_pauses(tmp_path: Path) -> None:
    short, loaded = "." * (len(VOICE) * 3 // 10), scripted()
    heard = offline.transcribe(file(tmp_path, (VOICE[len(short) :] + short) * 5 + SILENCE), Config(), loaded)
    assert len(heard.captions) == loaded.engine.counters.caption_encodes == 1


def test_a_transcript_has_sounds_in_their_place_in_the_mode_everything(tmp_path: Path) -> None:
    scene = file(tmp_path, SENTENCE + VOICE * 4 + SILENCE + SENTENCE)
    for mode, texts in (
        ("everything", ["word1 word2.", "[bell]", "word1 word2."]),
        ("speech", ["word1 word2.", "word1 word2."]),
    ):
        engine, told = Deaf(), list[m.Caption]()
        engine.sounds = ScriptedSounds(NamedSound("The sound of a bell.", 0.9))
        config = load(overrides=(f"audio.mode={mode}", "audio.window_min_s=1"))
        heard = offline.transcribe(scene, config, Loaded(engine, "all", None, "uncaptioned"), told.append)
        assert [caption.text for caption in told if caption.text] == texts
        assert tuple(told) == heard.captions and heard.text.split() == ["word1", "word2.", "word1", "word2."]


def test_a_transcript_says_who_speaks_if_asked(tmp_path: Path) -> None:
    talk = file(tmp_path, 3 * VOICE + SILENCE + 3 * VOICE.replace("#", "+") + SILENCE + 3 * VOICE)
    heard = offline.transcribe(talk, Config(), scripted(), speakers=True)
    assert [caption.speaker for caption in heard.captions] == [1, 2, 1]
    heard = offline.transcribe(talk, Config(), scripted())
    assert [caption.speaker for caption in heard.captions] == [None] * 3


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    reached: list[float] = []
    offline.transcribe(file(tmp_path, 3 * SENTENCE), Config(), scripted(), progress=reached.append)
    assert reached == [1, 2, 3, 4, 5, 6]


# ---- questions -------------------------------------------------------------------------------------------------------


def test_many_questions_cost_one_pass_over_the_file(tmp_path: Path) -> None:
    loaded = scripted()
    heard = offline.HeardFile(file(tmp_path, TALK), Config(), loaded)
    counters = loaded.engine.counters
    before = counters.sounds_encoded, counters.caption_encodes, counters.prefill_tokens
    for number in range(10):
        heard.ask(f"Question {number}?")
    assert before == (len(heard.windows), 20, 2 * len(heard.windows))  # a window and its captions are one part each
    assert (counters.sounds_encoded, counters.caption_encodes, counters.prefill_tokens) == before


def test_pieces_come_before_the_answer(tmp_path: Path) -> None:
    heard, pieces = offline.HeardFile(file(tmp_path, SENTENCE), Config(), scripted()), list[str]()
    answer = heard.ask("Who?", piece=pieces.append)
    assert len(pieces) > 1 and "".join(pieces) == answer.text


def test_a_follow_up_has_the_question_before_it_as_a_turn(tmp_path: Path) -> None:
    heard = offline.HeardFile(file(tmp_path, SENTENCE), Config(), scripted())
    first = heard.ask("Who?", follows_up=True)  # nothing stands before it
    second = heard.ask("And why?", follows_up=True)
    assert second.text == f"{first.text.replace('Who?', 'And why?')} | (Who? {first.text})"
    assert "Who?" not in heard.ask("Where?").text


def test_by_ear_no_caption_is_made_or_read_and_every_window_is_heard(tmp_path: Path) -> None:
    loaded = scripted(frames="uncaptioned")
    heard = offline.HeardFile(file(tmp_path, TALK), Config(), loaded, by_ear=True)
    answer = heard.ask("Who?")
    assert loaded.engine.counters.caption_encodes == 0
    assert loaded.engine.counters.sounds_encoded == len(heard.windows) == answer.windows
    assert "word" not in answer.text and answer.captions_from is None


def test_a_scaled_file_is_heard_at_full_range(tmp_path: Path) -> None:
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, sound(SENTENCE) / 10, 16_000)  # the detector of the scenes hears nothing below 0.2
    assert offline.HeardFile(quiet, Config(), scripted()).windows == []
    assert len(offline.HeardFile(quiet, Config(), scripted(), normalised=True).windows) == 1


def test_a_file_without_speech_is_answered_without_the_model(tmp_path: Path) -> None:
    heard = offline.HeardFile(file(tmp_path, 5 * SILENCE), Config(), scripted())
    answer = heard.ask("Who?")
    assert answer.text == questions.NOTHING_HEARD
    assert heard.left_out_until(answer) is None and heard.captions_alone_until(answer) is None


@pytest.mark.parametrize(("text", "refusal"), [("\x00", BadText), ("x" * 2_001, QueryLimit)])
def test_what_cannot_be_asked_is_refused_before_a_file_is_heard(text: str, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        offline.check_question(text, Config())


def test_an_engine_that_fails_ends_the_file_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = scripted()
    monkeypatch.setattr(loaded.engine.captioner, "caption", lambda *_, **__: 1 / 0)
    with pytest.raises(EngineError, match=r"utterance 0 could not be captioned: .*ZeroDivisionError"):
        offline.transcribe(file(tmp_path, SENTENCE), Config(), loaded)


# ---- files that are longer than the context window -------------------------------------------------------------------

LONG = 120 * SENTENCE


def test_captions_stand_for_the_windows_of_a_long_file_that_do_not_fit(tmp_path: Path) -> None:
    heard = offline.HeardFile(file(tmp_path, LONG), Config(), scripted(windows=3))
    answer = heard.ask("Who?")
    assert answer.captions_from == heard.captions[0].start
    assert heard.captions_alone_until(answer) == answer.start > heard.windows[0].end
    assert heard.left_out_until(answer) is None


def test_captions_that_do_not_fit_either_are_named_as_left_out(tmp_path: Path) -> None:
    heard = offline.HeardFile(file(tmp_path, LONG), config(notes_max_tokens=30), scripted(windows=3))
    answer = heard.ask("Who?")
    assert answer.captions_from is not None
    assert 0 < answer.captions_from < answer.start
    assert heard.captions_alone_until(answer) == answer.start
    assert heard.left_out_until(answer) == answer.captions_from


def test_by_ear_the_oldest_windows_of_a_long_file_are_left_out(tmp_path: Path) -> None:
    heard = offline.HeardFile(file(tmp_path, LONG), Config(), scripted(windows=3), by_ear=True)
    answer = heard.ask("Who?")
    assert heard.left_out_until(answer) == answer.start > heard.windows[0].end
    assert heard.captions_alone_until(answer) is None


def test_all_is_read_whatever_a_question_of_the_service_may_read(tmp_path: Path) -> None:
    """Nobody waits for a file, so `questions.read_tokens` does not bound what is read, not even after an eviction."""
    heard = offline.HeardFile(file(tmp_path, TALK), config(read_tokens=1), scripted())
    answer = heard.ask("Who?")
    assert answer.windows == len(heard.windows) == 3
    heard._session._worker.evict_all()  # as when the device runs out of memory
    assert heard.ask("Who?").text == answer.text


# ---- the same as the service -----------------------------------------------------------------------------------------


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[AnswerJob]:
    """Every question that is run, and what it reads."""
    jobs: list[AnswerJob] = []

    def noting(*arguments: Any) -> AnswerJob:
        jobs.append(AnswerJob(*arguments))
        return jobs[-1]

    monkeypatch.setattr(questions, "AnswerJob", noting)
    return jobs


def shown(job: AnswerJob) -> list[object]:
    """What a question reads, comparable between two runs."""
    samples = {segment: samples.tolist() for segment, samples in job.samples.items()}
    return [*job.parts, samples, *job.earlier, job.question, job.max_tokens]


async def over_the_socket(path: Path, settings: Config, loaded: Loaded) -> list[m.Answer]:
    """Two questions, the second following up the first, about a file that was streamed, once all of it is processed."""
    audio, blocks = stream_blocks(path, 100)
    sent = 0
    async with Service(settings, loaded).listening() as service, connected(service) as peer:
        await peer.tell(m.Start(audio.format, audio.rate, audio.channels, features=FEATURES))
        await peer.until(m.Ready)
        for block in blocks:
            await peer.tell(m.Audio(sent, block))
            sent += audio.frames(block)
        await peer.tell(m.Flush("end"))
        while (await peer.until(m.Ack)).processed < sent:
            pass
        await peer.tell(m.Ask("a", TWO_QUESTIONS[0]), m.Ask("b", TWO_QUESTIONS[1], after="a"))
        return [await peer.until(m.Answer), await peer.until(m.Answer)]


def assert_the_same(path: Path, settings: Config, loaded: Loaded, prompts: list[AnswerJob]) -> None:
    hosted = msgspec.structs.replace(
        settings,
        server=ServerConfig(port=0),
        journal=JournalConfig(folder=""),
        questions=msgspec.structs.replace(settings.questions, read_tokens=ALL),
    )
    told = asyncio.run(over_the_socket(path, hosted, loaded))
    heard = offline.HeardFile(path, settings, loaded)
    alone = [heard.ask(TWO_QUESTIONS[0]), heard.ask(TWO_QUESTIONS[1], follows_up=True)]
    assert [shown(job) for job in prompts[:2]] == [shown(job) for job in prompts[2:]]
    assert [_bare(answer) for answer in alone] == [_bare(answer) for answer in told]
    assert alone[1].text != alone[0].text != ""


def _bare(answer: m.Answer) -> m.Answer:
    return msgspec.structs.replace(answer, id="", after=None, ttft_ms=None)


@pytest.mark.parametrize("frames", ["all", "uncaptioned"])
@pytest.mark.parametrize("notes", ["off", "forgotten", "all"])
def test_a_file_has_the_prompts_and_answers_of_the_socket(
    tmp_path: Path, notes: Notes, frames: Frames, prompts: list[AnswerJob]
) -> None:
    assert_the_same(file(tmp_path, TALK + 12 * SILENCE + VOICE), Config(), scripted(notes, frames), prompts)


def test_a_file_has_the_answers_of_the_socket_from_a_checkpoint(
    tmp_path: Path, tiny_folder: Path, prompts: list[AnswerJob]
) -> None:
    settings = load(overrides=(f"model.name={tiny_folder}", "questions.max_tokens=12", "captions.max_tokens=12"))
    loaded = load_engine(settings)
    loaded = Loaded(loaded.engine, "all", None)
    path = tmp_path / "speech.wav"
    samples = [soundfile.read(each)[0] for each in sorted(RECORDINGS.glob("*.wav"))]
    soundfile.write(path, np.concatenate([*samples, np.zeros(20_000), *samples]), 16_000)
    assert_the_same(path, settings, loaded, prompts)
    assert sum(isinstance(part, AudioSegment) for part in prompts[0].parts) == 3
