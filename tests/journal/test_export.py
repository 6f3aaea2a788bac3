"""What was appended, as files that other programs read."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from af3stream.audio.pcm import AudioFormat
from af3stream.errors import DataLoss, NoSession, SourceError
from af3stream.journal.export import export
from af3stream.journal.journal import Journal
from af3stream.journal.records import EventRecord, GapRecord, Record
from af3stream.protocol.messages import Answer, Caption, CaptionUpdate, Sound, SpeakerNamed, SpeakerUpdate, Word
from tests.journal.scenes import Told, audio, facts, joined, pcm, running, until

RATE = 8_000
SOUND: list[Record] = [
    *audio(0, 2 * RATE),
    GapRecord(2 * RATE, 3_000),
    GapRecord(2 * RATE + 3_000, 1_000),
    *audio(2 * RATE + 4_000, 4 * RATE),
]
MESSAGES = [
    Caption(1, "And then?", 2.6, 3.5, final=True),
    Answer("q", "Nothing.", 0.0, 2.0, 1, 2, "stop"),
    Caption(0, "It began <here>.", 0.5, 1.75, final=True),
]
EVENTS = [EventRecord(number, msgspec.json.encode(message)) for number, message in enumerate(MESSAGES, start=1)]


def keep(journal: Journal, records: list[Record], audio_format: AudioFormat, finish: bool) -> None:
    journal.create(facts("talk", audio_format))
    journal.append("talk", records, told := Told())
    told.wait(lambda commit: commit.error is None)
    if finish:
        journal.finish("talk")


@pytest.mark.parametrize("finish", [False, True], ids=["live", "finished"])
def test_a_session_in_every_format(tmp_path: Path, finish: bool) -> None:
    with running(tmp_path / "journal", segment_s=1.0) as journal:
        keep(journal, [*SOUND, *EVENTS], AudioFormat("pcm_s16le", RATE), finish)
        paths = export(journal, "talk", tmp_path / "out", ("wav", "flac", "vtt", "srt", "json"))
    assert [path.name for path in paths] == ["talk.wav", "talk.flac", "talk.vtt", "talk.srt", "talk.json"]
    for path in paths[:2]:
        samples, rate = soundfile.read(path, dtype="int16")
        assert (samples.tobytes(), rate) == (joined(SOUND), RATE)  # type: ignore[arg-type]
    assert paths[2].read_text() == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.750\nIt began &lt;here&gt;.\n\n"
        "00:00:02.000 --> 00:00:02.600\n[lost]\n\n"
        "00:00:02.600 --> 00:00:03.600\nAnd then?\n\n"
    )
    assert paths[3].read_text().startswith("1\n00:00:00,500 --> 00:00:01,750\nIt began <here>.\n\n2\n")
    told = json.loads(paths[4].read_text())
    assert (told["session"], told["frames"], told["seconds"]) == ("talk", 4 * RATE, 4.0)
    assert told["lost"] == [{"start": 2.0, "end": 2.5}]
    assert [row["message"] for row in told["events"]] == [json.loads(record.message) for record in EVENTS]


def test_cues_are_cut_by_the_times_of_words_that_are_the_corrected_ones(tmp_path: Path) -> None:
    def said(*words: tuple[str, float, float]) -> tuple[Word, ...]:
        return tuple(Word(text, start, end, 0.5) for text, start, end in words)

    told = [
        Caption(0, "Its begun.", 0.5, 3.0, final=True, words=said(("Its", 0.75, 1.0), ("begun.", 1.0, 1.5))),
        CaptionUpdate(
            0, "It has begun.", 0.5, 3.0, words=said(("It", 0.75, 0.9), ("has", 0.9, 1.0), ("begun.", 1.0, 2.0))
        ),
    ]
    events = [EventRecord(number, msgspec.json.encode(message)) for number, message in enumerate(told, start=1)]
    with running(tmp_path / "journal") as journal:
        keep(journal, [*audio(0, 4 * RATE), *events], AudioFormat("pcm_s16le", RATE), finish=True)
        vtt, srt, exported = export(journal, "talk", tmp_path / "out", ("vtt", "srt", "json"))
    assert vtt.read_text() == "WEBVTT\n\n00:00:00.750 --> 00:00:02.000\nIt has begun.\n\n"
    assert srt.read_text() == "1\n00:00:00,750 --> 00:00:02,000\nIt has begun.\n\n"
    rows = [row["message"]["words"] for row in json.loads(exported.read_text())["events"]]
    assert rows[1][0] == {"text": "It", "start": 0.75, "end": 0.9, "probability": 0.5}


def test_sounds_are_cues_in_their_place(tmp_path: Path) -> None:
    told = [
        Caption(0, "It began.", 0.5, 1.5, final=True),
        Caption(1, "And then?", 2.6, 3.6, final=True),
        Sound("[music]", 1.5, 2.5),
        Sound("[music]", 1.5, 2.5),  # told again after a restart
    ]
    events = [EventRecord(number, msgspec.json.encode(message)) for number, message in enumerate(told, start=1)]
    with running(tmp_path / "journal") as journal:
        keep(journal, [*audio(0, 4 * RATE), *events], AudioFormat("pcm_s16le", RATE), finish=True)
        vtt, exported = export(journal, "talk", tmp_path / "out", ("vtt", "json"))
    cues = vtt.read_text().split("\n\n")[1:-1]
    assert [cue.split("\n")[1] for cue in cues] == ["It began.", "[music]", "And then?"]
    assert json.loads(exported.read_text())["events"][2]["message"] == {
        "type": "sound",
        "text": "[music]",
        "start": 1.5,
        "end": 2.5,
    }


@pytest.mark.parametrize("audio_format", [AudioFormat("pcm_f32le", 16_000, 2), AudioFormat("mulaw", 8_000)])
def test_other_sample_formats(tmp_path: Path, audio_format: AudioFormat) -> None:
    from af3stream.audio.pcm import _MULAW

    with running(tmp_path / "journal") as journal:
        keep(journal, audio(0, 4_000, audio_format), audio_format, finish=True)
        wav, flac = export(journal, "talk", tmp_path, ("wav", "flac"))
    raw = np.frombuffer(pcm(0, 4_000, audio_format), "<f4" if audio_format.format == "pcm_f32le" else "u1")
    expected = raw.reshape(-1, audio_format.channels) if audio_format.format == "pcm_f32le" else _MULAW[raw][:, None]
    samples, rate = soundfile.read(wav, dtype="float32", always_2d=True)
    assert rate == audio_format.rate
    np.testing.assert_array_equal(samples, expected)
    lossless, _ = soundfile.read(flac, dtype="float32", always_2d=True)
    np.testing.assert_allclose(lossless, expected, atol=2**-23)


def test_an_empty_session_is_exported_too(tmp_path: Path) -> None:
    with running(tmp_path / "journal") as journal:
        journal.create(facts())
        wav, vtt, _, _ = export(journal, "talk", tmp_path)
    assert soundfile.info(wav).frames == 0 and vtt.read_text() == "WEBVTT\n\n"


def test_damaged_audio_is_refused_and_no_part_of_it_left(tmp_path: Path) -> None:
    with running(tmp_path / "journal") as journal:
        keep(journal, SOUND, AudioFormat("pcm_s16le", RATE), finish=True)
        talk = tmp_path / "journal/sessions/talk"
        until(lambda: not list(talk.glob("*.raw")))
    (flac,) = talk.glob("*.flac")
    flac.write_bytes(flac.read_bytes()[:-100])
    with running(tmp_path / "journal") as journal, pytest.raises(DataLoss, match=f"frames 0 to {4 * RATE}"):
        export(journal, "talk", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with running(tmp_path / "journal") as journal:
        with pytest.raises(NoSession):
            export(journal, "absent", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        journal.create(facts())
        with pytest.raises(SourceError, match=r"not as .mp3"):
            export(journal, "talk", tmp_path, ("mp3",))  # type: ignore[arg-type]
        with pytest.raises(SourceError, match="cannot export"):
            export(journal, "talk", tmp_path / "file/out")


def test_captions_say_who_speaks_by_name_or_number(tmp_path: Path) -> None:
    messages = [
        Caption(0, "Good morning. " * 12, 0.0, 9.0, final=True, speaker=1),
        Caption(1, "Who is it?", 9.0, 10.0, final=True, speaker=2),
        SpeakerNamed(1, "An<na>"),
        SpeakerUpdate(1, 3),
        SpeakerNamed(3, "Ben"),
        Caption(2, "No.", 10.0, 11.0, final=True, speaker=4),
        SpeakerNamed(3, ""),
    ]
    events = [EventRecord(number, msgspec.json.encode(message)) for number, message in enumerate(messages, start=1)]
    with running(tmp_path / "journal") as journal:
        keep(journal, [*audio(0, RATE), *events], AudioFormat("pcm_s16le", RATE), finish=True)
        vtt, srt, record = export(journal, "talk", tmp_path, ("vtt", "srt", "json"))
    assert vtt.read_text().count("<v An&lt;na&gt;>Good morning.") == 2
    assert "<v Speaker 3>Who is it?" in vtt.read_text()
    assert "<v Speaker 4>No." in vtt.read_text()
    assert srt.read_text().count("An<na>: Good morning.") == 1
    assert "\nSpeaker 3: Who is it?\n" in srt.read_text()
    assert json.loads(record.read_text())["speakers"] == {"1": "An<na>"}
