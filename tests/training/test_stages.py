"""The stages on a tiny checkpoint: losses fall, runs go on where they stopped, and prompts are the service's own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from af3stream.config import ModelConfig
from af3stream.engine.af3.checkpoint import describe
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.contract import Text
from af3stream.engine.encoded_audio import EncodedAudio
from af3stream.models.card import Wording
from training import model as parts
from training import questions, run
from training.config import SMOKE, Listen, Read
from training.contexts import Context, Contexts
from training.listen import LISTENED, Listener
from training.questions import Asked
from training.read import READ, Reader
from training.units import Units

CONFIG = dataclasses.replace(
    SMOKE,
    listen=Listen(windows=24, minutes=5, steps=24, batch_frames=300, warmup_steps=2, validate_minutes=9),
    read=Read(
        minutes=5,
        steps=12,
        positions=300,
        text_positions=60,
        validated=2,
        warmup_steps=2,
        rate=3e-3,
        validate_minutes=9,
    ),
)


def test_a_projector_learns_to_listen_and_a_run_goes_on(model: tuple[Any, Any], run_folder: Path) -> None:
    before = {name: value.clone() for name, value in model[0].model.audio_tower.state_dict().items()}
    listener = Listener(*model, run_folder, CONFIG)
    listener.run()
    assert run.falling(run_folder, "listen")
    assert all(torch.equal(before[name], value) for name, value in model[0].model.audio_tower.state_dict().items())
    again = Listener(*model, run_folder, CONFIG)
    again.run()  # has nothing left to do
    assert again.seconds == listener.seconds
    left = load_file(run_folder / LISTENED)
    assert {name.partition(".")[0] for name in left} == {"audio_tower", "multi_modal_projector"}
    assert {value.dtype for value in left.values()} == {torch.float16}


def test_frames_are_as_long_as_token_embeddings(model: tuple[Any, Any], run_folder: Path) -> None:
    listener = Listener(*model, run_folder, CONFIG)
    listener.run()
    table = model[0].get_input_embeddings().weight
    states = torch.cat([window.states.float() for window in listener._windows])
    frames = model[0].model.multi_modal_projector(states).detach() - table.detach().mean(0)
    assert float(frames.norm(dim=1).mean() / (table - table.mean(0)).detach().norm(dim=1).mean()) == pytest.approx(
        1, abs=0.1
    )


def test_the_language_model_learns_to_read_by_adapters_alone(model: tuple[Any, Any], run_folder: Path) -> None:
    Reader(*model, run_folder, CONFIG).run()
    assert run.falling(run_folder, "read")
    lines = [json.loads(line) for line in (run_folder / "read.jsonl").read_text().splitlines()]
    assert all(line["kept"] >= 0 for line in lines if "kept" in line)
    assert "heard" in lines[-1]
    state = torch.load(run_folder / READ, weights_only=False)
    assert state["average"] and all(".lora_" in name for name in state["average"])


def test_without_adapters_nothing_moves(model: tuple[Any, Any], run_folder: Path) -> None:
    reader = Reader(*model, run_folder, CONFIG)
    drawn = Contexts(run_folder / "corpus", 1)
    assert float(reader._moved(drawn).detach()) == pytest.approx(0, abs=1e-6)  # adapters begin as nothing
    with torch.no_grad():
        for adapter in reader._adapters:
            adapter.lora_B.weight.fill_(0.05)
    assert float(reader._moved(drawn).detach()) > 1e-4


def test_a_prompt_in_training_is_the_services(
    model: tuple[Any, Any], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "NARROW", torch.float32)
    rng = np.random.default_rng(0)
    window = (0.1 * rng.standard_normal(50 * parts.FRAME)).astype(np.float32)
    asked = Asked("heard", "What do you hear?", "Rain.")
    engine = Af3Engine(describe(*model, ModelConfig()), "tiny", wording=Wording(instruction=questions.INSTRUCTION))
    audio = EncodedAudio()
    (sound,) = audio.encode(engine, [window])
    served = engine._asking
    body = torch.cat(
        [
            served.head(),
            *served.parts([Text("[0:02] It rains.\n"), sound], audio.embeddings),
            served.question(asked.question),
        ]
    )
    reader = Reader(*model, run_folder, CONFIG)
    prompt = reader._prompt(Context(("[0:02] It rains.\n", window), (asked,)), 0)
    found = prompt.embedded[: -len(prompt.answer)]
    assert found.shape == body.shape
    frames = slice(first := len(served.head()) + len(served.text("[0:02] It rains.\n")), first + sound.tokens)
    torch.testing.assert_close(found[: frames.start], body[: frames.start])
    torch.testing.assert_close(found[frames.stop :], body[frames.stop :])
    assert float((found[frames] - body[frames]).abs().mean()) < 0.02  # the service pads the end of a window


def test_the_export_is_the_encoder_it_began_from_the_projector_and_the_adapters(tmp_path: Path) -> None:
    start = {"audio_tower.layers.4.fc1.bias": torch.ones(2), "language_model.q.lora_A.weight": torch.zeros(1)}
    save_file(start, tmp_path / "start.safetensors")
    projector = {"multi_modal_projector.linear_1.bias": torch.full((2,), 2.0)}
    whole = {"audio_tower.conv1.bias": torch.zeros(2), "audio_tower.layers.4.fc1.bias": torch.ones(2)}
    save_file(whole | projector, tmp_path / LISTENED)
    torch.save({"average": {"language_model.q.lora_B.weight": torch.full((1,), 3.0)}}, tmp_path / READ)
    run.export(tmp_path, dataclasses.replace(CONFIG, start=str(tmp_path / "start.safetensors")))
    exported = load_file(tmp_path / "trained.safetensors")
    assert {name: value.tolist() for name, value in exported.items()} == {
        "audio_tower.layers.4.fc1.bias": [1, 1],
        "multi_modal_projector.linear_1.bias": [2, 2],
        "language_model.q.lora_B.weight": [3],
    }


def test_contexts_have_a_sound_or_silence_between_captions_or_alone(run_folder: Path) -> None:
    drawn = Contexts(run_folder / "corpus", 2)
    contexts = [drawn.heard() for _ in range(40)]
    windows = [part for context in contexts for part in context.parts if not isinstance(part, str)]
    assert len(windows) == 40 and all(len(window) % parts.FRAME == 0 for window in windows)
    assert {len(context.parts) for context in contexts} == {1, 3}
    assert all(asked.question and asked.answer for context in contexts for asked in context.asked)
    assert drawn.read()[0].count("[") >= 4


@pytest.mark.parametrize(
    ("name", "heard", "speaking", "playing"),
    [
        ("violin", "Music: a violin is playing.", "No", "Yes"),
        ("rain", "The sound of rain.", "No", "No"),
        ("alarm", "The sound of an alarm.", "No", "No"),
        ("speech", "Somebody is speaking.", "Yes", "No"),
        ("silence", "Nothing is heard, it is silent.", "No", "No"),
    ],
)
def test_a_sound_is_named_and_told_from_speech_and_music(name: str, heard: str, speaking: str, playing: str) -> None:
    from random import Random

    answers = {asked.kind: asked.answer for asked in questions.about_sound(Random(0), name)}
    assert answers["heard"] == heard
    assert answers["speaking"].startswith(speaking) and answers["playing"].startswith(playing)


def test_units_write_rare_words_in_pieces_and_lose_nothing(model: tuple[Any, Any]) -> None:
    tokenizer = model[1].tokenizer
    few, all_of_them = Units(tokenizer, 263), Units(tokenizer, 10**6)
    for text in ("Rain on the roof.", "What was said?"):
        assert tokenizer.decode(few.encode(text, first=True)) == text
        assert len(few.encode(text)) > len(all_of_them.encode(text))
        assert {*few.encode(text)} <= {*few.ids.tolist()}
    assert all_of_them.encode("Rain") == tokenizer(" Rain", add_special_tokens=False)["input_ids"]


def test_mels_are_the_processors_own(model: tuple[Any, Any]) -> None:
    extractor = model[1].feature_extractor
    samples = torch.randn(32_000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1
    stock = extractor([samples], sampling_rate=16_000, padding="max_length", max_length=32_000, return_tensors="pt")
    own = parts.LogMel(extractor.mel_filters)([samples])
    torch.testing.assert_close(own, stock["input_features"], rtol=1e-4, atol=1e-4)
