"""The Kubernetes manifests: valid, restricted, and with time to drain. They are not applied here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from af3stream import cli
from af3stream.arguments import parser_of
from af3stream.config import load

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"
VERSION = "1.34"  # of Kubernetes; the oldest with `sleep` before SIGTERM as a stable field
FILES = [path for path in sorted(FOLDER.glob("*.yaml")) if path.stem != "kustomization"]
OBJECTS: list[dict[str, Any]] = [each for path in FILES for each in yaml.safe_load_all(path.read_text())]
BUILT_IN = [each for each in OBJECTS if each["kind"] != "RayCluster"]
[RAY] = [each for each in OBJECTS if each["kind"] == "RayCluster"]
RAY_GROUPS: list[dict[str, Any]] = [RAY["spec"]["headGroupSpec"], *RAY["spec"]["workerGroupSpecs"]]


def named(kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pods() -> Iterator[Any]:
    for each in BUILT_IN:
        if each["kind"] == "Deployment":
            yield pytest.param(each["spec"]["template"]["spec"], id=each["metadata"]["name"])
    for group in RAY_GROUPS:
        yield pytest.param(group["template"]["spec"], id=group.get("groupName", "head"))


def title(thing: dict[str, Any]) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


@pytest.mark.parametrize("thing", BUILT_IN, ids=title)
def test_objects_of_kubernetes_fit_its_schema(thing: dict[str, Any]) -> None:
    kubernetes_validate.validate(thing, VERSION, strict=True)


@pytest.mark.parametrize("group", RAY_GROUPS, ids=lambda group: group.get("groupName", "head"))
def test_pods_of_ray_fit_the_schema_of_pods(group: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
    kubernetes_validate.validate(pod, VERSION, strict=True)


def test_ray_has_fields_of_its_definition() -> None:
    """Those of KubeRay 1.6: the definition itself is in no package."""
    assert RAY["apiVersion"] == "ray.io/v1"
    assert RAY["spec"].keys() == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert RAY["spec"]["authOptions"] == {"mode": "token"}
    for group in RAY["spec"]["workerGroupSpecs"]:
        assert group.keys() == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    lock = (FOLDER.parents[1] / "requirements.lock").read_text()
    assert f"\nray=={RAY['spec']['rayVersion']}\n" in lock


@pytest.mark.parametrize("pod", [*pods()])
def test_pods_are_restricted(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


def test_a_gateway_is_ready_by_its_own_word_and_has_time_to_drain(tmp_path: Path) -> None:
    pod = named("Deployment", "gateway")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    (tmp_path / "cluster.toml").write_text(named("ConfigMap", "af3stream")["data"]["cluster.toml"])
    drain_s = load(tmp_path / "cluster.toml").server.drain_s
    pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= pause_s + drain_s + 30


@pytest.mark.parametrize("pod", [*pods()])
def test_nodes_of_ray_outlive_their_head(pod: dict[str, Any]) -> None:
    [container] = pod["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["RAY_gcs_rpc_server_reconnect_timeout_s"] == "86400"
    assert ("RAY_gcs_storage_path" in environment) is (container["name"] == "ray-head")


def test_engines_keep_their_names_when_their_command_starts_again() -> None:
    [container] = named("Deployment", "engines")["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((FOLDER.parent / "compose.yaml").read_text())
    for command in (container["args"], compose["services"]["engines"]["command"]):
        given = parser_of(cli.COMMANDS).parse_args(command)
        assert (given.count, given.name) == (RAY["spec"]["workerGroupSpecs"][0]["replicas"], "blue")


def test_gateways_share_the_journal() -> None:
    assert named("PersistentVolumeClaim", "af3stream-journal")["spec"]["accessModes"] == ["ReadWriteMany"]
    deployment = named("Deployment", "gateway")["spec"]
    assert deployment["replicas"] > 1 and deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert {"name": "journal", "mountPath": "/var/lib/af3stream"} in deployment["template"]["spec"]["containers"][0][
        "volumeMounts"
    ]


def test_configuration_of_gateways_and_engines_is_valid(tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text(named("ConfigMap", "af3stream")["data"]["cluster.toml"])
    config = load(tmp_path / "cluster.toml")
    assert (config.engine.kind, config.journal.shared, config.server.tokens) == ("ray", True, ())


def test_selectors_find_their_pods() -> None:
    labels = named("Deployment", "gateway")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        named("Service", "gateway")["spec"]["selector"],
        named("PodDisruptionBudget", "gateway")["spec"]["selector"]["matchLabels"],
        named("NetworkPolicy", "clients")["spec"]["podSelector"]["matchLabels"],
        named("Deployment", "gateway")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_clients_reach_gateways_alone_and_at_one_port() -> None:
    clients = named("NetworkPolicy", "clients")["spec"]
    assert clients["ingress"] == [{"ports": [{"port": 8765, "protocol": "TCP"}]}]
    assert named("NetworkPolicy", "cluster")["spec"]["ingress"] == [{"from": [{"podSelector": {}}]}]


def test_every_manifest_is_applied() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == [path.name for path in FILES]
