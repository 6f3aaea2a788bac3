"""The dependency audit: what fails it, and what it only says."""

from __future__ import annotations

import pytest

from scripts.audit import differences, read_lock, verdict

LOCK = "# pinned\ntorch==2.13.0\nPy_Yaml==6.0\n"


def test_an_environment_as_locked_has_no_differences() -> None:
    assert differences(read_lock(LOCK), {"torch": "2.13.0+cpu", "py-yaml": "6.0"}) == []


def test_other_versions_and_missing_and_unpinned_packages_are_differences() -> None:
    assert differences(read_lock(LOCK), {"torch": "2.12.0", "extra": "1"}) == [
        "differs: extra: the lock says nothing, installed is 1",
        "differs: py-yaml: the lock says 6.0, installed is nothing",
        "differs: torch: the lock says 2.13.0, installed is 2.12.0",
    ]


def test_a_line_that_pins_nothing_is_refused() -> None:
    with pytest.raises(AssertionError, match="pins nothing"):
        read_lock("torch>=2\n")


def test_a_vulnerability_is_told() -> None:
    flaw = {"id": "PYSEC-1", "fix_versions": ["2.14"]}
    packages = [{"name": "torch", "version": "2.13.0", "vulns": [flaw]}, {"name": "ours", "skip_reason": "unknown"}]
    assert verdict(packages) == [
        "vulnerable: torch 2.13.0: PYSEC-1, fixed in 2.14",
        "not audited: ours is unknown to the advisory service",
        "1 packages audited, 1 vulnerabilities known",
    ]


def test_an_audit_of_nothing_is_no_success() -> None:
    (said,) = verdict([{"name": "torch", "skip_reason": "not found"}])
    assert said.startswith("not audited")
