"""Download or assemble a checkpoint, check it, and print its files: ``af3stream pull``."""

from __future__ import annotations

from rich.console import Console

from af3stream.models import manifest, mini, voices
from af3stream.models.registry import KNOWN, MINI, resolve


def pull(name: str, console: Console) -> None:
    """Bring a checkpoint to this disk, and print its files with size and SHA-256, its licence and its folder.

    The voice encoder comes with the checkpoints that the service offers by name. Files that are present are checked and
    not downloaded again. A ``mini`` that differs from its manifest is assembled again.

    Raises:
        ModelError: as in ``registry.resolve``.
    """

    def tell(sentence: str) -> None:
        console.print(sentence, highlight=False)

    if name == MINI:
        mini.assemble(tell, hashes=True)
    checkpoint = resolve(name, tell)
    folders = [checkpoint.folder] + ([checkpoint.captioner] if checkpoint.captioner else [])
    if name in KNOWN:
        folders.append(voices.assemble(tell))
    total = 0
    for folder in folders:
        console.print(f"{folder}", highlight=False, soft_wrap=True)
        for file in manifest.describe(folder):
            total += file.size
            console.print(f"  {file.size:>13,}  {file.sha256}  {file.path}", highlight=False, soft_wrap=True)
    tell(f"{checkpoint.name} is complete: {total / 1e6:,.0f} MB. Licence: {checkpoint.licence or 'none is stated'}.")
