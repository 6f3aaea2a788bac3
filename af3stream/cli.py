"""The command line. Wrong input ends with one sentence and exit code 2."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Final

from af3stream import stored_sessions
from af3stream.arguments import CAPTION_FORMATS, Command, parser_of
from af3stream.config import Config, load, read_vocabulary
from af3stream.errors import EngineError, Refusal, SetupError
from af3stream.extras import require

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


def main(argv: list[str] | None = None) -> int:
    """Run one command, and return the exit code."""
    arguments = parser_of(COMMANDS).parse_args(argv)
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
    serving.run_engines(
        config, count=arguments.count, role=arguments.role, name=arguments.name, here=arguments.here, say=_say
    )
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


COMMANDS: Final[dict[str, Command]] = {
    "serve": _serve,
    "engine": _engine,
    "listen": _listen,
    "transcribe": _transcribe,
    "ask": _ask,
    "pull": _pull,
    "doctor": _doctor,
    "sessions list": _kept(stored_sessions.list_sessions),
    "sessions show": _kept(stored_sessions.show),
    "sessions export": _kept(stored_sessions.export_session),
    "sessions delete": _kept(stored_sessions.delete),
}


if __name__ == "__main__":
    sys.exit(main())
