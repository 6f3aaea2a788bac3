"""Ask free questions about spoken conversations as a user does: over the socket, or about a file.

A folder of questions holds ``conversations.json`` (texts, questions, accepted words) and ``score.py``, which decides
whether an answer is right. The conversations are synthesised once in natural voices, and stored.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import numpy as np
import soundfile

from af3stream.audio import SAMPLE_RATE
from af3stream.client import connect
from bench import live
from training import neural
from training.voices import Samples, read

FOLLOW_UPS: Final = Path(__file__).with_name("followups.json")
PAUSES_S: Final = (0.35, 0.9)  # pause between sentences
BLOCK: Final = SAMPLE_RATE  # samples in a message

Right = Callable[[str, list[list[str]], str], bool]


class Question(msgspec.Struct, frozen=True):
    """A question, and groups of words; a right answer has one word of each group."""

    question: str
    any_of: list[list[str]]


class Conversation(msgspec.Struct, frozen=True):
    """Sentences, and questions about them."""

    name: str
    text: str
    questions: list[Question]


class FollowUp(msgspec.Struct, frozen=True):
    """A question about a conversation, and a follow-up, whose answer is scored."""

    name: str
    question: str
    follow_up: str
    any_of: list[list[str]]


@dataclass(frozen=True)
class Given:
    """One answer, and whether it is right."""

    name: str
    question: str
    answer: str
    right: bool


@dataclass(frozen=True)
class Free:
    """Conversations with their questions and recordings.

    Args:
        folder: folder with ``conversations.json`` and ``score.py``.
        spoken: folder of the recordings.
    """

    folder: Path
    spoken: Path

    @property
    def conversations(self) -> list[Conversation]:
        """All conversations."""
        return msgspec.json.decode((self.folder / "conversations.json").read_bytes(), type=list[Conversation])

    def right(self, answer: str, any_of: list[list[str]], question: str) -> bool:
        """Return whether the scorer accepts an answer."""
        return bool(_scorer(self.folder / "score.py")(answer, any_of, question))

    def recording(self, conversation: Conversation) -> Path:
        """Return the recording of a conversation, and synthesise it if it is missing."""
        path = self.spoken / f"{conversation.name}.wav"
        if not path.exists():
            self.spoken.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, speak(conversation), SAMPLE_RATE, subtype="PCM_16")
        return path

    async def over_the_socket(self, settings: Sequence[str]) -> list[Given]:
        """Ask all questions in turn, after the whole recording was streamed and captioned."""
        given = []
        async with live.server(*settings) as url:
            for conversation in self.conversations:
                async with connect(url, interims=False) as session:
                    await _send(session, self.recording(conversation))
                    for asked in conversation.questions:
                        text = (await session.ask(asked.question)).text
                        right = self.right(text, asked.any_of, asked.question)
                        given.append(Given(conversation.name, asked.question, text, right))
                    await session.end()
        return given

    async def follow_ups(self, settings: Sequence[str]) -> list[Given]:
        """Ask a question and a follow-up; the second answer is scored."""
        asked = msgspec.json.decode(FOLLOW_UPS.read_bytes(), type=list[FollowUp])
        given = []
        async with live.server(*settings) as url:
            for conversation in self.conversations:
                async with connect(url, interims=False) as session:
                    await _send(session, self.recording(conversation))
                    for pair in (pair for pair in asked if pair.name == conversation.name):
                        first = await session.ask(pair.question)
                        text = (await session.ask(pair.follow_up, after=first)).text
                        question = f"{pair.question} {first.text} {pair.follow_up}"
                        given.append(Given(pair.name, question, text, self.right(text, pair.any_of, pair.follow_up)))
                    await session.end()
        return given


async def _send(session: Any, path: Path) -> None:
    """Stream a recording as fast as the server accepts it, and wait until it is captioned."""
    samples, _ = soundfile.read(path, dtype="int16")
    for start in range(0, len(samples), BLOCK):
        await session.send(samples[start : start + BLOCK].tobytes())
    await session.flush()


def speak(conversation: Conversation) -> Samples:
    """Synthesise a conversation sentence by sentence: in piper's voice joe, or in Kokoro for one in three."""
    random = Random(conversation.name)
    kokoro = sum(map(ord, conversation.name)) % 3 == 0
    parts = list[Samples]()
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "sentence.wav"
        for sentence in re.split(r"(?<=[.!?]) ", conversation.text):
            if kokoro:
                neural.kokoro(neural.KOKORO_STYLES, sentence, Random(conversation.name), wav)
            else:
                neural.joe(sentence, random, wav)
            parts += [read(wav), np.zeros(int(random.uniform(*PAUSES_S) * SAMPLE_RATE), np.float32)]
    return np.concatenate(parts)


@cache
def _scorer(path: Path) -> Right:
    """Load the function ``right`` of a scorer's file."""
    spec = importlib.util.spec_from_file_location("score", path)
    assert spec is not None and spec.loader is not None, f"{path} is no Python file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    right: Right = module.right
    return right


def table(given: Sequence[Given]) -> str:
    """Format the wrong answers, one line each, and the share of right ones."""
    wrong = [f"{one.name}: {one.question} -> {json.dumps(one.answer)}" for one in given if not one.right]
    good = len(given) - len(wrong)
    return "\n".join([*wrong, f"{good} of {len(given)} right"])
