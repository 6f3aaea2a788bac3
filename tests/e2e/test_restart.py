"""A server that is killed in the middle of a talk: the client goes on by itself, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from af3stream import offline
from af3stream.audio.files import stream_blocks
from af3stream.client import connect
from af3stream.config import JournalConfig, load
from af3stream.engine.factory import load_engine
from af3stream.journal.journal import Journal
from af3stream.journal.records import AudioRecord
from af3stream.protocol import messages as m
from af3stream.protocol.final_captions import FinalCaptions
from af3stream.server.ports import free_port

pytestmark = pytest.mark.mini

START_TIMEOUT_S = 180  # a busy machine


class KillableServer:
    """`af3stream serve` in a process of its own, with its journal in a folder."""

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        self.port = free_port()
        self._folder, self._options = folder, options

    def start(self) -> None:
        command = [sys.executable, "-m", "af3stream.cli", "serve", "--port", str(self.port)]
        journal = f"journal.folder={self._folder}"
        with (self._folder.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options, "--set", journal], stdout=log, stderr=log, env=os.environ
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        self.stop(signal.SIGKILL)
        raise AssertionError((self._folder.parent / "log").read_text())

    def stop(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(60)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_talk_goes_on_over_a_restart(
    quick_start: tuple[str, ...], recording: Path, tmp_path: Path, how: signal.Signals
) -> None:
    server = KillableServer(tmp_path / "journal", quick_start)
    server.start()
    try:
        session, said = asyncio.run(talk(server, recording, how))
    finally:
        server.stop(signal.SIGTERM)
    finals = [message for message in said if isinstance(message, m.Caption) and message.final]
    assert len({final.utterance for final in finals}) == len(finals)
    (ended,) = [message for message in said if isinstance(message, m.Ended)]
    answers = [message for message in said if isinstance(message, m.Answer)]
    assert len(answers) == 1
    audio_format, blocks = stream_blocks(recording, 1_000)
    sent = b"".join(blocks)
    assert ended.total == audio_format.frames(sent[:2]) * len(sent) // 2
    assert kept(tmp_path / "journal", session) == sent
    if how is signal.SIGKILL:  # nothing was cut short: the same words as without a kill
        config = load(overrides=quick_start[1::2])
        alone = offline.transcribe(recording, config, load_engine(config))
        corrected = FinalCaptions()
        for message in said:
            corrected.add(message)
        assert [(c.start, c.end, c.text) for c in corrected] == [(c.start, c.end, c.text) for c in alone.captions]


async def talk(server: KillableServer, recording: Path, how: signal.Signals) -> tuple[str, list[m.ServerMessage]]:
    """Stream the recording, stop and start the server half-way; returns the session's id and all that was said."""
    audio_format, blocks = stream_blocks(recording, 100)
    said: list[m.ServerMessage] = []

    async def collect() -> None:
        async for message in session:
            said.append(message)

    async with connect(f"http://127.0.0.1:{server.port}", rate=audio_format.rate) as session:
        reader = asyncio.create_task(collect())
        for i, block in enumerate(blocks):
            await session.send(block)
            await asyncio.sleep(0.02)
            if i == 150:
                await asyncio.to_thread(server.stop, how)
                starting = asyncio.create_task(asyncio.to_thread(server.start))
        await starting
        await session.ask("What was said first?", max_tokens=8)
        await session.end()
        await reader
        return session.ready.session, said


def kept(folder: Path, session: str) -> bytes:
    """The audio that the journal has of a session."""
    journal = Journal(JournalConfig(folder=str(folder)))
    pcm = b"".join(record.pcm for record in journal.recover(session).audio if isinstance(record, AudioRecord))
    journal.stop()
    return pcm
