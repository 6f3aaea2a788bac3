"""A whole cluster on this machine: Ray's nodes, scripted engines, and gateways, as processes that can be killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from af3stream.cluster.placement import Role
from af3stream.server.ports import free_port
from tests.cluster.ray_nodes import ENVIRONMENT, RayNodes, ray_nodes

READY_S: Final = 120.0
STOP_S: Final = 30.0
CONFIG: Final = """
[server]
port = {port}
drain_s = 5.0
credit_s = 70.0
[journal]
folder = "{folder}/journal"
shared = true
segment_s = 3.0
[engine]
kind = "ray"
cluster = "{address}"
cpus = 1.0
lost_after_s = {lost_after_s}
wait_s = 30.0
[audio]
window_min_s = {window_min_s}
"""
AUDIO: Final = {"window_min_s": 3.0}  # so that a short recording has several windows


class Process:
    """A process with a log."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=os.environ | ENVIRONMENT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; ``None``: it runs."""
        return self._process.poll()

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def wait_for(self, pattern: str, count: int = 1, seconds: float = READY_S) -> list[str]:
        """Wait until it has printed a pattern so many times; returns what the pattern's groups matched."""
        deadline = time.monotonic() + seconds
        while len(found := re.findall(pattern, self.log)) < count:
            assert self._process.poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.05)
        return found

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, and wait until it ends."""
        with suppress(ProcessLookupError):
            self._process.send_signal(how)
        self._process.wait(STOP_S)


class Gateway(Process):
    """A gateway.

    Attributes:
        port: where clients find it.
    """

    def __init__(self, config: Path, port: int, log: Path) -> None:
        self.port = port
        super().__init__(["af3stream.cli", "serve", "--config", str(config)], log)

    def wait(self, seconds: float = READY_S) -> None:
        """Wait until it listens."""
        self.wait_for("listens at", seconds=seconds)


class RayCluster:
    """Nodes, engines and gateways.

    Attributes:
        nodes: the nodes of Ray.
        engines: the commands that run engines, by name.
        gateways: the gateways.
    """

    def __init__(self, nodes: RayNodes, lost_after_s: float) -> None:
        self.nodes = nodes
        self.engines: dict[str, Process] = {}
        self.gateways: list[Gateway] = []
        self._lost_after_s = lost_after_s

    def start_engines(self, name: str, count: int = 1, role: Role = "all", *, here: bool = False) -> Process:
        """Start engines, called ``NAME-1`` and so on; returns their command, which has not waited for them."""
        arguments = ["tests.cluster.engines", str(self._config(0)), name, str(count), role, *(["here"] if here else [])]
        process = self.engines[name] = Process(arguments, self.nodes.folder / f"engines-{name}.log")
        return process

    def start_gateway(self, port: int = 0) -> Gateway:
        """Start a gateway, which has not waited for its first engine."""
        port = port or free_port()
        gateway = Gateway(self._config(port), port, self.nodes.folder / f"gateway-{port}.log")
        self.gateways.append(gateway)
        return gateway

    def engine_process(self, name: str) -> int:
        """Return the id of the process of an engine, as the gateways saw it last."""
        pattern = rf"^(\S+ \S+) .*an engine is connected: engine={name} address=\S+ process=(\d+)"
        seen = [found for gateway in self.gateways for found in re.findall(pattern, gateway.log, re.MULTILINE)]
        return int(max(seen)[1])

    def kill_engine(self, name: str) -> None:
        """Kill the process of an engine; Ray starts it again."""
        os.kill(self.engine_process(name), signal.SIGKILL)

    def stop(self) -> None:
        """Kill all."""
        for process in [*self.gateways, *self.engines.values()]:
            process.stop()

    def _config(self, port: int) -> Path:
        path = self.nodes.folder / f"config-{port}.toml"
        text = CONFIG.format(
            port=port,
            folder=self.nodes.folder,
            address=self.nodes.address,
            lost_after_s=self._lost_after_s,
            **AUDIO,
        )
        path.write_text(text)
        return path


@contextmanager
def ray_cluster(nodes: int = 0, cpus: int = 2, lost_after_s: float = 3.0) -> Iterator[RayCluster]:
    """A cluster without engines and gateways while the context lasts."""
    with ray_nodes(nodes, cpus) as started:
        cluster = RayCluster(started, lost_after_s)
        try:
            yield cluster
        finally:
            cluster.stop()
