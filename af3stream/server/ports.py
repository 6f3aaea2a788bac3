"""Check addresses before a server starts. Imports no package of the `server` extra."""

from __future__ import annotations

import os
import socket

from af3stream.config import ServerConfig
from af3stream.errors import SourceError


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is not in use."""
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def check_address(config: ServerConfig) -> None:
    """Check that the service can listen on an address.

    Raises:
        SourceError: with the reason, if it cannot.
    """
    try:
        resolved = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        socket.create_server((config.host, config.port), family=resolved[0][0]).close()
    except OSError as error:
        raise cannot_listen(config, error) from None


def cannot_listen(config: ServerConfig, error: OSError) -> SourceError:
    """Return an error that says why the service cannot listen on an address."""
    reason = os.strerror(error.errno) if error.errno else error
    return SourceError(f"cannot listen on {config.host}:{config.port}: {reason}")
