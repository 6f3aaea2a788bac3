"""The Dockerfile and the compose file: linted, valid, and as docs/deploy.md says. Nothing is built here."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from af3stream.config import load
from tests.server.peers import serving

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("af3stream:")}


def stages() -> dict[str, str]:
    """The text of each stage, by name."""
    found = re.split(r"^FROM (\S+) AS (\S+)\n", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(found[2::3], found[3::3], strict=True))


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_has_no_findings() -> None:
    run(BIN / "hadolint", DEPLOY / "Dockerfile")


def test_images_run_as_a_user_with_a_health_check() -> None:
    base = stages()["base"]
    assert "USER 10001:10001" in base and "HEALTHCHECK" in base
    for target in ("gateway", "cpu", "cuda"):
        assert f"FROM base AS {target}\n" in DOCKERFILE and "USER" not in stages()[target]


def test_versions_are_those_of_the_lock_and_base_images_have_a_tag() -> None:
    assert all("--constraint requirements.lock" in line for line in DOCKERFILE.split("RUN ") if "pip install" in line)
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, flags=re.MULTILINE)
    for service in SERVICES.values():
        assert re.search(r":[\w.-]+$", service["image"]) and not service["image"].endswith(":latest")


def test_the_build_context_holds_what_is_copied() -> None:
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {
        name for line in re.findall(r"^COPY ([^-].*)$", DOCKERFILE, flags=re.MULTILINE) for name in line.split()[:-1]
    }
    assert copied == allowed and all((ROOT / name).exists() for name in copied)


def test_the_compose_file_is_valid() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_files_that_the_compose_file_mounts_exist() -> None:
    mounts = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])]
    assert [name for name in mounts if name.startswith(".") and not (DEPLOY / name).exists()] == []
    named = {name for name in mounts if not name.startswith((".", "/"))}
    assert named == {*COMPOSE["volumes"]}


def test_only_one_server_starts_by_default() -> None:
    assert [name for name, service in SERVICES.items() if not service.get("profiles")] == ["server"]


@pytest.mark.parametrize("service", SERVICES)
def test_containers_have_limits_and_no_privileges(service: str) -> None:
    settings = SERVICES[service]
    assert settings["read_only"] and settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory"} <= settings["deploy"]["resources"]["limits"].keys()


@pytest.mark.parametrize("service", [name for name, each in OURS.items() if each.get("profiles") == ["cluster"]])
def test_nodes_of_ray_outlive_their_head(service: str) -> None:
    environment = SERVICES[service]["environment"]
    assert float(environment["RAY_gcs_rpc_server_reconnect_timeout_s"]) > 3_600
    assert environment["RAY_AUTH_MODE"] == "token" and "ray_token" in SERVICES[service]["secrets"]
    assert ("RAY_gcs_storage_path" in environment) is ("--head" in SERVICES[service]["command"])


def test_the_server_reads_its_tokens_from_a_secret_and_has_time_to_drain() -> None:
    for service in (each for each in OURS.values() if each.get("command", [""])[0] == "serve"):
        assert (
            service["environment"]["AF3STREAM_TOKEN_FILE"] == "/run/secrets/tokens" and "tokens" in service["secrets"]
        )
        config = load(DEPLOY / "config" / Path(service["command"][2]).name)
        assert float(service["stop_grace_period"].removesuffix("s")) > config.server.drain_s + 20


@pytest.mark.parametrize("path", sorted((DEPLOY / "config").glob("*.toml")), ids=lambda path: path.stem)
def test_configurations_are_valid_and_hold_no_secret(path: Path) -> None:
    assert load(path).server.host == "0.0.0.0"
    assert "tokens" not in tomllib.loads(path.read_text())["server"]


def healthcheck(url: str) -> int:
    check = subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"],
        env=os.environ | {"AF3STREAM_HEALTH_URL": url},
        capture_output=True,
        check=False,
    )
    return check.returncode


async def test_the_health_check_asks_the_server() -> None:
    async with serving() as service:
        port = service.port
        assert await asyncio.to_thread(healthcheck, f"http://127.0.0.1:{port}/readyz") == 0
        assert await asyncio.to_thread(healthcheck, f"http://127.0.0.1:{port}/nothing") == 1
    assert await asyncio.to_thread(healthcheck, f"http://127.0.0.1:{port}/readyz") == 1
