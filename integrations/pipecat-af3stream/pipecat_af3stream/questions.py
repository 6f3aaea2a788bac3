"""Answers about the audio that an `Af3streamSTTService` hears, over the same session."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from af3stream.client import Answer, ClientError, Session
from af3stream.protocol.features import FOLLOW_UPS
from pipecat_af3stream.stt import Af3streamSTTService


class Af3streamQuestionProcessor(FrameProcessor):
    """Answer the newest user message of an `LLMContextFrame`, where a pipeline has its LLM service.

    The answer is pushed as an LLM service pushes it. If the context's newest assistant message is the last answer, or
    its beginning, the question follows it up. The context's `system` and `developer` messages become the instructions
    of the session; after a change, the server reads the audio again. Older messages and tools are not passed on. An
    interruption cancels the question.

    Event handlers:
        on_answer: called with each whole `Answer`, which says how far its audio and captions reach.

    Args:
        stt: asks about the session of this service.
        last_s: seconds of audio that questions hear; by default the whole context window.
        max_tokens: the most tokens of an answer; by default the server's setting.
        **options: those of `FrameProcessor`.
    """

    def __init__(
        self,
        stt: Af3streamSTTService,
        *,
        last_s: float | None = None,
        max_tokens: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._stt, self._last_s, self._max_tokens = stt, last_s, max_tokens
        self._last: tuple[Session, Answer] | None = None
        self._instructed: tuple[Session, str] | None = None
        self._register_event_handler("on_answer")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context; pass on every other frame."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        try:
            await self._answer(frame.context)
        except (ClientError, ValueError) as error:
            await self.push_error(str(error), exception=error)
        finally:
            await self.push_frame(LLMFullResponseEndFrame())

    async def _answer(self, context: LLMContext) -> None:
        question = _newest(context, "user")
        if not question:
            await self.push_error("the context has no message of a user")
            return
        session = await self._stt.session()
        await self._instruct(session, context)
        after = self._follows(session, context)
        stream = session.ask_stream(question, last_s=self._last_s, max_tokens=self._max_tokens, after=after)
        try:
            async for piece in stream:
                await self.push_frame(LLMTextFrame(piece))
            answer = await stream.answer()
        except asyncio.CancelledError:
            with suppress(ClientError):
                await stream.cancel()
            raise
        self._last = session, answer
        await self._call_event_handler("on_answer", answer)

    async def _instruct(self, session: Session, context: LLMContext) -> None:
        """Give the session the context's instructions, if they are new to it.

        Raises:
            ValueError: if the server does not take them.
        """
        text = "\n".join(_texts(context, "system", "developer"))
        known = self._instructed[1] if self._instructed and self._instructed[0] is session else ""
        if text != known:
            await session.instruct(text)
            self._instructed = session, text

    def _follows(self, session: Session, context: LLMContext) -> Answer | None:
        """Return the last answer if the context goes on from it."""
        if not self._last or self._last[0] is not session or FOLLOW_UPS not in session.ready.features:
            return None
        said = _newest(context, "assistant").strip()
        return self._last[1] if said and self._last[1].text.strip().startswith(said) else None


def _newest(context: LLMContext, role: str) -> str:
    """Return the text of the newest message of a role; empty if there is none."""
    return next(reversed(_texts(context, role)), "")


def _texts(context: LLMContext, *roles: str) -> list[str]:
    """Return the texts of all messages of some roles."""
    texts = []
    for message in context.get_messages():
        if isinstance(message, dict) and message.get("role") in roles:
            content = message.get("content") or ""
            parts = [{"text": content}] if isinstance(content, str) else content
            texts.append("\n".join(part["text"] for part in parts if "text" in part))
    return texts
