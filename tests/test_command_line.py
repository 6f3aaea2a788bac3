"""What the command line says to people: first what it is doing, and mistakes in plain words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from af3stream import recordings
from af3stream.cli import main
from af3stream.config import Config
from af3stream.errors import quoted

HEAVY = ("torch", "transformers", "faster_whisper", "ctranslate2", "numpy", "websockets")

UP_TO_THE_FIRST_LINE = f"""
import json, os, sys

class First:
    def write(self, text):
        print(json.dumps([text, sorted(set({HEAVY!r}) & sys.modules.keys())]), flush=True)
        os._exit(0)

sys.stderr = First()
from af3stream.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["serve"], "starting a server with mini"),
        (["serve", "--cluster", "head:6379"], "joining the cluster head:6379"),
        (["engine", "--cluster", "head:6379"], "joining the cluster head:6379"),
        (["doctor"], "checking this machine"),
        (["transcribe", "a.wav", "b.wav"], "loading mini to caption a.wav, b.wav"),
        (["ask", "a.wav", "--question", "Who?"], "loading mini to answer questions about a.wav"),
        (["pull", "mini"], "looking for mini"),
    ],
)
def test_a_command_says_what_it_is_doing_before_it_imports_what_is_slow_to_import(
    command: list[str], said: str
) -> None:
    program = [sys.executable, "-c", UP_TO_THE_FIRST_LINE, *command]
    line, imported = json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
    assert line == f"af3stream: {said}"
    assert imported == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [("minni", "'minni'"), ("don't\\", "'don't\\'"), ("two\nlines\x1b[2J", "'two lines [2J'"), (5, "'5'")],
)
def test_what_a_person_wrote_is_quoted_as_it_was_written(text: object, shown: str) -> None:
    assert quoted(text) == shown


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["serve", "--set", "audio.mode=loud"], "audio.mode: invalid enum value 'loud'; known: speech, everything"),
        (["serve", "--set", "server.port=70000"], "server.port: expected int <= 65535"),
        (
            ["serve", "--cluster", "head:6379", "--port", "0"],
            "a cluster needs a journal that all gateways share: set journal.folder and journal.shared",
        ),
        (["serve", "--set", "don't"], "--set takes section.key=value, not 'don't'"),
        (["transcribe", "a.wav", "--set", "captions.beam=[1]"], "captions.beam: expected int, got array"),
        (["listen", "-", "--ask", "@x don't"], "a timed question reads '@12.5 text', not '@x don't'"),
        (
            ["transcribe", "a.wav", "--vocabulary", "no-such"],
            "cannot read the vocabulary 'no-such': No such file or directory",
        ),
        (["listen", "-", "--vocabulary", "no-such"], "cannot read the vocabulary 'no-such': No such file or directory"),
        (["listen", "-", "--server", "don't"], "'don't' is not an address of the form ws://host:port"),
    ],
)
def test_a_mistake_is_told_in_plain_words(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", sys.__stdin__)
    assert main(words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"af3stream: {complaint}"


def test_a_count_that_is_none_is_told_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("0", "-1", "many"):
        with pytest.raises(SystemExit):
            main(["ask", "a.wav", "--question", "Who?", f"--max-tokens={wrong}"])
        assert f"--max-tokens: '{wrong}' is no whole number from 1 on" in capsys.readouterr().err


def test_options_of_captions_are_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Config] = []
    (tmp_path / "names").write_text("Zoë Ugarte\n\n  Kubernetes  \n", encoding="utf-8")
    monkeypatch.setattr(recordings, "transcribe", lambda arguments, config, *_: asked.append(config))
    options = ["--language", "es", "--languages", "es, en", "--translate", "--vocabulary", str(tmp_path / "names")]
    assert main(["transcribe", "a.wav"]) == main(["transcribe", "a.wav", *options]) == 0
    plain, told = (config.captions for config in asked)
    assert (plain.language, plain.languages, plain.task, plain.vocabulary) == ("auto", (), "transcribe", ())
    assert (told.language, told.languages, told.task) == ("es", ("es", "en"), "translate")
    assert told.vocabulary == ("Zoë Ugarte", "Kubernetes")
