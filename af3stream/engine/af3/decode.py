"""Reading and writing tokens over one slot: chunked prefill, greedy decoding, and verifying a draft."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from af3stream.engine.af3.alignment import check_alignment
from af3stream.engine.af3.kv import Slot
from af3stream.engine.contract import Counters


class Decoder:
    """The language model of one checkpoint, over slots of its own.

    Args:
        model: an `AudioFlamingo3ForConditionalGeneration`.
        stop: ids of the tokens that end a reply.
        counters: where passes and tokens are counted.
        chunk: positions read in one pass; between passes the engine may turn to something more urgent.
    """

    def __init__(self, model: Any, stop: frozenset[int], counters: Counters, chunk: int) -> None:
        self._language_model = model.model.language_model
        self._embed = model.model.get_input_embeddings()
        self._head = model.lm_head
        self.stop = stop
        self._counters = counters
        self._chunk = chunk

    @property
    def hidden_size(self) -> int:
        """Width of an embedding."""
        return int(self._embed.weight.shape[1])

    def new_slot(self, capacity: int) -> Slot:
        """An empty slot for ``capacity`` positions, in the model's dtype, on its device."""
        weight = self._embed.weight
        return Slot(self._language_model.config, capacity, weight.dtype, weight.device)

    @torch.inference_mode()
    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """Token ids (n,) to embeddings (n, hidden)."""
        embeddings: torch.Tensor = self._embed(torch.tensor(ids, dtype=torch.long, device=self._embed.weight.device))
        return embeddings

    def prefill(self, slot: Slot, embeddings: torch.Tensor) -> Iterator[torch.Tensor]:
        """Read (n, hidden) into the slot, a chunk an iteration; yields the chunk's hidden states (chunk, hidden)."""
        for chunk in torch.split(embeddings, self._chunk):
            self._counters.prefill_tokens += len(chunk)
            yield self._forward(slot, chunk)

    def greedy(self, slot: Slot, hidden: torch.Tensor, max_tokens: int) -> Iterator[int]:
        """Write after what the slot holds: the likeliest token each time, until an end token or ``max_tokens``.

        Args:
            hidden: (hidden,), the last position's state.

        Yields:
            Token ids; the end token is the last, where there is one.
        """
        for written in range(max_tokens):
            token = int(self.logits(hidden).argmax())
            self._counters.decoded_tokens += 1
            yield token
            if token in self.stop or written + 1 == max_tokens:
                return
            hidden = self._forward(slot, self.embed([token]))[-1]

    def verify(self, slot: Slot, prompt: torch.Tensor, draft: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        """Read a prompt and a draft of its reply in one pass; keep the part that greedy decoding would have written.

        Args:
            prompt: (n, hidden).
            draft: token ids, without an end token.

        Returns:
            The accepted tokens, and the state (hidden,) after them, from which decoding goes on. The slot holds the
            prompt and the accepted tokens.
        """
        start = slot.length + len(prompt)
        read = torch.cat([prompt, self.embed(draft)]) if draft else prompt
        self._counters.prefill_tokens += len(read)
        states = self._forward(slot, read)[len(prompt) - 1 :]  # (draft + 1, hidden)
        chosen = self.logits(states).argmax(-1).tolist()
        accepted = 0
        while accepted < len(draft) and draft[accepted] == chosen[accepted]:
            accepted += 1
        slot.roll_back(start + accepted)
        return list(draft[:accepted]), states[accepted]

    @torch.inference_mode()
    def greedy_batch(
        self, rows: Sequence[Sequence[int]], frames: Sequence[torch.Tensor], placeholder: int, max_tokens: int
    ) -> list[list[int]]:
        """Reply to prompts of mixed lengths together, padded on the left.

        Args:
            rows: token ids of each prompt, its placeholders expanded.
            frames: (K_i, hidden) of each prompt's audio, put in place of its placeholders.
            placeholder: id of `<sound>`.

        Returns:
            Each prompt's reply, without its end token.

        Raises:
            AlignmentMismatch: where placeholders and frames differ in number.
        """
        longest = max(len(row) for row in rows)
        valid = torch.arange(longest)[None] >= longest - torch.tensor([[len(row)] for row in rows])
        flat = torch.tensor([token for row in rows for token in row])
        ids = torch.zeros(len(rows), longest, dtype=torch.long).masked_scatter(valid, flat)
        for row, row_frames in zip(rows, frames, strict=True):
            check_alignment(np.asarray(row), placeholder, len(row_frames))
        device = self._embed.weight.device
        valid, ids = valid.to(device), ids.to(device)
        hidden = self._embed(ids).masked_scatter(((ids == placeholder) & valid)[..., None], torch.cat(list(frames)))
        slot = Slot(self._language_model.config, longest + max_tokens, hidden.dtype, device, batch=len(rows))
        replies: list[list[int]] = [[] for _ in rows]
        going = [True] * len(rows)
        for _ in range(max_tokens):
            positions = (valid.cumsum(-1) - 1).clamp(min=0)[:, -hidden.shape[1] :]
            output = self._language_model(
                inputs_embeds=hidden, attention_mask=valid, position_ids=positions, past_key_values=slot, use_cache=True
            )
            self._counters.forward_passes += 1
            chosen = self.logits(output.last_hidden_state[:, -1]).argmax(-1)
            for i, token in enumerate(chosen.tolist()):
                going[i] = going[i] and token not in self.stop
                if going[i]:
                    replies[i].append(token)
            if not any(going):
                break
            hidden = self._embed(chosen)[:, None]
            valid = torch.cat([valid, valid.new_ones(len(rows), 1)], dim=-1)
        return replies

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """States (..., hidden) to scores (..., vocabulary) in float32."""
        scores: torch.Tensor = self._head(hidden).float()
        return scores

    @torch.inference_mode()
    def _forward(self, slot: Slot, embeddings: torch.Tensor) -> torch.Tensor:
        """One pass over (n, hidden) after what the slot holds; returns (n, hidden)."""
        self._counters.forward_passes += 1
        output = self._language_model(inputs_embeds=embeddings[None], past_key_values=slot, use_cache=True)
        states: torch.Tensor = output.last_hidden_state[0]
        return states
