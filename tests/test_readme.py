"""The commands, programs and files that README.md and docs/ show are there, and work as pasted."""

from __future__ import annotations

import argparse
import ast
import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml

from af3stream import cli
from af3stream.arguments import parser_of
from af3stream.config import Config
from af3stream.listen.options import question
from af3stream.models.card import Card
from af3stream_clients.meeting_bot.rules import load_rules
from tests.server.peers import serving

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
LANGUAGES = {"bash", "python", "toml", "json", "jsonl", "markdown", "text"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVER = "http://127.0.0.1:8765"
TIMEOUT_S = 600  # at low priority on a loaded machine


class Block(NamedTuple):
    """A fenced block: where it begins, its language, and what stands in it."""

    page: Path
    line: int
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Block(page, text[: found.start()].count("\n") + 1, found[1], found[2])


def of(language: str, page: Path | None = None) -> list[Any]:
    chosen = [block for block in blocks() if block.language == language and page in (None, block.page)]
    assert chosen
    return [pytest.param(block, id=f"{block.page.name}-{block.line}") for block in chosen]


def test_every_block_names_its_language() -> None:
    assert [block[:3] for block in blocks() if block.language not in LANGUAGES] == []


# ---- commands --------------------------------------------------------------------------------------------------------


def commands(line: str) -> Iterator[list[str]]:
    """The commands of a pipe, with their words as the shell gives them: without comments, and with files found."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "|"]:
        if word == "|":
            if words:
                yield words
            words = []
        elif "*" in word:
            found = sorted(str(path) for path in ROOT.glob(word))
            assert found, f"no file is named {word}"
            words += found
        else:
            words.append(word)


def parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    try:
        given = parser.parse_args(words)
    except SystemExit:
        pytest.fail(f"these arguments are refused: {words}")
    named = [getattr(given, name, None) for name in ("source", "file", "files", "config", "rules")]
    for value in [each for some in named for each in (some if isinstance(some, list) else [some])]:
        if value is not None and str(value) not in ("-", "mic", "system"):
            assert (ROOT / value).is_file(), f"there is no file {value}"
    return given


def af3stream(words: list[str]) -> None:
    given = parsed(parser_of(cli.COMMANDS), words)
    if hasattr(given, "set"):
        cli._config(given)
    for spelled in [*getattr(given, "ask", []), *getattr(given, "question", [])]:
        question(spelled)


def python(words: list[str]) -> None:
    assert words[0] == "-m"
    module = import_module(f"{words[1]}.__main__")
    given = parsed(module._parser(), words[2:])
    if rules := getattr(given, "rules", None):
        load_rules(ROOT / rules)


def program(package: str, words: list[str]) -> None:
    python(["-m", f"af3stream_clients.{package}", *words])


def make(words: list[str]) -> None:
    subprocess.run(["make", "-n", *words], cwd=ROOT, check=True, capture_output=True)


def pip(words: list[str]) -> None:
    assert words[:2] == ["install", "--editable"]
    assert words[2].startswith(".["), "the project is on no index"


def source(words: list[str]) -> None:
    assert words == [".venv/bin/activate"], "what `make demo` and `make test` make"


def ffmpeg(words: list[str]) -> None:
    assert (ROOT / words[words.index("-i") + 1]).is_file()


def docker(words: list[str]) -> None:
    """Check the files, the target and the profile of a command."""
    options = dict(pairwise(words))
    text = (ROOT / options["-f"]).read_text()
    if words[0] == "build":
        assert f" AS {options['--target']}\n" in text
    else:
        services = yaml.safe_load(text)["services"].values()
        assert options.get("--profile") in {None, *(name for each in services for name in each.get("profiles", []))}


def kubectl(words: list[str]) -> None:
    options = dict(pairwise(words))
    assert all((ROOT / options[name]).exists() for name in ("-f", "-k") if name in options)


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "af3stream": af3stream,
    "python": python,
    "af3stream-captions": partial(program, "captions"),
    "af3stream-mic": partial(program, "mic"),
    "af3stream-bot": partial(program, "meeting_bot"),
    "make": make,
    "pip": pip,
    ".": source,
    "ffmpeg": ffmpeg,
    "tee": lambda words: None,
    "docker": docker,
    "kubectl": kubectl,
}


@pytest.mark.parametrize("block", of("bash"))
def test_commands_are_understood_and_their_files_are_there(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for line in block.text.splitlines():
        for program, *words in commands(line):
            assert program in PROGRAMS, f"no check is known for {program}"
            PROGRAMS[program](words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_extras_files_and_settings_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    extras = {name for found in re.findall(r"(?:af3stream|\.)\[([\w,]+)\]'", text) for name in found.split(",")}
    assert extras <= {*PROJECT["optional-dependencies"]}
    links = [
        link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S))
    ]
    files = [page.parent / link for link in links if link and "://" not in link]
    folders = "configs|deploy|af3stream_clients|scripts|tests|training"
    files += [ROOT / name for name in re.findall(rf"`((?:{folders})/[\w./-]+\w)`", text)]
    assert [file for file in files if not file.exists()] == []
    sections = {field.name: field.type.__struct_fields__ for field in msgspec.structs.fields(Config)}
    settings = re.findall(rf"`(?!model\.safetensors|journal\.db)({'|'.join(sections)})\.(\w+)(?:=[^`]*)?`", text)
    assert [f"{section}.{key}" for section, key in settings if key not in sections[section]] == []


def test_extras_that_messages_name_exist() -> None:
    sources = [path for folder in ("af3stream", "af3stream_clients") for path in (ROOT / folder).rglob("*.py")]
    named = {found for path in sources for found in re.findall(r"af3stream\[(\w+)\]", path.read_text())}
    assert named
    assert named <= {*PROJECT["optional-dependencies"]}


# ---- programs and files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of("python"))
def test_python_is_valid(block: Block) -> None:
    assert ast.parse(block.text).body


@pytest.mark.parametrize("block", of("python", ROOT / "README.md"))
async def test_the_python_program_runs_against_a_server_and_ends(block: Block) -> None:
    assert SERVER in block.text
    async with serving() as service:
        program = block.text.replace(SERVER, service.address)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program),
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    answer, *messages = out.decode().splitlines()
    assert re.search(r"\(0\.0 to \d+\.\d s\)$", answer)
    assert any(message.startswith("Caption(") for message in messages)
    assert messages[-1].startswith("Ended(")


@pytest.mark.parametrize("block", of("toml"))
def test_rules_are_understood(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "whsec_c2VjcmV0")
    (tmp_path / "rules.toml").write_text(block.text)
    assert load_rules(tmp_path / "rules.toml").rule


@pytest.mark.parametrize("block", of("json"))
def test_a_card_is_understood(block: Block) -> None:
    assert json.loads(block.text)
    msgspec.json.decode(block.text, type=Card)
