"""Text and audio in one sequence of embeddings: each projected frame takes the place of a `<sound>` placeholder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from af3stream.engine.af3.decode import Decoder
from af3stream.engine.af3.prompt import Template, encode_text
from af3stream.engine.contract import AudioSegment, Embeddings, Lookup, PromptPart, Turn
from af3stream.errors import AlignmentMismatch


class PromptEmbedder:
    """Turns the parts of a prompt into embeddings (n, hidden).

    Args:
        template: what stands around body and question.
        tokenizer: the checkpoint's own.
        decoder: where text embeddings come from.
        instruction: stands right before each question.
    """

    def __init__(self, template: Template, tokenizer: Any, decoder: Decoder, instruction: str = "") -> None:
        self._template = template
        self._before_question = instruction
        self.tokenizer = tokenizer
        self._decoder = decoder

    @property
    def overhead(self) -> int:
        """Positions of what stands around any body and question."""
        return len(self._template.head) + len(self.question_ids(""))

    def head(self) -> torch.Tensor:
        """The system turn and the user header, (n, hidden)."""
        return self._decoder.embed(self._template.head)

    def question(self, text: str, earlier: Sequence[Turn] = ()) -> torch.Tensor:
        """The earlier turns, the user's words and the end of the turn, (n, hidden)."""
        return self._decoder.embed(self.question_ids(text, earlier))

    def question_ids(self, text: str, earlier: Sequence[Turn] = ()) -> list[int]:
        """Token ids of what follows the body."""
        ids: list[int] = []
        for turn in earlier:
            ids += [*self._asked(turn.question), *encode_text(self.tokenizer, turn.answer), *self._template.between]
        return [*ids, *self._asked(text)]

    def _asked(self, question: str) -> list[int]:
        return [*encode_text(self.tokenizer, self._before_question + question), *self._template.tail]

    def prompt(self, text: str, placeholder: str, placeholder_id: int) -> list[int]:
        """Token ids of a whole prompt whose user's text holds expanded placeholders."""
        ids = list(self._template.head)
        for i, piece in enumerate(text.split(placeholder)):
            ids += [placeholder_id] * (i > 0) + encode_text(self.tokenizer, piece)
        return ids + list(self._template.tail)

    def positions(self, parts: Sequence[PromptPart], question: str = "", earlier: Sequence[Turn] = ()) -> int:
        """Positions of a prompt: the template, the parts, the earlier turns and the question."""
        words = [part.text for part in parts if not isinstance(part, AudioSegment)]
        frames = sum(part.tokens for part in parts if isinstance(part, AudioSegment))
        asked = len(self._template.head) + len(self.question_ids(question, earlier))
        return asked + frames + sum(len(encode_text(self.tokenizer, text)) for text in words)

    def parts(self, parts: Sequence[PromptPart], embeddings: Lookup) -> Iterator[torch.Tensor]:
        """Each part's embeddings, (n_i, hidden).

        Args:
            embeddings: of a segment, (K, hidden), on any device.

        Raises:
            AlignmentMismatch: if a segment's embeddings are not ``tokens`` frames.
        """
        for part in parts:
            yield self._segment(part, embeddings(part)) if isinstance(part, AudioSegment) else self.text(part.text)

    def text(self, text: str) -> torch.Tensor:
        """Words in the body, (n, hidden)."""
        return self._decoder.embed(encode_text(self.tokenizer, text))

    def _segment(self, segment: AudioSegment, embeddings: Embeddings) -> torch.Tensor:
        assert isinstance(embeddings, torch.Tensor), "a segment is encoded before it is read"
        if embeddings.shape != (segment.tokens, self._decoder.hidden_size):
            raise AlignmentMismatch(segment.tokens, embeddings.shape[0])
        weight = self._decoder.embed(())
        return embeddings.to(weight.device, weight.dtype)
