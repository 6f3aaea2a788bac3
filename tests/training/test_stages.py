"""The stages on a tiny checkpoint: losses fall, runs go on where they stopped, and prompts are the service's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from af3stream.engine.af3.prompt import encode_text, read_template
from af3stream.engine.whisper import Heard
from training import captioned, corpus, run
from training import model as parts
from training.config import SMOKE, Listen, Read
from training.contexts import Context, Contexts, Stretch, hasty, lay_out
from training.corpus import Clip
from training.listen import Listener
from training.questions import Asked
from training.read import Reader
from training.units import Units

CONFIG = dataclasses.replace(
    SMOKE,
    listen=Listen(
        minutes=5, steps=24, batch_s=10, bootstrap_clips=10_000, frozen_layers=0, warmup_steps=2, validate_minutes=9
    ),
    read=Read(minutes=5, steps=18, positions=200, validated=2, warmup_steps=2, rate=3e-3, validate_minutes=9),
)
ASKED = (Asked("mentioned", "Is rain mentioned?", "Yes."), Asked("first", "What was said first?", "Rain."))


def test_ears_learn_to_listen_and_go_on(model: tuple[Any, Any], run_folder: Path) -> None:
    listener = Listener(*model, run_folder, CONFIG, afresh=True)
    listener.run()
    assert run.falling(run_folder, "listen")
    again = Listener(*model, run_folder, CONFIG, afresh=True)
    again.run()  # has nothing left to do
    assert again.seconds == listener.seconds
    assert (run_folder / "listened.safetensors").exists()


def test_the_language_model_learns_to_read(model: tuple[Any, Any], run_folder: Path) -> None:
    parts.adapt(model[0].model.language_model)
    Reader(*model, run_folder, CONFIG).run()
    assert run.falling(run_folder, "read")
    lines = [json.loads(line) for line in (run_folder / "read.jsonl").read_text().splitlines()]
    assert "validation" in lines[-1]


def test_the_upper_ears_learn_on_from_what_the_language_model_makes_of_them(
    model: tuple[Any, Any], run_folder: Path
) -> None:
    listened = run_folder / parts.LISTENED
    parts.save(model[0], listened, frozen_layers=0)
    parts.adapt(model[0].model.language_model)
    Reader(*model, run_folder, CONFIG).run()
    run.export(run_folder, CONFIG)
    heard, read = load_file(listened), load_file(run_folder / "trained.safetensors")
    changed = {name for name in heard if not torch.equal(heard[name], read[name])}
    assert changed
    assert all(name.startswith(("multi_modal_projector.", "audio_tower.layer_norm.")) for name in changed)
    parts.save(model[0], listened, frozen_layers=0)  # the alignment stage went on: these ears are not what was heard
    newer = load_file(listened)
    run.export(run_folder, CONFIG)
    read = load_file(run_folder / "trained.safetensors")
    assert all(torch.equal(newer[name], read[name]) for name in newer)
    assert any(".lora_" in name for name in read)


def test_half_of_what_a_run_starts_from_stays_in_what_it_exports(tmp_path: Path) -> None:
    listened, start = tmp_path / parts.LISTENED, tmp_path / "start.safetensors"
    save_file({"layer": torch.ones(2), "new": torch.ones(2)}, listened)
    torch.save(
        {"listened": parts.digest(listened), "average": {"q.lora_A": torch.full((2,), 4.0)}}, tmp_path / "read.pt"
    )
    save_file({"layer": torch.zeros(2), "q.lora_A": torch.full((2,), 2.0)}, start)
    run.export(tmp_path, dataclasses.replace(CONFIG, start=str(start)))
    exported = load_file(tmp_path / "trained.safetensors")
    assert {name: value.tolist() for name, value in exported.items()} == {
        "layer": [0.5, 0.5],
        "new": [1, 1],
        "q.lora_A": [3, 3],
    }


@pytest.mark.parametrize("notes", ["", "Rain on the roof."])
def test_a_branch_is_the_prompt_that_the_service_gives(model: tuple[Any, Any], notes: str) -> None:
    """Its answer is written in the tokens of the notes, or in those that frames are."""
    template, tokenizer = read_template(model[1]), model[1].tokenizer
    units = Units(tokenizer, CONFIG.listen.spelled)
    window = np.zeros(5 * parts.FRAME, np.float32)
    context = Context((Stretch(window, notes=notes), Stretch(None), Stretch(window)), ASKED)
    layout = lay_out(context, template, tokenizer, units, tokenizer.eos_token_id)
    note = encode_text(tokenizer, f"{notes}\n") if notes else []
    for number, asked in enumerate(ASKED, start=1):
        seen = (layout.branches == 0) | (layout.branches == number)
        question = [*encode_text(tokenizer, asked.question), *template.tail]
        own = encode_text(tokenizer, asked.answer) if notes else units.encode(asked.answer, first=True)
        answer = [*own, tokenizer.eos_token_id]
        assert layout.ids[seen].tolist() == [*template.head, *[-1] * 5, *note, *[-1] * 5, *question, *answer]
        assert layout.positions[seen].tolist() == list(range(int(seen.sum())))
        assert int((layout.answers & (layout.branches == number)).sum()) == len(answer)


def test_branches_do_not_see_one_another(model: tuple[Any, Any]) -> None:
    language, tokenizer = model[0].model.language_model, model[1].tokenizer
    context = Context((Stretch(None, notes="Rain."), Stretch(None, skipped=40, notes="Sun.")), ASKED)
    layout = lay_out(context, read_template(model[1]), tokenizer, Units(tokenizer, 280), tokenizer.eos_token_id)
    with torch.no_grad():
        together = language(
            input_ids=layout.ids[None],
            position_ids=layout.positions[None],
            attention_mask=layout.mask().float(),
            use_cache=False,
        ).last_hidden_state[0]
        for number in (1, 2):
            seen = (layout.branches == 0) | (layout.branches == number)
            alone = language(
                input_ids=layout.ids[seen][None],
                position_ids=layout.positions[seen][None],
                attention_mask=torch.full((int(seen.sum()),) * 2, -torch.inf).triu(1)[None, None],
                use_cache=False,
            ).last_hidden_state[0]
            torch.testing.assert_close(together[seen], alone, rtol=1e-4, atol=1e-4)


def test_new_layers_change_nothing_until_they_are_trained(model: tuple[Any, Any]) -> None:
    ears, mels = parts.Ears(model[0]), torch.randn(1, 80, 400, generator=torch.Generator().manual_seed(0))
    before = ears(mels)
    parts.deepen(model[0].model.audio_tower, 4, public=2)
    assert len(model[0].model.audio_tower.layers) == 4
    torch.testing.assert_close(ears(mels), before)


def test_what_is_frozen_is_not_in_the_file(model: tuple[Any, Any], tmp_path: Path) -> None:
    parts.save(model[0], tmp_path / "trained.safetensors", frozen_layers=1)
    kept = load_file(tmp_path / "trained.safetensors")
    own = {f"audio_tower.{name}" for name in model[0].model.audio_tower.state_dict()}
    left_out = {name for name in own if name.split(".")[1].startswith(("conv", "embed")) or ".layers.0." in name}
    assert left_out
    assert own - kept.keys() == left_out
    assert {value.dtype for value in kept.values()} == {torch.float16}


def test_attention_for_training_is_attention_within_each_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROWS", 3)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 7, 16, generator=generator) for heads in (6, 2, 2))
    masks = [torch.full((n, n), -torch.inf).triu(1)[None, None] for n in (4, 3)]
    mixed, _ = parts.attend(None, query, key, value, masks[0], masks=masks)
    whole = torch.full((7, 7), -torch.inf)
    whole[:4, :4], whole[4:, 4:] = masks[0], masks[1]
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1), whole[None, None]
    )
    torch.testing.assert_close(mixed, expected.transpose(1, 2))


def test_contexts_of_a_step_do_not_see_one_another(model: tuple[Any, Any], run_folder: Path) -> None:
    """Their loss is the mean of each one's own, weighed by its answers."""
    parts.adapt(model[0].model.language_model)
    reader = Reader(*model, run_folder, CONFIG)
    window = np.zeros(5 * parts.FRAME, np.float32)
    contexts = [
        Context((Stretch(window, notes="Rain on the roof."),), ASKED),
        Context((Stretch(window), Stretch(None, skipped=9)), ASKED[:1]),
    ]
    together, found = reader._losses(contexts)
    apart = [reader._losses([context]) for context in contexts]
    weights = torch.stack([layout.weights().sum() for layout, _ in found])
    mean = (torch.stack([loss for loss, _ in apart]) * weights).sum() / weights.sum()
    torch.testing.assert_close(together, mean, atol=0.02, rtol=0)
    assert [len(right) for _, right in found] == [len(right) for _, ((_, right),) in apart]


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


def test_notes_are_wrong_as_a_captioner_is_and_questions_are_about_what_was_said(tmp_path: Path) -> None:
    """What is heard too is answered as it was said, and what is only read as it was written."""
    people = [
        f"{first}{last}" for first in ("rich", "john", "gil", "watt", "sand") for last in ("erson", "ford", "man")
    ]
    pairs = {f"Then {who} came along.": f"Then {who[1:]} came a long." for who in people}
    corpus.save(tmp_path / "0000.npz", [Clip(np.ones(16_000, np.int16), said, "espeak Lee") for said in pairs])
    contexts = Contexts(tmp_path, 3, captioned=list(pairs.items()))
    read = [contexts.read() for _ in range(60)]
    wrong = [c for c in read if "came a long" in " ".join(stretch.notes for stretch in c.stretches)]
    assert 10 < len(wrong) < 50
    unheard = [asked for context in wrong if not context.windows for asked in context.asked]
    assert {*pairs.values()} & {a.answer for a in unheard}
    assert not {*pairs} & {a.answer for a in unheard}
    assert any(who in a.question and a.answer == pairs[f"Then {who} came along."] for a in unheard for who in people)
    assert any(who in a.question and a.answer == "Yes." for a in unheard for who in people)
    audible = [context for context in wrong if context.windows]
    assert any(a.answer in pairs for context in audible for a in context.asked)


def test_notes_miss_capitals_and_stops_as_whisper_does() -> None:
    written = {hasty(Random(seed), "The roof of Anna leaks.") for seed in range(60)}
    assert written == {"The roof of Anna leaks.", "the roof of Anna leaks.", "The roof of Anna leaks"}
    for kept in ("Anna here. It rains.", "I know.", "USA today."):
        assert {hasty(Random(seed), kept) for seed in range(60)} == {kept, kept.rstrip(".")}


def test_what_whisper_writes_is_kept_where_it_can_be_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf:
        def __init__(self, threads: int) -> None: ...

        def write(self, recordings: Sequence[Any]) -> list[Heard]:
            heard = ("rain on the roof", "Rain on a roof.", "No words of it.", "a b c a b c a b c d", "Rain on the...")
            scores = (-0.1, -0.4, -0.5, -0.2, -2.0)
            return [Heard(text, score, 0.0, 9) for text, score in zip(heard, scores, strict=True)]

    monkeypatch.setattr(captioned, "Writer", Deaf)
    clips = [Clip(np.ones(800, np.int16), "Rain on the roof.", "espeak Lee") for _ in range(5)]
    corpus.save(tmp_path / "0000.npz", [*clips, Clip(np.ones(800, np.int16), "It is easy.", "people a")])
    captioned.build(tmp_path, CONFIG)
    said = "Rain on the roof."
    assert captioned.load(tmp_path) == [(said, "rain on the roof"), (said, "Rain on a roof.")]
    assert captioned.load(tmp_path / "other") == []
