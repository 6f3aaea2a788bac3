"""The engine's tests on the newest transformers that pyproject.toml allows, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_engine_is_exact_on_the_newest_transformers(tmp_path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [requirement] = [line for line in extras["server"] if line.startswith("transformers")]
    install = ["pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), requirement]
    subprocess.run([sys.executable, "-m", *install], check=True)
    print(*(folder.name for folder in tmp_path.glob("transformers-*")))
    engine = ["pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    on_path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    subprocess.run([sys.executable, "-m", *engine], cwd=ROOT, env=os.environ | on_path, check=True)
