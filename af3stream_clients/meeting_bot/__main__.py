"""Listen to a meeting, report events by rules, and write the minutes."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from af3stream.client import ConnectionLost, ReaderTooSlow, ServerError
from af3stream.errors import Af3StreamError
from af3stream_clients.meeting_bot.bot import Bot, Options
from af3stream_clients.meeting_bot.rules import RulesFile, load_rules

LOST, NOT_DELIVERED, STOPPED = 1, 3, 143


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return the exit code."""
    given = _parser().parse_args(argv)
    try:
        rules = load_rules(given.rules) if given.rules else RulesFile()
        options = Options(
            source=given.source,
            server=given.server,
            out=given.out,
            state=given.state or given.out / ".state",
            token=given.token or os.environ.get("AF3STREAM_TOKEN"),
            end_after_s=given.end_after,
            give_up_after_s=given.give_up_after,
            drain_s=given.drain,
            note=lambda text: print(text, file=sys.stderr, flush=True),
        )
        return asyncio.run(_run(options, rules))
    except (ConnectionLost, ReaderTooSlow, ServerError) as error:
        print(f"{error}; start again to go on", file=sys.stderr)
        return LOST
    except Af3StreamError as error:
        print(error, file=sys.stderr)
        return 2


async def _run(options: Options, rules: RulesFile) -> int:
    bot = Bot(options, rules)
    work = asyncio.create_task(bot.run())
    pressed = False

    def interrupt() -> None:
        nonlocal pressed
        if pressed:
            work.cancel()
        pressed = True
        bot.stop()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        delivered = await work
    except asyncio.CancelledError:
        print("stopped; start again to go on", file=sys.stderr)
        return STOPPED
    if not delivered:
        print("some events were not taken yet; start again to go on", file=sys.stderr)
        return NOT_DELIVERED
    return LOST if bot.problem else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("af3stream-bot", description=__doc__)
    parser.add_argument("--source", required=True, help="a file, FFmpeg's URL or FORMAT:DEVICE, -, or attendee://…")
    parser.add_argument("--rules", type=Path, help="the rules file, in TOML; without one, only minutes")
    parser.add_argument("--server", default="http://127.0.0.1:8765", help="address of the service")
    parser.add_argument("--out", type=Path, default=Path("meeting"), help="a folder for the minutes")
    parser.add_argument("--state", type=Path, help="folder of the state to resume from; by default OUT/.state")
    parser.add_argument("--token", help="token of the service; by default $AF3STREAM_TOKEN")
    parser.add_argument(
        "--end-after", type=float, default=90, metavar="S", help="end after so long without the source; by default 90 s"
    )
    parser.add_argument(
        "--give-up-after",
        type=float,
        default=3_600,
        metavar="S",
        help="exit after so long without the service; by default 3600 s",
    )
    parser.add_argument(
        "--drain", type=float, default=120, metavar="S", help="wait so long for the last deliveries; by default 120 s"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
