"""Run all benches, each in a process of its own, and update the tables and plots from their output.

``python -m bench.all [--quick] [--docs docs] [--only NAME]``. Without ``--quick`` the rows of docs/measurements.md and
the plots in docs/plots are replaced; with it, only if ``--docs`` is given. The exit code is 1 if a bench failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench import plots, tables

ROOT: Final = Path(__file__).parent.parent
LONGEST_S: Final = 1_800.0  # time limit of one bench
DOCUMENT: Final = "measurements.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benches, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, in about five minutes")
    parser.add_argument("--docs", type=Path, help="the folder of measurements.md and plots/")
    parser.add_argument("--only", action="append", choices=sorted(tables.ROWS), help="only this bench; may be repeated")
    options = parser.parse_args(argv)
    docs: Path | None = options.docs or (None if options.quick else ROOT / "docs")
    failed = []
    for name in options.only or tables.ROWS:
        began = time.monotonic()
        figures = run(name, ["--quick"] if options.quick else [])
        print(f"{name}: {'failed' if figures is None else 'done'} in {time.monotonic() - began:.0f} s", flush=True)
        if figures is None:
            failed.append(name)
            continue
        print(json.dumps(figures), flush=True)
        try:
            if docs:
                publish(figures, f"python -m bench.{name}{' --quick' * options.quick}", docs)
        except KeyError as missing:
            print(f"{name}: its figures have no {missing}", file=sys.stderr)
            failed.append(name)
    print(f"{len(failed)} failed{': ' * bool(failed)}{', '.join(failed)}")
    return bool(failed)


def run(name: str, arguments: list[str]) -> dict[str, Any] | None:
    """Run a bench, and return its last line of output; ``None`` if it fails or that is not JSON."""
    command = [sys.executable, "-m", f"bench.{name}", *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=LONGEST_S, check=True)
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None
    return figures


def publish(figures: dict[str, Any], command: str, docs: Path) -> None:
    """Write the figures of a bench into the table, and draw its plot."""
    document = docs / DOCUMENT
    rows = tables.lines(command, figures)
    document.write_text(tables.put(document.read_text(), figures["bench"], rows))
    plots.draw(figures, docs / "plots")


if __name__ == "__main__":
    sys.exit(main())
