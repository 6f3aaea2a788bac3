"""A Ray cluster on this machine: a head and further nodes, as processes that can be killed and started again.

Each node declares few CPUs and little memory. The head keeps its state in a folder, so that it can be started again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from af3stream.server.ports import free_port

RAY: Final = str(Path(sys.executable).parent / "ray")
STARTED: Final = "Ray runtime started"
START_S: Final = 120.0
STORE_BYTES: Final = 80_000_000
ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_gcs_storage": "rocksdb",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3600",  # nodes go on while the head is away
    "OMP_NUM_THREADS": "1",
}


class Node:
    """A head, or a node that joins it: everything that `ray start` starts, as one group of processes."""

    def __init__(self, options: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        command = [RAY, "start", "--block", "--disable-usage-stats", "--include-log-monitor=false", *options]
        ports = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, *ports, f"--object-store-memory={STORE_BYTES}"],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until the node is there."""
        deadline = time.monotonic() + START_S
        while STARTED not in (text := self._log.read_text(errors="replace")):
            assert self._process.poll() is None and time.monotonic() < deadline, text
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill every process of the node, its engines too."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class RayNodes:
    """A cluster.

    Attributes:
        address: of the head.
        folder: of all logs.
        head: the head.
        nodes: the others.

    Args:
        head_cpus: CPUs that the head has for engines.
    """

    def __init__(self, folder: Path, head_cpus: int) -> None:
        self.folder = folder
        self._head_cpus = head_cpus
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._temp = folder / "ray"
        self._count = 0
        self.nodes: list[Node] = []
        self.start_head()

    def start_head(self) -> None:
        """Start the head, or start it again with what it knew."""
        (self._temp / "ray_current_cluster").unlink(missing_ok=True)  # left by a head that was killed
        (self.folder / "head").mkdir(exist_ok=True)
        options = ["--head", f"--port={self._port}", f"--num-cpus={self._head_cpus}", f"--temp-dir={self._temp}"]
        self.head = self._start([*options, "--include-dashboard=false"])

    def add_node(self, cpus: int = 2) -> Node:
        """Start a node that has CPUs for engines."""
        node = self._start([f"--address={self.address}", f"--num-cpus={cpus}"])
        self.nodes.append(node)
        return node

    def stop(self) -> None:
        """Kill all nodes."""
        for node in [*self.nodes, self.head]:
            node.kill()

    def _start(self, options: list[str]) -> Node:
        self._count += 1
        environment = os.environ | ENVIRONMENT | {"RAY_gcs_storage_path": str(self.folder / "head")}
        node = Node(options, environment, self.folder / f"node-{self._count}.log")
        node.wait()
        return node


@contextmanager
def ray_nodes(nodes: int, cpus: int) -> Iterator[RayNodes]:
    """A head and further nodes while the context lasts. A head alone has the CPUs."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets need a short path
    cluster = RayNodes(folder, 0 if nodes else cpus)
    try:
        for _ in range(nodes):
            cluster.add_node(cpus)
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
