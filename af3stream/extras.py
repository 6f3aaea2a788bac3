"""Check whether the packages of an extra of pyproject.toml are installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution, requires

from af3stream.errors import SetupError

PACKAGE = "af3stream"


def require(extra: str) -> None:
    """Check that the packages of an extra are installed.

    A checkout on the path that is not installed declares no packages, and passes.

    Raises:
        SetupError: with the missing packages, and the command that installs them.
    """
    missing = [name for name in _packages(extra) if not _installed(name)]
    if missing:
        raise SetupError(f'{", ".join(missing)} not installed: pip install "{PACKAGE}[{extra}]"')


def _packages(extra: str) -> list[str]:
    """Return the names of the packages that an extra adds, those of the extras that it includes too."""
    declared = (requires(PACKAGE) or []) if _installed(PACKAGE) else []
    names = []
    for line in declared:
        if not re.search(rf";.*extra == [\"']{extra}[\"']", line):
            continue
        if included := re.match(rf"{PACKAGE}\[([^]]+)\]", line):
            names += [name for other in included[1].split(",") for name in _packages(other.strip())]
        elif name := re.match(r"[\w.-]+", line):
            names.append(name[0])
    return names


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
