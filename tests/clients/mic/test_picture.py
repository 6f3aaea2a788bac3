"""Draw the picture of ``docs/microphone.md``: ``AF3STREAM_MIC_PNG=docs/microphone.png pytest tests/clients/mic``.

It shows the view with the output of ``mini`` and whisper-base for the sample recordings.
"""

from __future__ import annotations

import os
import re
import sys

import numpy as np
import pytest
import soundfile
from playwright.async_api import async_playwright
from textual.widgets import Input

from af3stream.listen import ListenOptions
from af3stream.protocol.messages import Ack, Answer, AnswerDelta, Ask, Audio, Caption, Speech, Watch, WatchHit, Window
from af3stream_clients.mic.app import MicrophoneApp
from tests.client.scripted_server import Peer, final, serving
from tests.clients.mic.fakes import BLOCK_FRAMES, FakeSounddevice
from tests.clients.mic.test_terminal import shown, until
from tests.conftest import RECORDINGS

PICTURE = os.environ.get("AF3STREAM_MIC_PNG")
pytestmark = pytest.mark.skipif(PICTURE is None, reason="AF3STREAM_MIC_PNG names no file for the picture")

FIRST = (
    "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his power to do for them."
)
CAPTIONS = (
    (FIRST, 0, 7),
    ("He was not an ill-disposed young man.", 7.9, 11),
    ("Unless to be rather cold-hearted and rather selfish is to be ill-disposed.", 11.8, 17.5),
    ("Had he married a more amiable woman, he might have been made still more respectable than he was.", 18.4, 24.6),
)
OPEN = "He might even have been made amiable himself"
RATE = 16_000


async def conversation(peer: Peer) -> None:
    await peer.open(model="mini", received=25 * RATE, processed=18 * RATE)
    watch = await peer.receive()
    assert isinstance(watch, Watch)
    await peer.send(*(final(text, start, end, number) for number, (text, start, end) in enumerate(CAPTIONS)))
    await peer.send(Window(0, 0, 17.5, 442), WatchHit("w1", "Yes.", 0, 17.5), Speech("started", 25.2))
    await peer.send(Caption(4, OPEN, 25.2, 27.6, final=False, stable=OPEN[:18]))
    while not isinstance(message := await peer.receive(), Ask):
        if isinstance(message, Audio):
            await peer.send(Ack(message.offset + len(message.pcm) // 2, 0))
    await peer.send(Answer(message.id, "Mr. John Dashwood.", start=0, end=25.9, windows=2, tokens=6, finish="stop"))
    while not isinstance(message := await peer.receive(), Ask):
        pass
    await peer.send(AnswerDelta(message.id, "He was not an ill-disposed"))
    while True:
        await peer.receive()


async def test_picture_for_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PICTURE
    microphone = FakeSounddevice()
    monkeypatch.setitem(sys.modules, "sounddevice", microphone)
    samples, _ = soundfile.read(next(RECORDINGS.glob("*0930.wav")), dtype="int16")
    async with serving(conversation) as server:
        app = MicrophoneApp(ListenOptions("mic", server.url, watches=("Is a young man described?",), device="room"))
        async with app.run_test(size=(108, 28)) as pilot:
            await until(pilot, lambda: OPEN in shown(app, "captions"))
            for question, answer in (("Who is this about?", "Mr. John"), ("> What kind of man?", "ill-disposed")):
                app.query_one(Input).value = question
                await pilot.press("enter")
                await until(pilot, lambda answer=answer: answer in shown(app, "questions"))
            for block in np.split(samples[: 12 * BLOCK_FRAMES], 12):
                microphone.speak(block.astype("<i2").tobytes())
                await pilot.pause(0.1)
            await pilot.pause(0.3)
            drawn = app.export_screenshot(title="af3stream-mic")
    await save(drawn, PICTURE)


async def save(svg: str, path: str) -> None:
    """Render an SVG with the installed fonts."""
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1400, "height": 900})
        await page.set_content(f"<body style='margin:0'>{svg}</body>")
        await page.locator("svg").first.screenshot(path=path, omit_background=True)
        await browser.close()
