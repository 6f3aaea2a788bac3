"""The command line. Wrong input ends with one sentence and exit code 2."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from af3stream import __version__, stored_sessions
from af3stream.config import Config, load, read_vocabulary
from af3stream.errors import EngineError, Refusal, SetupError, quoted
from af3stream.extras import require

Command = Callable[[argparse.Namespace], int]

OPTIONS: Final = {
    "model": "model.name",
    "host": "server.host",
    "port": "server.port",
    "max_tokens": "questions.max_tokens",
    "language": "captions.language",
    "languages": "captions.languages",
    "task": "captions.task",
    "vocabulary": "captions.vocabulary",
    "cluster": "engine.cluster",
}
SERVER: Final = "server"  # the extra that runs a model
CLUSTER: Final = "host:port of its head, or `auto`"
ROLES: Final = ("all", "answers", "captions")
CAPTION_FORMATS: Final = ("vtt", "srt", "json")


def main(argv: list[str] | None = None) -> int:
    """Run one command, and return the exit code."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        return command(arguments)
    except (SetupError, EngineError, Refusal) as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of standard output is gone
        sys.stdout = None
        return 141


def _say(sentence: str) -> None:
    """Print progress on standard error. Commands call this before slow imports."""
    print(f"af3stream: {sentence}", file=sys.stderr, flush=True)


def _serve(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    config = _config(arguments)
    gateway = config.engine.kind == "ray"
    for extra in ("gateway", "cluster") if gateway else (SERVER,):
        require(extra)
    from af3stream import serving

    (serving.serve_gateway if gateway else serving.serve)(config, _say)
    return 0


def _engine(arguments: argparse.Namespace) -> int:
    """Run engines of a cluster until Ctrl-C or SIGTERM."""
    for extra in (SERVER, "cluster"):
        require(extra)
    from af3stream import serving

    config = _config(arguments)
    serving.run_engines(config, count=arguments.count, role=arguments.role, name=arguments.name, say=_say)
    return 0


def _listen(arguments: argparse.Namespace) -> int:
    from af3stream.listen import ListenOptions, listen

    options = ListenOptions(
        source=arguments.source,
        server=arguments.server,
        pace=arguments.pace,
        asks=tuple(arguments.ask),
        watches=tuple(arguments.watch),
        captions=arguments.captions,
        json=arguments.json,
        format=arguments.format,
        rate=arguments.rate,
        channels=arguments.channels,
        device=arguments.device,
        token=arguments.token,
        language=arguments.language,
        languages=tuple(arguments.languages or ()),
        translate=arguments.task == "translate",
        vocabulary=read_vocabulary(Path(arguments.vocabulary)) if arguments.vocabulary else (),
        words=arguments.words,
        instructions=arguments.instructions,
        speakers=arguments.speakers,
    )
    return asyncio.run(listen(options))


def _transcribe(arguments: argparse.Namespace) -> int:
    require(SERVER)
    config = _config(arguments)
    _say(f"loading {config.model.name} to caption {', '.join(map(str, arguments.files))}")
    from af3stream import recordings

    recordings.transcribe(arguments, config, CAPTION_FORMATS, _say)
    return 0


def _ask(arguments: argparse.Namespace) -> int:
    require(SERVER)
    config = _config(arguments)
    _say(f"loading {config.model.name} to answer questions about {arguments.file}")
    from af3stream import recordings

    recordings.ask(arguments, config, _say)
    return 0


def _pull(arguments: argparse.Namespace) -> int:
    require(SERVER)
    _say(f"looking for {arguments.name}")
    from rich.console import Console

    from af3stream.models.pull import pull

    pull(arguments.name, Console())
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    _say("checking this machine")
    from rich.console import Console

    from af3stream.models.doctor import diagnose, render

    return render(diagnose(config), Console())


def _kept(action: stored_sessions.Action) -> Command:
    """Return a command on the journal that the configuration names."""
    return lambda arguments: stored_sessions.run(action, arguments, _config(arguments))


def _config(arguments: argparse.Namespace) -> Config:
    """Return the configuration for the options of a command; options such as `--port` act like `--set`."""
    overrides = list(arguments.set)
    for option, key in OPTIONS.items():
        value = getattr(arguments, option, None)
        if value is not None:
            overrides.append(f"{key}={json.dumps(value)}")
    if getattr(arguments, "cluster", None):
        overrides.append("engine.kind=ray")
    return load(arguments.config, tuple(overrides))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="af3stream",
        description="Live captions of audio, and answers to questions about it, from Audio Flamingo 3.",
    )
    parser.add_argument("--version", action="version", version=f"af3stream {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_serving(commands)

    listen = commands.add_parser("listen", help="stream a file, the microphone, or standard input to a server")
    listen.set_defaults(command=_listen)
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

    transcribe = _add(commands, "transcribe", _transcribe, "caption files, without a server", model=True)
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

    ask = _add(commands, "ask", _ask, "caption a file and answer questions about it, without a server", model=True)
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

    pull = commands.add_parser("pull", help="download a model, or check a folder")
    pull.set_defaults(command=_pull)
    pull.add_argument("name", metavar="NAME", help="mini, a hub id, or a folder")

    sessions = commands.add_parser("sessions", help="list, show, export or delete the sessions in the journal")
    kept = sessions.add_subparsers(required=True, metavar="ACTION")
    _add(kept, "list", _kept(stored_sessions.list_sessions), "list all sessions, the oldest first")
    _add(kept, "show", _kept(stored_sessions.show), "show the captions and answers of a session").add_argument(
        "session"
    )
    export = _add(
        kept, "export", _kept(stored_sessions.export_session), "write the audio and captions of a session to files"
    )
    export.add_argument("session")
    export.add_argument("--to", type=Path, default=Path(), metavar="FOLDER")
    export.add_argument(
        "--format", action="append", choices=stored_sessions.FORMATS, help="may be repeated; by default all except wav"
    )
    _add(kept, "delete", _kept(stored_sessions.delete), "delete a session permanently").add_argument("session")

    _add(commands, "doctor", _doctor, "report what this machine can run, and what is missing")
    return parser


def _add_serving(commands: Any) -> None:
    """Add the commands that run until they are told to stop."""
    serve = _add(commands, "serve", _serve, "start a server, which accepts audio over a WebSocket", model=True)
    serve.add_argument("--host", help="address to listen on")
    serve.add_argument("--port", type=int, help="port to listen on; 0: any free one")
    serve.add_argument("--cluster", metavar="ADDRESS", help=f"serve with the engines of a Ray cluster: {CLUSTER}")

    engine = _add(commands, "engine", _engine, "run engines of a Ray cluster, which servers share", model=True)
    engine.add_argument("--cluster", metavar="ADDRESS", help=f"the cluster: {CLUSTER}")
    engine.add_argument("--count", type=_positive, default=1, metavar="N", help="engines to run; default: 1")
    engine.add_argument(
        "--role", choices=ROLES, default="all", help="the jobs that they do: all (default), answers or captions"
    )
    engine.add_argument("--name", default="", help="begins the names of the engines; default: the host's name and ROLE")


def _add(commands: Any, name: str, command: Command, help_text: str, *, model: bool = False) -> argparse.ArgumentParser:
    """Add a command that reads the configuration."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text)
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


if __name__ == "__main__":
    sys.exit(main())
