"""The client's modules import each other without a cycle, and export what a user needs."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from typing import get_args

import af3stream.client
from af3stream import client
from af3stream.client import messages
from af3stream.protocol.messages import ServerMessage

PACKAGE = "af3stream.client"
FOLDER = Path(af3stream.client.__file__).parent


def imported(path: Path) -> set[str]:
    """The client's modules that a module imports, under TYPE_CHECKING and in functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix(f"{PACKAGE}.") for name in names if (name + ".").startswith(f"{PACKAGE}.")}


def test_client_modules_import_each_other_without_a_cycle():
    paths = {path.stem: path for path in FOLDER.glob("*.py")}
    paths[PACKAGE] = paths.pop("__init__")
    graph = {name: imported(path) & paths.keys() for name, path in paths.items()}
    assert "reply" in graph["answers"]
    assert [*TopologicalSorter(graph).static_order()]


def test_every_message_of_the_server_is_exported() -> None:
    names = {kind.__name__ for kind in get_args(ServerMessage)}
    assert names <= {*client.__all__}
    assert names <= {*messages.__all__}
