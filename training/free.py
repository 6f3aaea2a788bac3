"""Free questions about spoken conversations, asked as a user does: over the socket, or of a file.

A folder of questions holds ``conversations.json`` (texts, questions, accepted words) and ``score.py``, which says
whether an answer is right. The conversations are spoken once, by natural voices, and kept.
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
PAUSES_S: Final = (0.35, 0.9)  # between sentences
BLOCK: Final = SAMPLE_RATE  # samples that are sent at once

Right = Callable[[str, list[list[str]], str], bool]


class Question(msgspec.Struct, frozen=True):
    """A question, and groups of words; a right answer has one of each group."""

    question: str
    any_of: list[list[str]]


class Conversation(msgspec.Struct, frozen=True):
    """What is said, and what is asked about it."""

    name: str
    text: str
    questions: list[Question]


class FollowUp(msgspec.Struct, frozen=True):
    """A question about a conversation, and one that follows it up, whose answer counts."""

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
    """Conversations with their questions, as sound.

    Args:
        folder: ``conversations.json`` and ``score.py``.
        spoken: where their recordings are kept.
    """

    folder: Path
    spoken: Path

    @property
    def conversations(self) -> list[Conversation]:
        """All of them."""
        return msgspec.json.decode((self.folder / "conversations.json").read_bytes(), type=list[Conversation])

    def right(self, answer: str, any_of: list[list[str]], question: str) -> bool:
        """Whether the scorer beside the questions takes an answer."""
        return bool(_scorer(self.folder / "score.py")(answer, any_of, question))

    def recording(self, conversation: Conversation) -> Path:
        """A conversation as sound, spoken where that has not been done yet."""
        path = self.spoken / f"{conversation.name}.wav"
        if not path.exists():
            self.spoken.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, speak(conversation), SAMPLE_RATE, subtype="PCM_16")
        return path

    async def over_the_socket(self, settings: Sequence[str]) -> list[Given]:
        """Ask every question in turn, after all was streamed and captioned."""
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
        """Ask a question and one that follows it up; the second answer counts."""
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
    """Stream a recording as fast as the server takes it, and wait until it is captioned."""
    samples, _ = soundfile.read(path, dtype="int16")
    for start in range(0, len(samples), BLOCK):
        await session.send(samples[start : start + BLOCK].tobytes())
    await session.flush()


def speak(conversation: Conversation) -> Samples:
    """The conversation, sentence by sentence, in a natural voice: piper's joe, or Kokoro for one in three."""
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
    """The function ``right`` of a scorer's file."""
    spec = importlib.util.spec_from_file_location("score", path)
    assert spec is not None and spec.loader is not None, f"{path} is no Python file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    right: Right = module.right
    return right


def table(given: Sequence[Given]) -> str:
    """The wrong answers, a line each, and the share of right ones."""
    wrong = [f"{one.name}: {one.question} -> {json.dumps(one.answer)}" for one in given if not one.right]
    good = len(given) - len(wrong)
    return "\n".join([*wrong, f"{good} of {len(given)} right"])
