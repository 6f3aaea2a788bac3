"""The terminal view, driven by keys, with a scripted server and a fake microphone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import numpy as np
import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Input, Static

from af3stream.listen import ListenOptions
from af3stream.listen import sources as sources_module
from af3stream.protocol.messages import (
    Ask,
    Audio,
    CaptionUpdate,
    End,
    Gap,
    SpeakerNamed,
    SpeakerUpdate,
    Speech,
    Start,
    Watch,
    WatchHit,
    Window,
)
from af3stream_clients.mic.__main__ import main
from af3stream_clients.mic.app import MicrophoneApp
from tests.client.scripted_server import Peer, converse, final, interim, polite, serving
from tests.clients.mic.fakes import BLOCK_FRAMES, FakeSounddevice

LOUD = np.full(BLOCK_FRAMES, 16_384, "<i2").tobytes()
SILENT = bytes(2 * BLOCK_FRAMES)


@pytest.fixture
def microphone(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    fake = FakeSounddevice()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


async def talkative(peer: Peer) -> None:
    """Send a message of every kind after the first watch, then act as a polite server."""
    await peer.open()
    assert isinstance(await peer.receive(), Watch)
    await peer.send(Speech("started", 0.0), interim("Call me", 0.0, 1.0))
    await peer.send(final("Call me [b]Ishmael.", 0.0, 1.5), Window(0, 0.0, 1.5, 38))
    await peer.send(final("Sum ears ago.", 1.5, 2.0, 1), CaptionUpdate(1, "Some years ago.", 1.5, 2.0))
    await peer.send(interim("never mind", 2.0, 3.0, 2), WatchHit("w1", "A sailor is.", 0.0, 1.5))
    await converse(peer)


def shown(app: MicrophoneApp, place: str) -> str:
    """Return the text of a part of the screen."""
    return "\n".join(str(each.content) for each in app.query(f"#{place}, #{place} Static").results(Static))


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await pilot.pause(0.02)


async def test_screen_shows_captions_windows_and_the_answer_to_a_typed_question(microphone: FakeSounddevice):
    async with serving(talkative) as server:
        app = MicrophoneApp(ListenOptions("mic", server.url, watches=("Who is named?",), device="room"))
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "A sailor is." in shown(app, "questions"))
            assert "0:00:00.0  Call me [b]Ishmael." in shown(app, "captions")
            assert "0:00:01.5  Some years ago." in shown(app, "captions")
            assert "never mind" in shown(app, "captions") and "Sum ears" not in shown(app, "captions")
            assert "1  0:00:00.0 to 0:00:01.5  38 tokens" in shown(app, "windows")
            assert "Who is named?\nA sailor is.\nHeard 0:00:00.0 to 0:00:01.5" in shown(app, "questions")

            microphone.speak(LOUD)
            await until(pilot, lambda: "███" in shown(app, "status"))
            assert "● listening   room" in shown(app, "status")
            await until(pilot, lambda: "lag 0.0 s" in shown(app, "status"))

            await pilot.press(*"Who?", "enter")
            await until(pilot, lambda: "Who?\nWho?\nHeard 0:00" in shown(app, "questions"))

            await pilot.press("ctrl+c")
            await until(pilot, lambda: "○ finished" in shown(app, "status"))
            assert "0.1 s received" in shown(app, "captions")
            assert "Call me [b]Ishmael." in shown(app, "captions")  # the screen stays open
            await pilot.press("ctrl+c")
    assert app.return_value is None
    assert app.problem == ""
    assert [type(message) for message in server.heard[1:]] == [Watch, Audio, Ask, End]
    assert microphone.closed


async def test_rows_name_speakers_and_show_translations(microphone: FakeSounddevice):
    async def bilingual(peer: Peer) -> None:
        await peer.open()
        await peer.send(
            replace(final("Buenos días.", 0.0, 1.0), speaker=1, translation="Good morning."),
            replace(final("¿Qué tal?", 1.0, 2.0, 1), speaker=1, translation="How is it going?"),
            replace(final("Bien.", 2.0, 3.0, 2), speaker=2),
            SpeakerUpdate(1, 2),
            CaptionUpdate(0, "Buenas noches.", 0.0, 1.0, translation="Good night."),
            SpeakerNamed(2, "Ana\x1b"),
        )
        await converse(peer)

    async with serving(bilingual) as server:
        options = ListenOptions("mic", server.url, language="es", translate=True, speakers=2)
        app = MicrophoneApp(options)
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "Ana" in shown(app, "captions"))
            assert shown(app, "captions").splitlines() == [
                "0:00:00.0  Speaker 1: Buenas noches.",
                "           Good night.",
                "0:00:01.0  Ana : ¿Qué tal?",
                "           How is it going?",
                "0:00:02.0  Ana : Bien.",
            ]
            await pilot.press("ctrl+q")
    start = server.heard[0]
    assert isinstance(start, Start)
    assert (start.language, start.task, start.speakers) == ("es", "translate", 2)


async def test_follow_up_names_and_follows_the_answer_before_it(microphone: FakeSounddevice):
    async with serving(talkative) as server:
        app = MicrophoneApp(ListenOptions("mic", server.url, watches=("Who is named?",)))
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "A sailor is." in shown(app, "questions"))
            field = app.query_one(Input)
            await pilot.press(*"Who?", "enter")
            await until(pilot, lambda: "Who?\nWho?\nHeard" in shown(app, "questions"))

            await pilot.press(*"> Why?")
            await until(pilot, lambda: field.border_title == "reply to: Who?")
            await pilot.press("enter")
            await until(pilot, lambda: "Why?\nWhy?\nHeard" in shown(app, "questions"))
            assert not field.border_title

            await pilot.press(*"When?", "ctrl+r")
            assert field.value == "> When?"
            await pilot.press("ctrl+r")
            assert field.value == "When?"
            await pilot.press("ctrl+r", "enter")
            await until(pilot, lambda: "When?\nWhen?\nHeard" in shown(app, "questions"))
            replies = [str(each.content).partition("\n")[0] for each in app.query("#questions .reply").results(Static)]
            assert replies == ["Why?", "When?"]
            await pilot.press("ctrl+q")
    asked = [message for message in server.heard if isinstance(message, Ask)]
    assert [message.after for message in asked] == [None, asked[0].id, asked[1].id]


async def test_follow_up_is_not_sent_to_a_server_without_follow_ups(microphone: FakeSounddevice):
    async def plain(peer: Peer) -> None:
        await peer.open(features=())
        await converse(peer)

    async with serving(plain) as server:
        app = MicrophoneApp(ListenOptions("mic", server.url))
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "● listening" in shown(app, "status"))
            await pilot.press(*"> Why?", "enter")
            await until(pilot, lambda: "takes no questions that follow up others" in shown(app, "captions"))
            assert app.query_one(Input).value == "> Why?"  # stays, so that the user can change it
            await pilot.press("ctrl+q")
    assert not any(isinstance(message, Ask) for message in server.heard)


async def test_audio_lost_to_a_full_buffer_is_a_gap_and_a_transcript_line(
    microphone: FakeSounddevice, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources_module, "CAPTURE_BLOCKS", 5)
    async with serving(polite) as server:
        app = MicrophoneApp(ListenOptions("mic", server.url))
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "● listening" in shown(app, "status"))
            for _ in range(8):  # nothing is read meanwhile
                microphone.speak(LOUD)
            await until(pilot, lambda: "0:00:00.5  [0.3 s lost]" in shown(app, "captions"))
            await until(pilot, lambda: "0.3 s lost" in shown(app, "status"))
            await until(pilot, lambda: Gap(5 * BLOCK_FRAMES, 3 * BLOCK_FRAMES) in server.heard)
            await pilot.press("ctrl+q")


async def test_microphone_with_only_zeros_is_reported_as_muted(microphone: FakeSounddevice):
    async with serving(polite) as server:
        app = MicrophoneApp(ListenOptions("mic", server.url))
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "● listening" in shown(app, "status"))
            for _ in range(29):
                microphone.speak(SILENT)
            await until(pilot, lambda: app._mute_detector.zeros_s > 2.8)
            await pilot.pause(0.2)
            assert "muted" not in shown(app, "status")
            microphone.speak(SILENT)
            await until(pilot, lambda: "no sound: is it muted?" in shown(app, "status"))
            microphone.speak(LOUD)
            await until(pilot, lambda: "muted" not in shown(app, "status"))
            await pilot.press("ctrl+q")


async def test_lag_counts_only_speech_without_a_caption(microphone: FakeSounddevice):
    async def slow(peer: Peer) -> None:
        """Send captions of all speech, but keep the window open."""
        await peer.open()
        assert isinstance(await peer.receive(), Watch)
        await peer.send(Speech("started", 0.0), final("Call me Ishmael.", 0.0, 1.0))
        while True:
            await peer.receive()

    async with serving(slow) as server:
        app = MicrophoneApp(ListenOptions("mic", server.url, watches=("Who is named?",)))
        async with app.run_test(size=(120, 30)) as pilot:
            await until(pilot, lambda: "Ishmael" in shown(app, "captions"))
            assert "Who is named?\nwatched; no answer yet" in shown(app, "questions")
            for _ in range(12):
                microphone.speak(LOUD)
            await until(pilot, lambda: "lag 0.2 s" in shown(app, "status"))
            await pilot.press("ctrl+q")


async def test_failed_start_exits_with_one_sentence(microphone: FakeSounddevice):
    app = MicrophoneApp(ListenOptions("mic", "ws://127.0.0.1:9"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.return_code == 2)
    assert "127.0.0.1:9" in app.problem


def test_devices_are_listed(microphone: FakeSounddevice, capsys: pytest.CaptureFixture[str]):
    assert main(["--devices"]) == 0
    heading, device = capsys.readouterr().out.splitlines()
    assert heading.split() == ["number", "name", "reached", "through", "channels"]
    assert device.split() == ["1", "room", "(default)", "ALSA", "1"]


def test_missing_microphone_is_reported(
    microphone: FakeSounddevice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(microphone, "query_devices", list)
    assert main(["--devices"]) == 2
    assert capsys.readouterr().err == "there is no microphone on this computer\n"


def test_failed_start_of_a_piped_run_prints_one_line(microphone: FakeSounddevice, capsys: pytest.CaptureFixture[str]):
    assert main(["ws://127.0.0.1:9"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
