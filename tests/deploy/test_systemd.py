"""The systemd unit: hardened, and with time to drain."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from af3stream.config import ServerConfig

UNIT = Path(__file__).parents[2] / "deploy/systemd/af3stream.service"
EXPOSURE = 25  # tenths, of `systemd-analyze security`: 0 is the safest, 100 the most exposed


def settings() -> dict[str, list[str]]:
    """The values of each key."""
    found = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def test_the_service_runs_without_privileges_and_writes_only_its_own_folders() -> None:
    unit = settings()
    assert unit["DynamicUser"] == unit["NoNewPrivileges"] == ["yes"] and unit["ProtectSystem"] == ["strict"]
    assert unit["CapabilityBoundingSet"] == [""] and unit["StateDirectory"] == unit["CacheDirectory"] == ["af3stream"]


def test_tokens_are_a_credential_and_a_stop_drains() -> None:
    unit = settings()
    assert unit["LoadCredential"] == ["tokens:/etc/af3stream/tokens"]
    assert "AF3STREAM_TOKEN_FILE=%d/tokens" in unit["Environment"]
    assert float(unit["TimeoutStopSec"][0]) > ServerConfig().drain_s + 20


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/af3stream/bin/af3stream", shutil.which("true") or ""))
    for command in (["verify"], ["security", "--offline=true", f"--threshold={EXPOSURE}"]):
        done = subprocess.run(["systemd-analyze", *command, unit], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
