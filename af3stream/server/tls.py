"""Load TLS certificates from files that may be replaced while the server runs."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

from af3stream.config import ServerConfig
from af3stream.errors import ConfigError

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 10.0


class Tls:
    """The certificate for new connections; open connections keep theirs.

    Attributes:
        context: for the sockets of the server.

    Raises:
        ConfigError: if the files are not a certificate and its key.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._certificate = config.tls_certificate
        self._key = config.tls_key or config.tls_certificate
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._stamp()
        try:
            self._load(self.context)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(f"server.tls_certificate and tls_key: {_reason(error)}") from None

    async def watch(self) -> None:
        """Reload the files whenever they change."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.reload()

    def reload(self) -> None:
        """Reload the files if they changed. If they are invalid, the old certificate stays in use."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # a failure must not change the context in use
            self._load(self.context)
            log.info("the TLS certificate was reloaded")
        except (OSError, ValueError) as error:
            log.warning("the TLS certificate cannot be reloaded, the old one stays: %s", _reason(error))

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._certificate, self._key, password="")  # a key with a pass phrase is refused

    def _stamp(self) -> list[tuple[int, int, int] | None]:
        """Return the identity of a file version, or ``None`` if there is no file."""
        return [_facts(Path(name)) for name in (self._certificate, self._key)]


def _facts(file: Path) -> tuple[int, int, int] | None:
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _reason(error: Exception) -> str:
    """Return what is wrong, without a path or a key."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not a PEM file").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or "the files cannot be used"
