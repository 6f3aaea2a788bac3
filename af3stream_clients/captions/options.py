"""Options of the command line."""

from __future__ import annotations

from dataclasses import dataclass

from af3stream_clients.captions.sources import Choice


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one run, which override the stored settings.

    Attributes:
        url: the service's address; ``None`` for the stored one.
        token: for the service.
        source: ``mic``, ``system`` or a path; ``None`` for the stored one.
        name: name of the command socket of this run.
        server_options: further options of the local server.
    """

    url: str | None = None
    token: str | None = None
    source: str | None = None
    name: str = ""
    server_options: tuple[str, ...] = ()

    @property
    def choice(self) -> Choice | None:
        """The source; ``None`` for the stored one."""
        match self.source:
            case None:
                return None
            case "mic":
                return Choice("microphone")
            case "system":
                return Choice("system")
            case path:
                return Choice("file", path)
