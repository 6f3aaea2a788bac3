"""The embedded checkpoint ``mini``: a small Audio Flamingo 3, assembled on first use from pinned public parts."""

from __future__ import annotations

from af3stream.models.mini.assembly import assemble
from af3stream.models.mini.recipe import LICENCE, folder

__all__ = ["LICENCE", "assemble", "folder"]
