"""`.ci/run` and the Makefile: what runs, in which order, and what fails."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import GROUPS

ROOT = Path(__file__).parent.parent

MAKE = """#!/bin/sh
echo "make $1" >>"$CALLS"
[ "$1" = test ] && echo "$SAYS"
[ "$1" != "$FAILS" ]
"""
APT = """#!/bin/sh
echo "$(basename "$0") $1" >>"$CALLS"
"""


def run_ci(folder: Path, *, says: str = "3 passed in 1 s", fails: str = "") -> tuple[int, str, list[str]]:
    """`.ci/run` with a `make` and an `apt-get` that only note their calls: exit code, output, calls."""
    for name, script in (("make", MAKE), ("apt-get", APT), ("sudo", APT)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    stubbed = {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(calls), "SAYS": says, "FAILS": fails}
    done = subprocess.run([ROOT / ".ci/run"], env=os.environ | stubbed, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, calls.read_text().splitlines()


def test_ci_runs_the_tests_before_anything_that_installs(tmp_path: Path) -> None:
    code, _, calls = run_ci(tmp_path)
    assert (code, calls) == (0, ["make test", "make audit"])


def test_ci_says_which_debian_packages_were_there_before(tmp_path: Path) -> None:
    _, said, _ = run_ci(tmp_path)
    before = said[: said.index("3 passed")]
    for script in ("scripts/system-packages.sh", "training/packages.sh"):
        assert f"installed before, of {script}: " in before


def test_ci_reads_the_summary_of_parallel_workers(tmp_path: Path) -> None:
    summary = "=========== 2960 passed, 10 skipped, 2 deselected in 480.12s (0:08:00) ==========="
    assert run_ci(tmp_path, says=summary)[0] == 0


@pytest.mark.parametrize(
    ("says", "fails"),
    [("no tests ran in 0.01 s", ""), ("7 skipped in 1 s", ""), ("3 passed", "test"), ("3 passed", "audit")],
)
def test_ci_fails_if_no_test_ran_or_a_part_fails(tmp_path: Path, says: str, fails: str) -> None:
    assert run_ci(tmp_path, says=says, fails=fails)[0] != 0


def test_package_scripts_print_what_is_installed_and_install_nothing(tmp_path: Path) -> None:
    (tmp_path / "dpkg-query").write_text("#!/bin/sh\n[ $4 = chromium ] && echo install ok installed\n")
    (tmp_path / "dpkg-query").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def installed(script: str) -> str:
        command = [ROOT / script, "--installed"]
        return subprocess.run(command, env=os.environ | path, capture_output=True, text=True, check=True).stdout

    assert installed("scripts/system-packages.sh") == "chromium\n"
    assert installed("training/packages.sh") == "none\n"


def dry_run(target: str) -> str:
    """What `make TARGET` would run."""
    return subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_test_needs_nothing_of_training_and_prints_durations() -> None:
    assert "--durations" in dry_run("test")
    assert "training/packages.sh" not in dry_run("test")
    for part in ("-m training", "pytest -m long", "bench.chaos", "tests.fuzz.decoders"):
        assert part in dry_run("test-long")


def test_make_test_runs_two_workers_by_groups_in_the_order_that_conftest_gives() -> None:
    assert "pytest -n 2 --dist loadscope --no-loadscope-reorder" in dry_run("test")


def test_folders_and_files_of_the_groups_exist() -> None:
    tests, places = ROOT / "tests", {place for group in GROUPS.values() for place in group}
    assert {name for name in places if not [*tests.glob(name), *tests.glob(f"*/{name}")]} == set()


def test_make_check_formats_lints_and_types() -> None:
    for part in ("ruff format --check", "ruff check", "mypy"):
        assert part in dry_run("check") and part in dry_run("test")


def test_make_test_fast_leaves_out_what_is_slow_or_needs_a_device_and_installs_no_system_package() -> None:
    commands = dry_run("test-fast")
    assert "--durations" in commands and "system-packages.sh" not in commands
    for marker in ("mini", "browser", "desktop", "microphone", "slow", "long"):
        assert re.search(rf"-m .not \(.*\b{marker}\b", commands)


def test_make_help_names_every_tier() -> None:
    told = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("check", "test-fast", "test", "test-long", "coverage"):
        assert f"make {target} " in told


def test_missing_packages_are_named_before_they_are_installed(tmp_path: Path) -> None:
    (tmp_path / "dpkg-query").write_text("#!/bin/sh\n[ $4 = chromium ] && echo install ok installed\n")
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "sudo").write_text('#!/bin/sh\necho sudo "$@"\n')
    (tmp_path / "apt-get").write_text("#!/bin/sh\n")
    for name in ("dpkg-query", "id", "sudo", "apt-get"):
        (tmp_path / name).chmod(0o755)
    command = [ROOT / "scripts/debian-packages.sh", "make test", "chromium", "ffmpeg"]
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run(command, env=os.environ | path, capture_output=True, text=True, check=True).stdout
    first, update, *_ = said.splitlines()
    assert first == "make test needs Debian packages that are missing. Installing them with sudo: ffmpeg"
    assert update == "sudo apt-get update -qq"
