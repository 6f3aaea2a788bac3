"""Answers about the audio that an `STT` hears, over the same session."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, APIError, llm

from af3stream.client import Answer, ClientError, Session
from af3stream.protocol.features import FOLLOW_UPS

from .errors import api_error
from .stt import STT


class LLM(llm.LLM):
    """Answer the newest user message of a chat from the audio that an `STT` has heard so far.

    If the chat's newest assistant message is the last answer, or its beginning, the question follows it up. The chat's
    instructions become those of the session; after a change, the server reads the audio again. Older messages and tools
    are not passed on. `on("answer", callback)` hands over each whole `Answer`, which says how far its audio and
    captions reach.

    Args:
        stt: asks about the session of its newest stream.
        last_s: seconds of audio that questions hear; by default the whole context window.
        max_tokens: the most tokens of an answer; by default the server's setting.
    """

    def __init__(self, stt: STT, *, last_s: float | None = None, max_tokens: int | None = None) -> None:
        super().__init__()
        self._stt, self._last_s, self._max_tokens = stt, last_s, max_tokens
        self._last: tuple[Session, Answer] | None = None
        self._instructed: tuple[Session, str] | None = None
        self._name = "unknown"

    @property
    def model(self) -> str:
        """The server's model, after the first answer."""
        return self._name

    @property
    def provider(self) -> str:
        """The server's software."""
        return "af3stream"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **_: Any,
    ) -> AnswerStream:
        """Ask. The framework's other settings have no counterpart."""
        return AnswerStream(self, chat_ctx=chat_ctx, tools=[], conn_options=conn_options)

    async def _instruct(self, session: Session, chat: llm.ChatContext) -> None:
        """Give the session the chat's instructions, if they are new to it.

        Raises:
            ValueError: if the server does not take them.
        """
        roles = ("system", "developer")
        text = "\n".join(message.text_content or "" for message in chat.messages() if message.role in roles)
        known = self._instructed[1] if self._instructed and self._instructed[0] is session else ""
        if text != known:
            await session.instruct(text)
            self._instructed = session, text

    def _follows(self, session: Session, chat: llm.ChatContext) -> Answer | None:
        """Return the last answer if the chat goes on from it."""
        if not self._last or self._last[0] is not session or FOLLOW_UPS not in session.ready.features:
            return None
        said = _newest(chat, "assistant").strip()
        return self._last[1] if said and self._last[1].text.strip().startswith(said) else None


class AnswerStream(llm.LLMStream):
    """One answer, piece by piece. If it is closed early, the question is cancelled."""

    def __init__(
        self, owner: LLM, *, chat_ctx: llm.ChatContext, tools: list[llm.Tool], conn_options: APIConnectOptions
    ) -> None:
        super().__init__(owner, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._owner = owner
        self._retry_on_chunk_sent = False

    async def _run(self) -> None:
        owner, question = self._owner, _newest(self._chat_ctx, "user")
        if not question:
            raise APIError("the chat has no message of a user", retryable=False)
        session = await owner._stt.session(self._conn_options.timeout)
        try:
            await owner._instruct(session, self._chat_ctx)
            stream = session.ask_stream(
                question,
                last_s=owner._last_s,
                max_tokens=owner._max_tokens,
                after=owner._follows(session, self._chat_ctx),
            )
            try:
                async for piece in stream:
                    delta = llm.ChoiceDelta(role="assistant", content=piece)
                    self._event_ch.send_nowait(llm.ChatChunk(id=stream.id, delta=delta))
                answer = await stream.answer()
            except asyncio.CancelledError:
                with suppress(ClientError):
                    await stream.cancel()
                raise
        except ClientError as error:
            raise api_error(error) from error
        except ValueError as error:
            raise APIError(str(error), retryable=False) from error
        owner._last, owner._name = (session, answer), session.ready.model
        owner.emit("answer", answer)
        # The server does not count the tokens of a prompt.
        usage = llm.CompletionUsage(completion_tokens=answer.tokens, prompt_tokens=0, total_tokens=answer.tokens)
        self._event_ch.send_nowait(llm.ChatChunk(id=stream.id, usage=usage))


def _newest(chat: llm.ChatContext, role: llm.ChatRole) -> str:
    """Return the text of the newest message of a role; empty if there is none."""
    return next((message.text_content or "" for message in reversed(chat.messages()) if message.role == role), "")
