"""Real speech, real model, real socket: captions while it is spoken, and answers about it.

The recording is streamed once for all tests here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from af3stream.audio.files import stream_blocks
from af3stream.client import connect
from af3stream.protocol import messages as m
from af3stream.protocol.final_captions import FinalCaptions
from tests.e2e.conftest import RunningService
from tests.words import bare, word_error_rate

pytestmark = pytest.mark.mini

MAX_WER = 0.06
BLOCK_MS = 100


@pytest.fixture(scope="module")
def heard(service: RunningService, recording: Path) -> list[m.ServerMessage]:
    """Everything the service says about the recording, with questions in the middle.

    Streams at the pace of speech, because interim captions only come while audio is still arriving.
    """
    return asyncio.run(listen(service, recording))


async def listen(service: RunningService, recording: Path) -> list[m.ServerMessage]:
    audio_format, blocks = stream_blocks(recording, BLOCK_MS)
    said: list[m.ServerMessage] = []

    async def collect() -> None:
        async for message in session:
            said.append(message)

    async with connect(service.ws, rate=audio_format.rate, channels=audio_format.channels) as session:
        reader = asyncio.create_task(collect())
        began = asyncio.get_running_loop().time()
        for i, block in enumerate(blocks, 1):
            await session.send(block)
            if i == 120:
                asked = asyncio.create_task(session.ask("What is said about John Dashwood?"))
            await asyncio.sleep(max(0.0, began + i * BLOCK_MS / 1_000 - asyncio.get_running_loop().time()))
        await asked
        await session.ask("What was said?", last_s=8)
        await session.flush()
        await session.end()
        await reader
    return said


def finals(said: list[m.ServerMessage]) -> list[m.Caption]:
    """The final captions with their corrections."""
    captions = FinalCaptions()
    for message in said:
        captions.add(message)
    return [*captions]


def test_at_most_six_words_in_a_hundred_are_wrong(heard: list[m.ServerMessage], transcript: str) -> None:
    assert word_error_rate(transcript, " ".join(caption.text for caption in finals(heard))) <= MAX_WER


def test_interims_come_while_an_utterance_is_open_and_never_after_its_final(heard: list[m.ServerMessage]) -> None:
    captions = [message for message in heard if isinstance(message, m.Caption)]
    for utterance in {caption.utterance for caption in captions}:
        *interims, final = [caption for caption in captions if caption.utterance == utterance]
        assert final.final
        assert not any(interim.final for interim in interims)
        assert all(interim.text.startswith(interim.stable) for interim in interims)
    first = [caption for caption in captions if caption.utterance == 0]
    assert len(first) > 3  # seven seconds long, and nothing else to do meanwhile
    assert len({caption.text for caption in first}) > 3


def test_finals_are_in_order_and_the_same_as_offline(
    heard: list[m.ServerMessage], offline_captions: tuple[m.Caption, ...]
) -> None:
    assert [(c.start, c.end, c.text) for c in finals(heard)] == [(c.start, c.end, c.text) for c in offline_captions]


def test_a_question_while_it_plays_is_answered_over_what_was_heard_until_then(
    heard: list[m.ServerMessage],
) -> None:
    first, last = [message for message in heard if isinstance(message, m.Answer)]
    deltas = [message.text for message in heard if isinstance(message, m.AnswerDelta) and message.id == first.id]
    assert first.text == "".join(deltas)
    assert first.start == 0.0
    assert 11.0 <= first.end <= 14.0
    assert "john dashwood" in bare(first.text)
    assert last.end - last.start < 20  # the windows that reach into the last eight seconds


def test_the_ledger_accounts_for_every_second(heard: list[m.ServerMessage]) -> None:
    ended = heard[-1]
    assert isinstance(ended, m.Ended)
    assert ended.received_s == pytest.approx(ended.heard_s + ended.skipped_s, abs=0.002)
    assert ended.lost_s == 0
    assert sum(isinstance(message, m.Window) for message in heard) == ended.windows
