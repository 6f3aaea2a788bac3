"""What others send parses, or is refused as documented; never anything else."""

from __future__ import annotations

import re
import subprocess
import sys

RUNS, SEED = 20_000, 1
TIMEOUT_S = 120


def test_every_input_parses_or_is_refused() -> None:
    command = [sys.executable, "-m", "tests.fuzz.decoders", f"-runs={RUNS}", f"-seed={SEED}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr
    assert f"Done {RUNS} runs" in ran.stderr
    covered = [int(found) for found in re.findall(r"cov: (\d+)", ran.stderr)]
    assert covered[-1] > covered[0] > 0, "nothing guides the fuzzer"
