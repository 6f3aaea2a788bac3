"""What can be typed on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from af3stream import __version__
from af3stream.errors import quoted
from af3stream.stored_sessions import FORMATS

Command = Callable[[argparse.Namespace], int]

CLUSTER: Final = "host:port of its head, or `auto`"
ROLES: Final = ("all", "answers", "captions")
CAPTION_FORMATS: Final = ("vtt", "srt", "json")


def parser_of(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser of the command line; `command` of what it parses is what a command does.

    Args:
        commands: by name; those on the journal are named ``sessions list`` and so on.
    """
    parser = argparse.ArgumentParser(
        prog="af3stream",
        description="Live captions of audio, and answers to questions about it, from Audio Flamingo 3.",
    )
    parser.add_argument("--version", action="version", version=f"af3stream {__version__}")
    places = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_serving(places, commands)
    _add_listen(places, commands)
    _add_offline(places, commands)
    pull = places.add_parser("pull", help="download a model, or check a folder")
    pull.set_defaults(command=commands["pull"])
    pull.add_argument("name", metavar="NAME", help="mini, a hub id, or a folder")

    _add_sessions(places, commands)
    _add(places, "doctor", commands["doctor"], "report what this machine can run, and what is missing")
    return parser


def _add_serving(places: Any, commands: Mapping[str, Command]) -> None:
    """Add the commands that run until they are told to stop."""
    serve = _add(places, "serve", commands["serve"], "start a server, which accepts audio over a WebSocket", model=True)
    serve.add_argument("--host", help="address to listen on")
    serve.add_argument("--port", type=int, help="port to listen on; 0: any free one")
    serve.add_argument("--cluster", metavar="ADDRESS", help=f"serve with the engines of a Ray cluster: {CLUSTER}")

    engine = _add(places, "engine", commands["engine"], "run engines of a Ray cluster, which servers share", model=True)
    engine.add_argument("--cluster", metavar="ADDRESS", help=f"the cluster: {CLUSTER}")
    engine.add_argument("--count", type=_positive, default=1, metavar="N", help="engines to run; default: 1")
    engine.add_argument(
        "--role", choices=ROLES, default="all", help="the jobs that they do: all (default), answers or captions"
    )
    engine.add_argument("--here", action="store_true", help="run them on this machine; default: where Ray puts them")
    engine.add_argument("--name", default="", help="begins the names of the engines; default: the host's name and ROLE")


def _add_listen(places: Any, commands: Mapping[str, Command]) -> None:
    """Add the command that streams to a server."""
    listen = places.add_parser("listen", help="stream a file, the microphone, or standard input to a server")
    listen.set_defaults(command=commands["listen"])
    listen.add_argument("source", metavar="SOURCE", help="an audio file, `mic`, or `-` for raw PCM on standard input")
    listen.add_argument("--server", default="http://127.0.0.1:8765", metavar="URL")
    listen.add_argument("--token", help="token for the service; by default $AF3STREAM_TOKEN")
    listen.add_argument("--pace", choices=("realtime", "fast"), default="realtime")
    listen.add_argument(
        "--ask",
        action="append",
        default=[],
        metavar="TEXT",
        help="a question; `@SECONDS TEXT` asks it at that time, `> TEXT` follows up the previous one",
    )
    listen.add_argument("--watch", action="append", default=[], metavar="TEXT", help="a standing question")
    listen.add_argument("--captions", type=Path, metavar="OUT", help="write captions to a .vtt, .srt or .jsonl file")
    listen.add_argument("--words", action="store_true", help="when each word was said; the captions file is cut by it")
    listen.add_argument("--json", action="store_true", help="print every message of the server as one JSON line")
    listen.add_argument(
        "--format", choices=("pcm_s16le", "pcm_f32le", "mulaw"), default="pcm_s16le", help="format of `-`"
    )
    listen.add_argument("--rate", type=int, default=16_000, help="sample rate of `-`, in Hz")
    listen.add_argument("--channels", type=int, default=1, help="channels of `-`")
    listen.add_argument("--device", metavar="NAME", help="microphone for `mic`: its number, or a part of its name")
    _add_captioning(listen, speakers=True, asking=True)


def _add_offline(places: Any, commands: Mapping[str, Command]) -> None:
    """Add the commands that read files without a server."""
    transcribe = _add(places, "transcribe", commands["transcribe"], "caption files, without a server", model=True)
    transcribe.add_argument("files", type=Path, nargs="+", metavar="FILE")
    transcribe.add_argument(
        "--format", action="append", choices=CAPTION_FORMATS, help="write a file of this format; may be repeated"
    )
    transcribe.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="write files to this folder, named after the audio; by default in all formats",
    )
    transcribe.add_argument("--json", action="store_true", help="print one JSON line per file, with its captions")
    _add_captioning(transcribe, speakers=True)

    ask = _add(
        places, "ask", commands["ask"], "caption a file and answer questions about it, without a server", model=True
    )
    ask.add_argument("file", type=Path, metavar="FILE")
    ask.add_argument(
        "--question",
        action="append",
        required=True,
        metavar="TEXT",
        help="a question; may be repeated; `> TEXT` follows up the previous one",
    )
    ask.add_argument("--by-ear", action="store_true", help="answer from the audio alone, without captions")
    ask.add_argument(
        "--max-tokens", type=_positive, metavar="N", help="most tokens of an answer; by default 192, as configured"
    )
    ask.add_argument("--normalise", action="store_true", help="scale the file first, as the model's quickstart does")
    ask.add_argument("--json", action="store_true", help="print one JSON line per question")
    _add_captioning(ask, asking=True)


def _add_sessions(places: Any, commands: Mapping[str, Command]) -> None:
    """Add the commands on the journal."""
    sessions = places.add_parser("sessions", help="list, show, export or delete the sessions in the journal")
    kept = sessions.add_subparsers(required=True, metavar="ACTION")
    _add(kept, "list", commands["sessions list"], "list all sessions, the oldest first")
    _add(kept, "show", commands["sessions show"], "show the captions and answers of a session").add_argument("session")
    export = _add(kept, "export", commands["sessions export"], "write the audio and captions of a session to files")
    export.add_argument("session")
    export.add_argument("--to", type=Path, default=Path(), metavar="FOLDER")
    export.add_argument("--format", action="append", choices=FORMATS, help="may be repeated; by default all except wav")
    _add(kept, "delete", commands["sessions delete"], "delete a session permanently").add_argument("session")


def _add(places: Any, name: str, command: Command, help_text: str, *, model: bool = False) -> argparse.ArgumentParser:
    """Add a command that reads the configuration."""
    parser: argparse.ArgumentParser = places.add_parser(name, help=help_text)
    parser.set_defaults(command=command)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file; see configs/")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting")
    if model:
        parser.add_argument("--model", metavar="NAME", help="mini (default), a folder, or a hub id")
    return parser


def _add_captioning(parser: argparse.ArgumentParser, *, speakers: bool = False, asking: bool = False) -> None:
    """Add the options that say what is spoken, whether it is said who speaks, and how questions are answered."""
    parser.add_argument("--language", metavar="CODE", help="of the speech, such as es; default: found by listening")
    parser.add_argument(
        "--languages", type=_codes, metavar="CODE,CODE", help="those that may occur; default: all that are known"
    )
    parser.add_argument(
        "--translate", dest="task", action="store_const", const="translate", help="English beside the original"
    )
    parser.add_argument("--vocabulary", metavar="FILE", help="names and terms that are likely to be said, one a line")
    if speakers:
        parser.add_argument(
            "--speakers",
            type=_speakers,
            default=False,
            metavar="any|N",
            help="say who speaks: any number of people, or so many at most",
        )
    if asking:
        parser.add_argument(
            "--instructions", default="", metavar="TEXT", help="how to answer: the system turn of every question"
        )


def _codes(text: str) -> list[str]:
    return [code.strip() for code in text.split(",") if code.strip()]


def _speakers(text: str) -> bool | int:
    from af3stream.listen import parse_speakers

    return parse_speakers(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no whole number from 1 on")
    return int(text)
