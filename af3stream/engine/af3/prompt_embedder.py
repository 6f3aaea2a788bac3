"""Text and audio in one sequence of embeddings: each projected frame takes the place of a `<sound>` placeholder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from af3stream.engine.af3.decode import Decoder
from af3stream.engine.af3.prompt import Template, encode_text
from af3stream.engine.contract import AudioSegment, Embeddings, Instructions, Lookup, PromptPart, Turn
from af3stream.engine.prompt_parts import instructions_of
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
        """The checkpoint's own system turn and the user header, (n, hidden)."""
        return self._decoder.embed(self._template.head)

    def _instructed(self, instructions: Instructions) -> list[int]:
        """Token ids of a system turn of these words and of the user header."""
        before, after = self._template.system
        return [*before, *encode_text(self.tokenizer, instructions.text), *after]

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
        own_head = () if instructions_of(parts) else self._template.head
        return len(own_head) + sum(map(self._size, parts)) + len(self.question_ids(question, earlier))

    def _size(self, part: PromptPart) -> int:
        match part:
            case AudioSegment(tokens=tokens):
                return tokens
            case Instructions():
                return len(self._instructed(part))
        return len(encode_text(self.tokenizer, part.text))

    def parts(self, parts: Sequence[PromptPart], embeddings: Lookup) -> Iterator[torch.Tensor]:
        """Each part's embeddings, (n_i, hidden); of instructions, with the user header after them.

        Args:
            embeddings: of a segment, (K, hidden), on any device.

        Raises:
            AlignmentMismatch: if a segment's embeddings are not ``tokens`` frames.
        """
        for part in parts:
            match part:
                case AudioSegment():
                    yield self._segment(part, embeddings(part))
                case Instructions():
                    yield self._decoder.embed(self._instructed(part))
                case _:
                    yield self.text(part.text)

    def text(self, text: str) -> torch.Tensor:
        """Words in the body, (n, hidden)."""
        return self._decoder.embed(encode_text(self.tokenizer, text))

    def _segment(self, segment: AudioSegment, embeddings: Embeddings) -> torch.Tensor:
        assert isinstance(embeddings, torch.Tensor), "a segment is encoded before it is read"
        if embeddings.shape != (segment.tokens, self._decoder.hidden_size):
            raise AlignmentMismatch(segment.tokens, embeddings.shape[0])
        weight = self._decoder.embed(())
        return embeddings.to(weight.device, weight.dtype)
