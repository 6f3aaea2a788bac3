"""Where an engine is reached, as the cluster says."""

from __future__ import annotations

from msgspec import Struct

from af3stream.cluster.placement import Role


class EngineAddress(Struct, frozen=True):
    """An engine of a cluster.

    Attributes:
        name: unique in the cluster; it stays if the engine is started again.
        address: host:port of its server.
        key: which the gateway proves itself with; another one after each start. It is a secret.
        role: which jobs the engine does.
        process: its id on its machine.
    """

    name: str
    address: str
    key: str
    role: Role
    process: int

    def __repr__(self) -> str:
        return f"EngineAddress({self.name!r}, {self.address!r}, {self.role!r}, {self.process})"
