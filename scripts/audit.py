"""Audit the dependencies: the environment is what requirements.lock says, and none of it has a known vulnerability.

Fails where they differ, and for a vulnerability. Without a way to the advisory service it says so, and does not fail.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parent.parent / "requirements.lock"
OURS = {"af3stream", "pip"}  # the package itself, and what installs the rest
TIMEOUT_S = 300


def main() -> None:
    """Say what is found, line by line; exit with 1 where something is wrong."""
    locked = read_lock(LOCK.read_text())
    installed = {normal(found.name): found.version for found in distributions() if normal(found.name) not in OURS}
    wrong = differences(locked, installed)
    for line in wrong or [f"{len(locked)} packages are installed as locked"]:
        print(line)
    known = vulnerabilities()
    print(*known, sep="\n")
    sys.exit(bool(wrong) or any(line.startswith("vulnerable") for line in known))


def read_lock(text: str) -> dict[str, str]:
    """Versions by name; every line pins one."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pins = [line.partition("==") for line in lines]
    assert all(equals for _, equals, _ in pins), "a line of the lock pins nothing"
    return {normal(name): version for name, _, version in pins}


def normal(name: str) -> str:
    """A package's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def differences(locked: dict[str, str], installed: dict[str, str]) -> list[str]:
    """Where the lock and the environment do not agree; builds of one version (``2.13.0+cpu``) are alike."""
    found = []
    for name in sorted(locked.keys() | installed.keys()):
        pinned, here = locked.get(name, "nothing"), installed.get(name, "nothing")
        if pinned != here.partition("+")[0]:
            found.append(f"differs: {name}: the lock says {pinned}, installed is {here}")
    return found


def vulnerabilities() -> list[str]:
    """What the advisory service knows of the locked packages, or that it cannot be asked."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(LOCK), "--disable-pip", "--no-deps", "-f", "json"]
    ran = subprocess.run(
        [*command, "--progress-spinner", "off"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    try:
        packages = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = ran.stderr.strip().splitlines()[-1:] or ["no answer"]
        return [f"not audited: the advisory service cannot be asked ({reason[0]})"]
    return verdict(packages)


def verdict(packages: list[dict[str, Any]]) -> list[str]:
    """What an audit says, in lines."""
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return ["not audited: the advisory service knows none of the packages, or cannot be reached"]
    found = [
        f"vulnerable: {package['name']} {package['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions'])}"
        for package in packages
        for flaw in package.get("vulns", [])
    ]
    unknown = [f"not audited: {name} is unknown to the advisory service" for name in skipped]
    return [*found, *unknown, f"{len(packages) - len(skipped)} packages audited, {len(found)} vulnerabilities known"]


if __name__ == "__main__":
    main()
