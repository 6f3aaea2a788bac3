"""Engines as actors of a Ray cluster: start them, find them, drain them.

Ray decides on which machine an engine runs, gives it a GPU or CPUs, and starts it again if it dies. It carries no audio
and no jobs: a gateway connects to the address that `RayEngine.describe` gives.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Final

import msgspec

from af3stream.cluster.engine_server import EngineServer
from af3stream.cluster.placement import Role
from af3stream.config import Config, ServerConfig
from af3stream.engine.memory import freeze_gc
from af3stream.engine.worker import Worker
from af3stream.errors import EngineError, SetupError

if TYPE_CHECKING:
    from af3stream.engine.factory import Loaded
    from af3stream.tracing import Tracing

NAMESPACE: Final = "af3stream"
PREFIX: Final = "engine-"
LOOK_EVERY_S: Final = 1.0
HINT_S: Final = 30.0  # an engine that is not ready by then may lack resources
ENGINE_SECTIONS: Final = ("captions", "questions", "model", "engine", "tracing")  # of the configuration, for an engine

Load = Callable[[Config], "Loaded"]
Progress = Callable[[str], None]
Check = Callable[[Any, str, Progress], None]  # takes the answer of an engine, and its name


def connect(cluster: str) -> None:
    """Join a Ray cluster, through the node that runs on this machine.

    Raises:
        SetupError: if there is none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        ray.init(address=cluster, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise SetupError(f"cannot join the cluster {cluster}: {reason}") from None


def engine_names() -> list[str]:
    """Return the names of the cluster's engines, those that are about to start included."""
    from ray.util import list_named_actors

    return sorted(name for name in list_named_actors() if name.startswith(PREFIX))


class RayEngine:
    """The actor: an engine in a process of its own, and its server.

    Args:
        name: of the actor.
        config: JSON of the configuration.
        role: which jobs the engine does.
        load: loads the engine.
    """

    def __init__(self, name: str, config: bytes, role: Role, load: Load) -> None:
        import ray

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        logging.getLogger("websockets").setLevel(logging.WARNING)
        settings = msgspec.json.decode(config, type=Config)
        loaded, tracing = load(settings), _open_tracing(settings)
        freeze_gc()
        self._worker = Worker(loaded.engine, settings.model, tracing)
        self._key = secrets.token_urlsafe(32)
        self._server = EngineServer(self._worker, loaded.facts, self._key, settings.engine)
        self._name, self._role, self._host = name, role, ray.util.get_node_ip_address()
        self._config = config
        self._loop = asyncio.new_event_loop()
        listening = threading.Event()
        threading.Thread(target=self._serve, args=(listening,), name="engine server", daemon=True).start()
        listening.wait()

    def describe(self) -> dict[str, str | int]:
        """Return where the engine is reached, as the fields of an `EngineAddress`."""
        return {
            "name": self._name,
            "address": f"{self._host}:{self._server.port}",
            "key": self._key,
            "role": self._role,
            "process": os.getpid(),
        }

    def drain(self) -> int:
        """Have the gateways move the sessions to other engines; returns how many sessions are left."""
        self._loop.call_soon_threadsafe(self._server.drain)
        return self._worker.sessions

    def resume(self, config: bytes, role: Role) -> list[str]:
        """Take sessions again after `drain`, if the engine is as another command would start it.

        Args:
            config: JSON of that command's configuration.
            role: which that command gives it.

        Returns:
            What differs, by name; if anything does, the engine stays as it is.
        """
        different = differences(self._config, config) + ["role"] * (role != self._role)
        if not different:
            self._loop.call_soon_threadsafe(self._server.resume)
        return different

    def _serve(self, listening: threading.Event) -> None:
        """Serve on a thread of its own. If that fails, the process ends, and Ray starts the engine again."""

        async def serve() -> None:
            async with self._server.listening(self._host):
                self._worker.start()
                listening.set()
                await asyncio.Event().wait()

        try:
            self._loop.run_until_complete(serve())
        finally:
            os._exit(1)


def run_engines(
    config: Config, *, count: int, role: Role, name: str, load: Load, say: Progress, here: bool = False
) -> None:
    """Start engines; at Ctrl-C or SIGTERM, drain and end them.

    The engines go on if this process is killed. The same command takes them over again.

    Args:
        count: how many.
        name: the engines are called ``NAME-1`` and so on; at most one process may use a name.
        load: loads the engine, in its own process.
        here: whether they run on this machine alone; otherwise, Ray chooses the machines.

    Raises:
        SetupError: if there is no cluster, this machine has not what the engines take, or an engine of the same name
            runs with another configuration or role.
        EngineError: if an engine cannot be loaded.
    """
    import ray

    connect(config.engine.cluster)
    stop = _stop_signal()  # after Ray has set handlers of its own
    names = [f"{PREFIX}{name}-{i + 1}" for i in range(count)]
    strategy = _on_this_machine(config, count) if here else "SPREAD"
    _take_over(names, config, role, say, stop)
    actors = [_start(each, config, role, load, strategy) for each in names]
    try:
        described = {actor.describe.remote(): each for actor, each in zip(actors, names, strict=True)}
        _wait(described, _check_ready, say, stop)
        stop.wait()
        say("draining")
        deadline = time.monotonic() + config.server.drain_s
        while _sessions(actors) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S / 4)
    finally:
        for actor in actors:
            ray.kill(actor)


def _take_over(names: Sequence[str], config: Config, role: Role, say: Progress, stop: threading.Event) -> None:
    """Have the engines that are there already take sessions again: the command that started them may have drained them.

    Raises:
        SetupError: if one runs with another configuration or role.
    """
    import ray

    asked = {}
    for name in set(names).intersection(engine_names()):
        with suppress(ValueError):  # it has left since
            asked[ray.get_actor(name).resume.remote(shown(config), role)] = name
    _wait(asked, _check_same, say, stop)


def _wait(waiting: dict[Any, str], check: Check, say: Progress, stop: threading.Event) -> None:
    """Wait until engines have answered, and check each answer.

    Args:
        waiting: the engines' names, by the answers to come.
    """
    import ray

    hint_at = time.monotonic() + HINT_S
    while waiting and not stop.is_set():
        ready, _ = ray.wait([*waiting], timeout=LOOK_EVERY_S)
        for reference in ready:
            check(reference, waiting.pop(reference), say)
        if waiting and time.monotonic() > hint_at:
            hint_at = inf
            say(f"{', '.join(waiting.values())}: loading, or waiting for a machine with a free GPU or engine.cpus")


def _stop_signal() -> threading.Event:
    """Return an event that is set at Ctrl-C or SIGTERM."""
    stop = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stop.set())
    return stop


def _open_tracing(config: Config) -> Tracing | None:
    from af3stream.tracing import open_tracing

    return open_tracing(config.tracing, "engine") if config.tracing.endpoint else None


def _resources(config: Config) -> dict[str, float]:
    """Return what an engine takes of a machine, as Ray counts it."""
    on_gpu = config.model.device.startswith("cuda")
    return {"GPU": 1, "CPU": 0} if on_gpu else {"GPU": 0, "CPU": config.engine.cpus}


def _on_this_machine(config: Config, count: int) -> Any:
    """Return Ray's strategy for engines that run here. If the machine is lost, they end, and are started anew here.

    Raises:
        SetupError: if this machine has not what they take.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    has = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    for kind, each in _resources(config).items():
        if has.get(kind, 0) < count * each:
            raise SetupError(f"the engines take {count * each:g} {kind}s, this machine has {has.get(kind, 0):g}")
    return NodeAffinitySchedulingStrategy(here, soft=False)


def _start(name: str, config: Config, role: Role, load: Load, strategy: Any) -> Any:
    """Start an engine, unless it is there."""
    import ray

    resources = _resources(config)
    actor = ray.remote(RayEngine).options(
        name=name,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=4,
        num_gpus=resources["GPU"],
        num_cpus=resources["CPU"],
        scheduling_strategy=strategy,
    )
    return actor.remote(name, shown(config), role, load)


def shown(config: Config) -> bytes:
    """Return the configuration as JSON, without what is for servers alone, such as tokens: Ray keeps it."""
    return msgspec.json.encode(msgspec.structs.replace(config, server=ServerConfig()))


def differences(config: bytes, other: bytes) -> list[str]:
    """Return the names of the sections in which two configurations of engines differ; see `shown`."""
    one, two = (msgspec.json.decode(each, type=Config) for each in (config, other))
    return [section for section in ENGINE_SECTIONS if getattr(one, section) != getattr(two, section)]


def _check_same(different: Any, name: str, _: Progress) -> None:
    import ray

    with suppress(ray.exceptions.RayActorError):  # it has left since, or cannot start
        if names := ray.get(different):
            raise SetupError(
                f"{name} runs with other settings ({', '.join(names)}): choose another --name, "
                "or first end it with the command that started it"
            )


def _check_ready(described: Any, name: str, say: Progress) -> None:
    import ray

    try:
        ray.get(described)
    except ray.exceptions.RayActorError as error:
        raise EngineError(f"{name} cannot start: {str(error).strip().splitlines()[-1]}") from None
    say(f"{name} is ready")


def _sessions(actors: Sequence[Any]) -> int:
    """Have engines drain; returns how many sessions they still have. One that is lost has none."""
    import ray

    left = 0
    for drained in [actor.drain.remote() for actor in actors]:
        with suppress(ray.exceptions.RayError):
            left += ray.get(drained, timeout=LOOK_EVERY_S)
    return left
