"""Scripted engines of a Ray cluster: ``python -m tests.cluster.engines CONFIG NAME COUNT ROLE [here]``.

They run until SIGTERM, as those of `af3stream engine` do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from af3stream.cluster.placement import Role
from af3stream.cluster.ray_engine import run_engines
from af3stream.config import Config, load
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedEngine


def load_scripted(config: Config) -> Loaded:
    """Return an engine without a model."""
    return Loaded(ScriptedEngine(), "all", None)


def main() -> None:
    """Run the engines."""
    config, name, count, role, *here = sys.argv[1:]
    run_engines(
        load(Path(config)),
        count=int(count),
        role=cast(Role, role),
        name=name,
        load=load_scripted,
        say=lambda text: print(text, flush=True),
        here=bool(here),
    )


if __name__ == "__main__":
    main()
