"""Command line of ``af3stream-mic``: captions of the microphone, and answers, in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from af3stream.errors import Af3StreamError, SourceError
from af3stream.listen import ListenOptions, devices, listen, parse_speakers
from af3stream_clients.mic.app import MicrophoneApp


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.devices:
            _print_devices()
            return 0
        options = ListenOptions(
            source="mic",
            server=arguments.url,
            asks=tuple(arguments.ask),
            watches=tuple(arguments.watch),
            captions=arguments.captions,
            device=arguments.device,
            token=arguments.token,
            language=arguments.language,
            translate=arguments.translate,
            speakers=arguments.speakers,
        )
        if arguments.plain or not sys.stdout.isatty():
            return asyncio.run(listen(options))
        app = MicrophoneApp(options)
        app.run()
        if app.problem:
            print(app.problem, file=sys.stderr)
        return app.return_code or 0
    except Af3StreamError as error:
        print(error, file=sys.stderr)
        return 2


def _print_devices() -> None:
    if not (found := devices()):
        raise SourceError("there is no microphone on this computer")
    table = Table("number", "name", "reached through", "channels", box=None)
    for device in found:
        name = f"{device.name} (default)" if device.default else device.name
        table.add_row(str(device.index), name, device.system, str(device.channels))
    Console().print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "af3stream-mic", description="The microphone's captions, and answers about them, in the terminal."
    )
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8765", help="address of the service")
    parser.add_argument("--devices", action="store_true", help="list the microphones, and exit")
    parser.add_argument("--device", help="a microphone's number, or a part of its name")
    parser.add_argument("--ask", action="append", default=[], metavar="TEXT", help="a question to ask at the end")
    parser.add_argument("--watch", action="append", default=[], metavar="TEXT", help="a standing question")
    parser.add_argument("--language", metavar="CODE", help="of the speech, such as es; default: found by listening")
    parser.add_argument("--translate", action="store_true", help="English below the captions")
    parser.add_argument(
        "--speakers", type=parse_speakers, default=False, metavar="any|N", help="say who speaks: any, or N at most"
    )
    parser.add_argument("--captions", type=Path, metavar="OUT", help="write captions to a .vtt, .srt or .jsonl file")
    parser.add_argument("--token", help="token of the service; by default $AF3STREAM_TOKEN")
    parser.add_argument("--plain", action="store_true", help="print lines instead of the screen, as in a pipe")
    return parser


if __name__ == "__main__":
    sys.exit(main())
