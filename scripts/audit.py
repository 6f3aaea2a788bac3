"""Audit the dependencies: the environment must match requirements.lock, which must have no known vulnerability.

The exit code is 1 otherwise. If the advisory service cannot be reached, the script says so and does not fail.
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
    """Print the findings, and exit with 1 if there is a problem."""
    locked = read_lock(LOCK.read_text())
    installed = {normal(found.name): found.version for found in distributions() if normal(found.name) not in OURS}
    wrong = differences(locked, installed)
    for line in wrong or [f"{len(locked)} packages are installed as locked"]:
        print(line)
    known = vulnerabilities()
    print(*known, sep="\n")
    sys.exit(bool(wrong) or any(line.startswith("vulnerable") for line in known))


def read_lock(text: str) -> dict[str, str]:
    """Return the versions by name. Each line must pin one package."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pins = [line.partition("==") for line in lines]
    assert all(equals for _, equals, _ in pins), "a line of the lock pins nothing"
    return {normal(name): version for name, _, version in pins}


def normal(name: str) -> str:
    """Normalise the name of a package as indexes do."""
    return re.sub(r"[-_.]+", "-", name).lower()


def differences(locked: dict[str, str], installed: dict[str, str]) -> list[str]:
    """Return the differences between lock and environment. Build tags such as ``+cpu`` are ignored."""
    found = []
    for name in sorted(locked.keys() | installed.keys()):
        pinned, here = locked.get(name, "nothing"), installed.get(name, "nothing")
        if pinned != here.partition("+")[0]:
            found.append(f"differs: {name}: the lock says {pinned}, installed is {here}")
    return found


def vulnerabilities() -> list[str]:
    """Return the known vulnerabilities of the locked packages, or why they could not be checked."""
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
    """Format the result of an audit as lines."""
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
