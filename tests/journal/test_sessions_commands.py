"""`af3stream sessions`: what is kept, for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import soundfile

from af3stream.cli import main
from af3stream.journal.records import EventRecord
from af3stream.protocol.messages import Answer, Caption, CaptionUpdate, Sound, WatchHit
from af3stream.session.event_log import Cut
from tests.journal.scenes import Told, facts, running
from tests.journal.test_export import RATE, SOUND

EVENTS = [
    Caption(0, "It [began].", 0.5, 1.75, final=True),
    Cut(2 * RATE),
    Answer("q1", "Nothing.", 0.0, 2.0, 1, 2, "stop"),
    Caption(1, "And than?", 2.6, 3.5, final=True),
    CaptionUpdate(1, "And then?", 2.6, 3.5),
    Sound("[bell]", 3.5, 4.0),
    WatchHit("w1", "Yes.", 0.0, 3.5),
]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sessions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """`sessions(ACTION, ...)` beside a folder that keeps `talk`: the exit code, and what was printed."""
    with running(tmp_path / "journal") as journal:
        journal.create(facts())
        kept = [EventRecord(number, msgspec.json.encode(event)) for number, event in enumerate(EVENTS, start=1)]
        journal.append("talk", [*SOUND, *kept], told := Told())
        told.durable(4 * RATE, len(EVENTS))
        journal.finish("talk")

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["sessions", *words, "--set", f"journal.folder={tmp_path / 'journal'}"])
        return code, *capsys.readouterr()

    return run


def test_the_list(sessions: Command) -> None:
    code, out, _ = sessions("list")
    (line,) = out.splitlines()[1:]
    assert code == 0 and line.split()[0] == "talk"
    assert "4.0 s" in line and " 7 " in line and line.rstrip().endswith("ended")


def test_what_was_told_and_what_was_lost(sessions: Command) -> None:
    code, out, _ = sessions("show", "talk")
    assert code == 0
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        ["0.50", "It [began]."],
        ["q1", "Nothing.  (0.0 to 2.0 s)"],
        ["2.00", "lost, up to 2.50 s"],
        ["2.60", "And then?"],
        ["3.50", "[bell]"],
        ["w1", "Yes.  (0.0 to 3.5 s)"],
    ]


def test_files(sessions: Command, tmp_path: Path) -> None:
    code, out, _ = sessions("export", "talk", "--to", str(tmp_path), "--format", "wav", "--format", "vtt")
    assert code == 0
    subtitles = (tmp_path / "talk.vtt").read_text()
    assert "And then?" in subtitles and "And than?" not in subtitles
    assert out.splitlines() == [str(tmp_path / "talk.wav"), str(tmp_path / "talk.vtt")]
    assert soundfile.info(tmp_path / "talk.wav").frames == 4 * RATE


def test_deleted_for_good(sessions: Command, tmp_path: Path) -> None:
    assert sessions("delete", "talk")[:2] == (0, "talk is deleted\n")
    assert not list((tmp_path / "journal/sessions").iterdir())
    for action in ("show", "export", "delete"):
        code, out, complaint = sessions(action, "talk")
        assert (code, out) == (2, "")
        assert complaint == "af3stream: there is no session 'talk'; `af3stream sessions list` names those there are\n"


def test_export_of_an_unknown_session_makes_no_folder(sessions: Command, tmp_path: Path) -> None:
    assert sessions("export", "NOSUCH", "--to", str(tmp_path / "out"))[0] == 2
    assert not (tmp_path / "out").exists()


def test_sessions_of_every_port_are_found_without_the_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AF3STREAM_STATE", str(tmp_path))
    for port in ("8765", "9000"):
        with running(tmp_path / port) as journal:
            journal.create(facts(f"talk-{port}"))
    (tmp_path / "other").mkdir()
    assert main(["sessions", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["talk-8765", "talk-9000"]
    assert main(["sessions", "delete", "talk-9000"]) == 0
    assert main(["sessions", "show", "talk-9000"]) == 2
    assert main(["sessions", "show", "talk-8765"]) == 0
    assert [*(tmp_path / "other").iterdir()] == []


def test_no_server_has_kept_anything_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AF3STREAM_STATE", str(tmp_path / "state"))
    assert main(["sessions", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == []
    assert not (tmp_path / "state").exists()


def test_a_configuration_that_keeps_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sessions", "list", "--set", "journal.folder="]) == 2
    assert "keeps no sessions" in capsys.readouterr().err
