"""`transcribe` and `ask`: what is printed, what is written, and what is said meanwhile."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from af3stream import recordings
from af3stream.cli import main
from af3stream.engine.counters import Counters
from af3stream.engine.factory import Loaded
from af3stream.engine.scripted import ScriptedCaptioner, ScriptedEngine
from af3stream.recordings import ProgressLine
from tests.audio.audio_scenes import scene_vad, sound
from tests.session.conversation import SENTENCE, SILENCE

Run = Callable[..., tuple[list[str], list[str]]]


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Two sentences, of two words each."""
    soundfile.write(tmp_path / "talk.wav", sound(2 * SENTENCE), 16_000)
    return tmp_path / "talk.wav"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """One more sentence."""
    soundfile.write(tmp_path / "other.flac", sound(SENTENCE), 16_000)
    return tmp_path / "other.flac"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`run(*words)`: a command over the scripted engine; the lines of its output, and those of its error stream."""
    loaded: list[Loaded] = []

    def load(*_: object) -> Loaded:
        loaded.append(Loaded(ScriptedEngine(windows=3), "all", None))
        return loaded[-1]

    def run(*words: str | Path, code: int = 0, loads: int = 1) -> tuple[list[str], list[str]]:
        assert main([str(word) for word in words]) == code
        assert len(loaded) == loads
        out, err = capsys.readouterr()
        return out.splitlines(), err.splitlines()

    monkeypatch.setattr(recordings, "load_engine", load)
    with scene_vad():
        yield run


# ---- transcribe ------------------------------------------------------------------------------------------------------


def test_captions_are_printed_with_their_times(run: Run, talk: Path) -> None:
    out, err = run("transcribe", talk)
    assert out == ["[    0.00 -     1.24]  word1 word2.", "[    1.76 -     3.24]  word1 word2."]
    assert err == [
        f"af3stream: loading mini to caption {talk}",
        f"af3stream: captioning {talk}: 0:00:00.0 of 0:00:04.0",
    ]


def test_a_captioner_without_word_times_has_captions_all_the_same(
    run: Run, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedCaptioner, "times_words", False)
    out, _ = run("transcribe", talk, "--json")
    assert json.loads(out[0])["captions"][0] == {"start": 0.0, "end": 1.24, "text": "word1 word2."}


def test_nothing_is_aligned_for_captions_that_are_only_printed(
    run: Run, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = Counters()
    monkeypatch.setattr("af3stream.engine.scripted.Counters", lambda: counters)
    run("transcribe", talk)
    assert counters.caption_encodes and not counters.alignments


def test_captions_of_several_files_are_headed_by_their_names(run: Run, talk: Path, other: Path) -> None:
    out, err = run("transcribe", talk, other)
    assert [line for line in out if line.startswith("==>")] == [f"==> {talk} <==", f"==> {other} <=="]
    assert [line.partition(": 0:")[0] for line in err[1:]] == [
        f"af3stream: captioning {talk}",
        f"af3stream: captioning {other}",
    ]


def test_a_json_line_has_the_captions_too(run: Run, talk: Path) -> None:
    out, _ = run("transcribe", talk, "--json")
    (record,) = map(json.loads, out)
    timed = [caption.pop("words") for caption in record["captions"]]
    assert [[(word["text"], word["start"], word["end"]) for word in words] for words in timed] == [
        [("word1", 0.0, 0.5), ("word2.", 0.5, 1.0)],
        [("word1", 1.76, 2.26), ("word2.", 2.26, 2.76)],
    ]
    assert record | {"rtf": 0} == {
        "file": str(talk),
        "text": "word1 word2. word1 word2.",
        "seconds": 4.0,
        "rtf": 0,
        "captions": [
            {"start": 0.0, "end": 1.24, "text": "word1 word2."},
            {"start": 1.76, "end": 3.24, "text": "word1 word2."},
        ],
    }


def test_a_folder_takes_all_formats_of_every_file(run: Run, talk: Path, other: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "captions"
    out, _ = run("transcribe", talk, other, "--to", folder)
    names = [f"{stem}.{kind}" for stem in ("talk", "other") for kind in ("vtt", "srt", "json")]
    assert out == [str(folder / name) for name in names]
    assert (folder / "talk.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nword1 word2.\n")
    assert (folder / "talk.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:01,000\nword1 word2.\n")
    assert json.loads((folder / "other.json").read_text())["text"] == "word1 word2."


def test_formats_may_be_chosen_and_json_lines_printed_beside_them(
    run: Run, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    out, _ = run("transcribe", talk, "--format", "srt", "--format", "vtt", "--json")
    assert sorted(path.name for path in Path().iterdir()) == ["talk.srt", "talk.vtt"]
    assert [json.loads(line)["file"] for line in out] == [str(talk)]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["talk.wav", "a/talk.wav"], "the captions of talk.wav and a/talk.wav would both be written to talk.vtt"),
        (["talk.wav", "--to", "talk.wav"], "cannot write captions to talk.wav: File exists"),
        (["a/speech.vtt", "--to", "a"], "the captions of a/speech.vtt would be written over it"),
        (["talk.wav", "none.wav"], "cannot read none.wav: No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_said_before_a_model_is_loaded(
    run: Run, talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    for copy in ("a/talk.wav", "a/speech.vtt"):
        (tmp_path / copy).write_bytes(talk.read_bytes())
    _, err = run("transcribe", *words, "--format", "vtt", code=2, loads=0)
    assert err[-1] == f"af3stream: {complaint}"


# ---- ask -------------------------------------------------------------------------------------------------------------

READ = "<- 3.24s | [0:00] word1 word2. [0:01] word1 word2."


def test_an_answer_stands_alone_on_standard_output(run: Run, talk: Path) -> None:
    out, err = run("ask", talk, "--question", "Who?")
    assert out == [f"Who? {READ}"]
    assert err == [
        f"af3stream: loading mini to answer questions about {talk}",
        f"af3stream: captioning {talk}: 0:00:00.0 of 0:00:04.0",
    ]


def test_several_answers_stand_below_their_questions_and_one_may_follow_another(run: Run, talk: Path) -> None:
    out, _ = run("ask", talk, "--question", "Who?", "--question", "> And why?")
    assert out == ["? Who?", f" -> Who? {READ}", "? And why?", f" -> And why? {READ} | (Who? Who? {READ})"]


def test_a_json_line_a_question_says_what_was_read(run: Run, talk: Path) -> None:
    out, _ = run("ask", talk, "--question", "Who?", "--question", "> Why?", "--json", "--max-tokens", "3")
    first, second = map(json.loads, out)
    assert first | {"ttft_s": 0, "rtf": 0} == {
        "file": str(talk),
        "question": "Who?",
        "text": "Who? <- 3.24s",
        "range": [0.0, 3.24],
        "heard_until": 3.24,
        "captions_from": 0.0,
        "captioned_until": 3.24,
        "ttft_s": 0,
        "rtf": 0,
    }
    assert second["question"] == "Why?"


def test_by_ear_no_captions_are_read(run: Run, talk: Path) -> None:
    out, err = run("ask", talk, "--question", "Who?", "--by-ear")
    assert out == ["Who? <- 3.24s"]
    assert err[-1].startswith(f"af3stream: hearing {talk}")


def test_what_a_long_file_leaves_out_is_said_once(run: Run, tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, sound(120 * SENTENCE), 16_000)
    options = ("--question", "Who?", "--question", "Why?", "--set", "questions.notes_max_tokens=30")
    out, err = run("ask", long, *options)
    assert len([line for line in out if line.startswith(" -> ")]) == 2
    (told,) = [line for line in err if "longer" in line]
    assert told.startswith(f"af3stream: {long} is longer than the context window: what came before 0:0")
    assert " is read as captions, and what came before 0:0" in told and told.endswith(" is left out")


def test_a_file_without_speech_is_told_what_hears_other_sounds(run: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "quiet.wav", sound(3 * SILENCE), 16_000)
    out, err = run("ask", tmp_path / "quiet.wav", "--question", "Who?")
    assert out == ["Nothing was heard in this range."]
    assert "audio.mode=everything" in err[-1]


@pytest.mark.parametrize(
    ("spelled", "complaint"),
    [
        ("@5 Who?", "a question about a file is asked when all of it was heard, not at 5 s"),
        ("> ", "a question has no text"),
        ("x" * 2_001, "a question may have 2000 characters"),
    ],
)
def test_what_cannot_be_asked_is_said_before_a_model_is_loaded(
    run: Run, talk: Path, spelled: str, complaint: str
) -> None:
    _, err = run("ask", talk, "--question", spelled, code=2, loads=0)
    assert err[-1] == f"af3stream: {complaint}"


# ---- progress --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Standard error, if a person looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_terminal_shows_one_line_that_is_rewritten_and_removed(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "48")
    out = Terminal()
    with ProgressLine("captioning a.wav", 60.0, out) as line:
        for seconds, clock[0] in ((1.0, 0.05), (2.0, 0.1), (3.0, 0.15)):
            line.at(seconds)
    shown = [text.replace("\x1b[K", "") for text in out.getvalue().split("\r")[1:]]
    lines = [f"af3stream: captioning a.wav: 0:00:0{second}.0 of 0:01:00.0" for second in (0, 2)]
    assert shown == [*(line[:47] for line in lines), ""]


def test_a_line_of_output_takes_the_place_of_the_progress(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    out = Terminal()
    with ProgressLine("captioning a.wav", None, out) as line:
        line.print("words")
        assert out.getvalue().endswith("\r\x1b[K")
        line.at(1.0)
        assert out.getvalue().endswith("af3stream: captioning a.wav: 0:00:01.0")
    assert capsys.readouterr().out == "words\n"


def test_a_log_gets_a_line_now_and_then(clock: list[float]) -> None:
    out = io.StringIO()
    with ProgressLine("captioning a.wav", 60.0, out) as line:
        for clock[0] in range(1, 21):
            line.at(clock[0])
    assert [line.split()[-3] for line in out.getvalue().splitlines()] == ["0:00:00.0", "0:00:10.0", "0:00:20.0"]
