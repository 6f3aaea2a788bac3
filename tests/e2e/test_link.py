"""`mini` at the other end of a link: the captions and the answer of a file are those of the model in the process."""

from __future__ import annotations

from math import inf
from pathlib import Path

from af3stream.audio.files import stream_blocks
from af3stream.config import Config
from af3stream.engine.factory import Loaded
from af3stream.engine.worker import Worker
from af3stream.metrics import Metrics
from af3stream.protocol import messages as m
from af3stream.server.rest.file_session import Engines, FileSession
from af3stream.server.session_runner import Jobs
from tests.cluster.links import linked
from tests.conftest import RECORDINGS

RECORDING = min(RECORDINGS.glob("*.wav"), key=lambda path: path.stat().st_size)


async def heard(path: Path, mini: Loaded, jobs: Jobs) -> tuple[list[m.Caption], str, int]:
    """The captions of a file, an answer about it, and its tokens."""
    audio, blocks = stream_blocks(path, 1_000)
    start, told, pieces = m.Start(audio.format, audio.rate, audio.channels, words=True), list[m.ServerMessage](), []
    async with FileSession(start, Engines(Config(), mini.facts, jobs, Metrics()), captions_only=False) as session:
        told += [message async for message in session.send(blocks, inf)]
        async for message in session.ask("What is said?", 24, told.append):
            pieces.append(message)
    answer = pieces[-1]
    assert isinstance(answer, m.Answer)
    text = "".join(piece.text for piece in pieces if isinstance(piece, m.AnswerDelta))
    return [message for message in told if isinstance(message, m.Caption)], text, answer.tokens


async def test_a_file_is_captioned_and_answered_as_in_the_process(mini: Loaded) -> None:
    worker = Worker(mini.engine)
    worker.start()
    here = await heard(RECORDING, mini, worker)
    worker.stop()
    async with linked(mini.engine) as (_, link):
        assert link.facts.name == mini.facts.name
        there = await heard(RECORDING, mini, link)
    assert there == here
    assert here[0]
    assert here[1]
