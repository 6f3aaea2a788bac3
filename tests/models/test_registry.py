"""Which names are found, what a folder must hold, and one sentence for each thing that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub import errors
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from af3stream.errors import ModelError
from af3stream.models import mini
from af3stream.models.card import Wording
from af3stream.models.registry import LICENCES, Checkpoint, check, resolve


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "mine"))


class Hub:
    """A hub of one model, and a record of what was asked of it."""

    def __init__(self, folder: Path | None = None, error: Exception | None = None) -> None:
        self.folder, self.error = folder, error
        self.asked: list[dict[str, object]] = []

    def snapshot_download(self, name: str, *, local_files_only: bool = False, **options: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError(name)
        self.asked.append(options)
        if self.error:
            raise self.error
        return str(self.folder)


def put(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Hub:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def refusal(kind: type[Exception]) -> Exception:
    return kind("refused", response=Mock(headers={}))


def test_a_folder_is_a_checkpoint_that_captions_itself(folder: Path) -> None:
    assert resolve(str(folder)) == Checkpoint("mine", folder, captioner=None, notes="forgotten", licence=None)


def test_a_card_says_what_the_configuration_cannot(folder: Path) -> None:
    (folder / "ears").mkdir()
    (folder / "ears" / "model.bin").touch()
    card = {
        "name": "owl",
        "captioner": "ears",
        "notes": "all",
        "frames": "uncaptioned",
        "licence": "MIT",
        "sounds": 0.8,
    }
    wording = {"system": "You are an owl.", "instruction": "Be brief."}
    (folder / "af3stream.json").write_text(json.dumps(card | wording))
    expected = Checkpoint("owl", folder / ".", folder / "ears", "all", "uncaptioned", Wording(**wording), "MIT", 0.8)
    assert resolve(str(folder)) == expected


def test_a_card_may_stand_beside_the_model(folder: Path) -> None:
    (folder.parent / "af3stream.json").write_text('{"name": "owl", "model": "mine"}')
    assert resolve(str(folder.parent)).folder == folder


def test_weights_may_be_sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert check(folder).folder == folder


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("config.json", "has no config.json, so it is no checkpoint in the transformers layout"),
        ("model.safetensors", "has no weights: model.safetensors is missing"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("processor_config.json", "has neither processor_config.json nor preprocessor_config.json"),
    ],
)
def test_a_folder_without_a_part_is_refused(folder: Path, missing: str, sentence: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=sentence):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", '{"model_type": "whisper"}', "holds a model of type 'whisper', and the service runs"),
        ("config.json", "[]", "config.json holds no JSON object"),
        ("config.json", "{", "config.json cannot be read"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "part-2"}}', "has no weights: part-2 is missing"),
        ("af3stream.json", '{"name": "owl", "notes": "some"}', r"af3stream.json cannot be used: .*notes"),
        ("af3stream.json", '{"name": "owl", "ears": "x"}', "af3stream.json cannot be used: .*ears"),
        ("af3stream.json", '{"name": "owl", "captioner": "ears"}', "ears has no model.bin"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(folder: Path, file: str, content: str, sentence: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(ModelError, match=sentence):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("minni", "there is no model 'minni': .*; did you mean mini"),
        ("./nowhere", r"there is no model './nowhere'.*; known: mini \(MIT .*audio-flamingo-3-hf \(NVIDIA OneWay"),
        ("", "there is no model ''"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known(name: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        resolve(name)


def test_mini_is_assembled_on_first_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "af3stream.json").write_text('{"name": "mini", "notes": "all"}')
    monkeypatch.setattr(mini, "assemble", lambda tell: folder)
    assert resolve("mini") == Checkpoint("mini", folder / ".", notes="all")


def test_a_hub_id_is_downloaded_without_the_adapter_after_its_class_is_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = put(monkeypatch, Hub(folder))
    said: list[str] = []
    found = resolve("nvidia/audio-flamingo-3-hf", said.append)
    assert found == Checkpoint("nvidia/audio-flamingo-3-hf", folder, licence=LICENCES["nvidia/audio-flamingo-3-hf"])
    assert "NVIDIA OneWay Noncommercial" in said[0]
    assert hub.asked[0]["allow_patterns"] == ["config.json"]
    assert hub.asked[1]["ignore_patterns"] == ["think/*"]


def test_a_model_of_another_class_is_refused_before_its_weights_are_downloaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "config.json").write_text('{"model_type": "musicflamingo"}')
    hub = put(monkeypatch, Hub(folder))
    with pytest.raises(ModelError, match="'musicflamingo'"):
        resolve("nvidia/music-flamingo-2601-hf")
    assert len(hub.asked) == 1


def test_a_complete_snapshot_on_this_disk_asks_no_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def local(name: str, *, local_files_only: bool) -> str:
        assert local_files_only
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", local)
    assert resolve("org/owl").folder == folder


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        (
            "nvidia/audio-flamingo-3-hf",
            LocalEntryNotFoundError("offline"),
            "is not on this disk, and the hub cannot be reached; its licence: NVIDIA OneWay Noncommercial",
        ),
        ("nvidia/audio-flamingo-3", OSError("no route"), "did you mean nvidia/audio-flamingo-3-hf .NVIDIA OneWay"),
        ("no/such", refusal(RepositoryNotFoundError), "the hub has no public model 'no/such'; known: mini"),
        ("nvidia/music-flamingo-2601-hf", refusal(GatedRepoError), "terms to be accepted on https.*licence: NVIDIA"),
        ("org/owl", refusal(errors.HfHubHTTPError), "the hub refused org/owl: refused"),
    ],
)
def test_a_hub_that_fails_is_told_in_a_sentence(
    name: str, error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, Hub(error=error))
    with pytest.raises(ModelError, match=sentence):
        resolve(name)
