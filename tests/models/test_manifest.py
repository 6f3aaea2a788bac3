"""A folder is complete or absent, whatever happens while it is built."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from af3stream.errors import ModelError
from af3stream.models import manifest
from af3stream.models.manifest import build_once, describe, problem, require

BUILDER = """
import sys, time
from pathlib import Path
from af3stream.models.manifest import build_once

def build(folder):
    with (Path(sys.argv[1]) / "builds").open("a") as log:
        log.write("build\\n")
    (folder / "first").write_text("1")
    print("half", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "second").write_text("2")

build_once(Path(sys.argv[1]) / "target", build, print)
"""


def fill(folder: Path) -> None:
    (folder / "part").mkdir()
    (folder / "part" / "weights").write_bytes(b"1234")
    (folder / "card").write_text("card")


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def builds(folder: Path) -> int:
    return len((folder / "builds").read_text().splitlines())


def test_a_built_folder_is_described_by_its_manifest(tmp_path: Path) -> None:
    target = build_once(tmp_path / "cache" / "target", fill, print)
    assert problem(target, hashes=True) is None
    assert [(file.path, file.size) for file in describe(target)] == [("card", 4), ("part/weights", 4)]
    assert not target.with_name("target.partial").exists()


def test_a_complete_folder_is_not_built_again(tmp_path: Path) -> None:
    build_once(tmp_path / "target", fill, print)
    build_once(tmp_path / "target", lambda _: pytest.fail("built again"), print)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda folder: (folder / "card").unlink(), "card is missing"),
        (lambda folder: (folder / "part" / "weights").write_bytes(b"12"), "part/weights has 2 bytes instead of 4"),
        (lambda folder: (folder / manifest.MANIFEST).unlink(), "it has no manifest"),
        (lambda folder: (folder / manifest.MANIFEST).write_text("[{"), "its manifest cannot be read"),
    ],
)
def test_a_damaged_folder_is_named_and_built_anew(tmp_path: Path, damage, found: str) -> None:
    target = build_once(tmp_path / "target", fill, print)
    damage(target)
    assert problem(target) == found
    build_once(target, fill, print)
    assert problem(target, hashes=True) is None


def test_changed_content_of_the_same_size_is_found_by_its_hash(tmp_path: Path) -> None:
    target = build_once(tmp_path / "target", fill, print)
    (target / "card").write_text("dark")
    assert problem(target) is None
    assert problem(target, hashes=True) == "card has the wrong content"
    build_once(target, fill, print, hashes=True)
    assert problem(target, hashes=True) is None


def test_a_build_that_fails_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise ModelError("the second part is not the pinned one")

    with pytest.raises(ModelError, match="not the pinned one"):
        build_once(tmp_path / "target", fail, print)
    assert not (tmp_path / "target").exists()
    build_once(tmp_path / "target", fill, print)
    assert problem(tmp_path / "target", hashes=True) is None


def test_a_process_killed_in_the_middle_does_not_spoil_the_next(tmp_path: Path) -> None:
    with start(tmp_path, 60) as first:
        assert first.stdout
        assert first.stdout.readline() == "half\n"
        first.send_signal(signal.SIGKILL)
    assert not (tmp_path / "target").exists()
    with start(tmp_path, 0) as second:
        second.communicate()
    assert second.returncode == 0
    assert (tmp_path / "target" / "second").read_text() == "2"
    assert builds(tmp_path) == 2


def test_two_processes_build_once(tmp_path: Path) -> None:
    with start(tmp_path, 1) as first:
        assert first.stdout
        assert first.stdout.readline() == "half\n"
        with start(tmp_path, 1) as second:
            said = second.communicate()[0]
    assert (first.returncode, second.returncode) == (0, 0)
    assert said == "another process is writing target; waiting for it\n"
    assert builds(tmp_path) == 1


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match=r"cannot write .*target"):
        build_once(tmp_path / "file" / "target", fill, print)


def test_a_wrong_hash_is_refused_with_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"not it")
    require(path, manifest.sha256(path))
    with pytest.raises(ModelError, match=r"model\.bin has the wrong content: found sha256 \w{64}, expected 00"):
        require(path, "00")
