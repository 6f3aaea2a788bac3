"""Command line of ``python -m training``: run or resume training; one line a step, and one JSON line at the end."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from training import config as configs

STAGES = ("corpus", "listen", "read", "export", "assemble")


def main() -> None:
    """Run the chosen stages in order."""
    arguments = parsed()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    config = dataclasses.replace(
        configs.SMOKE if arguments.smoke else configs.FULL,
        start=arguments.start or configs.FULL.start,
        pause_file=arguments.pause_file,
    )
    if arguments.threads:
        config = dataclasses.replace(config, threads=arguments.threads)
    from training import run

    result = {stage: run.STAGES[stage](folder, config) for stage in arguments.stages or STAGES}
    if arguments.smoke and not all(run.falling(folder, stage) for stage in result if stage in ("listen", "read")):
        sys.exit("the loss does not fall")
    print(json.dumps(result))


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stages", nargs="*", help=f"some of {', '.join(STAGES)}; all if none is named")
    parser.add_argument("--folder", type=Path, required=True, help="the run's state: speech, weights, records")
    parser.add_argument(
        "--start", default="", help="trained parts whose encoder is used, instead of those of the package"
    )
    parser.add_argument("--threads", type=int, default=0, help="threads of a matrix multiplication")
    parser.add_argument("--smoke", action="store_true", help="minutes instead of hours")
    parser.add_argument("--pause-file", default="", help="while this file exists, training waits")
    arguments = parser.parse_args()
    if unknown := set(arguments.stages) - set(STAGES):
        parser.error(f"found the stages {', '.join(sorted(unknown))}, expected some of {', '.join(STAGES)}")
    return arguments


if __name__ == "__main__":
    main()
