"""Read and write tokens over slots: chunked prefill, greedy decoding in batches, verifying a draft."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, takewhile
from typing import Any, Final

import numpy as np
import torch

from af3stream.engine.af3.alignment import check_alignment
from af3stream.engine.af3.attention import implementation
from af3stream.engine.af3.draft import guess
from af3stream.engine.af3.fused import FusedReading, is_faster
from af3stream.engine.af3.kv import CACHE_ARGUMENT, Rows, Slot
from af3stream.engine.af3.linear import FEW, read_with_all_cores
from af3stream.engine.af3.repetition import repeats
from af3stream.engine.af3.vocabulary import TermTree
from af3stream.engine.counters import Counters
from af3stream.errors import ModelError

AHEAD: Final = 4  # tokens guessed in a pass; while all are right, each pass guesses so many times as many


@dataclass(eq=False, slots=True)
class Reply:
    """A reply that is written after what its slot holds.

    Attributes:
        next: the token to write next, once it is known.
        last: the token written last, until it is read.
    """

    slot: Slot
    next: int | None = None
    last: int | None = None


class Decoder:
    """The language model of one checkpoint, over slots of its own.

    Args:
        model: an `AudioFlamingo3ForConditionalGeneration`.
        stop: ids of the tokens that end a reply.
        counters: where passes and tokens are counted.
        chunk: positions read in one pass.
        compiled: read few positions with compiled code.

    Raises:
        ModelError: if code cannot be compiled.
    """

    def __init__(
        self, model: Any, stop: frozenset[int], counters: Counters, chunk: int, *, compiled: bool = False
    ) -> None:
        self._language_model, self._head = _own_copy(model)
        self._fused: FusedReading | None = None
        self._embed = model.model.get_input_embeddings()
        self.stop = stop
        self._counters = counters
        self._chunk = chunk
        if compiled:
            self._compile()
        elif is_faster(self._language_model):
            self._fused = FusedReading(self._language_model, compiled=False)

    def _compile(self) -> None:
        """Compile for one row, for several rows, and for a row of several positions, before the first session.

        Raises:
            ModelError: if that is not possible.
        """
        try:
            self._fused = FusedReading(self._language_model, compiled=True)
            for rows, tokens in ((1, 1), (2, 1), (1, 2)):
                embeddings = self.embed([0] * rows * tokens).view(rows, tokens, -1)
                states = self._pass([self.new_slot(tokens) for _ in range(rows)], embeddings)
                self.logits(states[:, -1])
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"model.compile is not possible here: {str(error).splitlines()[0]}") from error

    @property
    def hidden_size(self) -> int:
        """Width of an embedding."""
        return int(self._embed.weight.shape[1])

    @property
    def device(self) -> torch.device:
        """Where slots are."""
        device: torch.device = self._language_model.device
        return device

    @cached_property
    def position_bytes(self) -> int:
        """Bytes of keys and values of one position."""
        return self.new_slot(1).nbytes

    def new_slot(self, capacity: int) -> Slot:
        """An empty slot for ``capacity`` positions, in the model's dtype, on its device."""
        model = self._language_model
        return Slot(model.config, capacity, model.dtype, model.device)

    @torch.inference_mode()
    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """Return embeddings (n, hidden) of token ids (n,)."""
        embeddings: torch.Tensor = self._embed(torch.tensor(ids, dtype=torch.long, device=self._embed.weight.device))
        return embeddings

    def prefill(self, slot: Slot, embeddings: torch.Tensor) -> Iterator[torch.Tensor]:
        """Read (n, hidden) into the slot, a chunk an iteration; yields the chunk's hidden states (chunk, hidden)."""
        for chunk in torch.split(embeddings, self._chunk):
            self._counters.prefill_tokens += len(chunk)
            yield self._forward([slot], chunk[None])[0]

    def greedy(self, reply: Reply, max_tokens: int) -> Iterator[int]:
        """Write a reply: the likeliest token each time, until it ends or has ``max_tokens``.

        Yields:
            Token ids; the last is the end token, if the reply has one.
        """
        written: list[int] = []
        for left in reversed(range(max_tokens)):
            if reply.next is None:
                self.advance([reply])
            token, reply.next = reply.next, None
            assert token is not None
            self._counters.decoded_tokens += 1
            written.append(token)
            ended = not left or self.ends(written)
            reply.last = None if ended else token
            yield token
            if ended:
                return

    def ends(self, written: Sequence[int]) -> bool:
        """Return whether a reply is over: its last token is an end token, or it repeats itself."""
        return written[-1] in self.stop or repeats(written)

    def advance(self, replies: Sequence[Reply]) -> None:
        """Read the last token of each of these replies in one pass, and set the next; each has a slot of its own."""
        last = [reply.last for reply in replies if reply.last is not None]
        states = self._forward([reply.slot for reply in replies], self.embed(last)[:, None])
        for reply, token in zip(replies, self.likeliest(states[:, -1]), strict=True):
            reply.next, reply.last = token, None

    def drafted(
        self,
        slot: Slot,
        prompt: torch.Tensor,
        draft: Sequence[int],
        max_tokens: int,
        terms: TermTree | None = None,
    ) -> Iterator[list[int] | None]:
        """Reply to a prompt as `greedy` does, in fewer passes if a draft of the reply is nearly right.

        The draft is read with the last chunk of the prompt. Where the reply departs from the draft, each pass reads its
        next token and a guess of what follows: what follows a similar place in the draft, or earlier in the reply.
        Guesses that greedy decoding does not write are rolled back.

        Args:
            prompt: (n, hidden).
            draft: token ids, without an end token.
            terms: what is made likelier than it is.

        Yields:
            ``None`` after each pass but the last, then the reply's token ids, without an end token.
        """
        written, guessed, ahead = list[int](), draft[:max_tokens], AHEAD
        rest = max(0, len(prompt) - max(1, self._chunk - len(guessed)))  # positions; the others fit beside the draft
        if rest:
            for _ in self.prefill(slot, prompt[:rest]):
                yield None
        known = prompt[rest:]
        self._counters.prefill_tokens += len(known)
        while True:
            accepted, token = self._agreed(slot, known, guessed, written, terms)
            for following in [*accepted, token]:
                written.append(following)
                if len(written) == max_tokens or self.ends(written):
                    yield [token for token in written if token not in self.stop]
                    return
            yield None
            ahead = ahead * AHEAD if guessed and len(accepted) == len(guessed) else AHEAD
            guessed = guess(written, [draft, written[:-1]], min(ahead, max_tokens - len(written)))
            known = self.embed([token])

    def _agreed(
        self,
        slot: Slot,
        known: torch.Tensor,
        guessed: Sequence[int],
        written: Sequence[int],
        terms: TermTree | None,
    ) -> tuple[list[int], int]:
        """Read (n, hidden) and guesses of what follows in one pass; return the right guesses and the token after them.

        The right guesses stay in the slot.
        """
        start = slot.length + len(known)
        read = torch.cat([known, self.embed(guessed)]) if guessed else known
        states = self._forward([slot], read[None])[0, len(known) - 1 :]
        chosen = terms.likeliest(self.logits(states), written, guessed) if terms else self.likeliest(states)
        agreed = [token for token, _ in takewhile(lambda pair: pair[0] == pair[1], zip(guessed, chosen, strict=False))]
        self._counters.decoded_tokens += len(agreed) + 1
        slot.roll_back(start + len(agreed))
        return agreed, chosen[len(agreed)]

    def greedy_batch(
        self, rows: Sequence[Sequence[int]], frames: Sequence[torch.Tensor], placeholder: int, max_tokens: int
    ) -> list[list[int]]:
        """Reply to prompts of mixed lengths, each in a slot of its own, all decoded in one batch.

        Args:
            rows: token ids of each prompt, its placeholders expanded.
            frames: (K_i, hidden) of each prompt's audio, put in place of its placeholders.
            placeholder: id of `<sound>`.

        Returns:
            Each prompt's reply, without its end token.

        Raises:
            AlignmentMismatch: if placeholders and frames differ in number.
        """
        for row, row_frames in zip(rows, frames, strict=True):
            check_alignment(np.asarray(row), placeholder, len(row_frames))
        replies = [self._read(*prompt, placeholder, max_tokens) for prompt in zip(rows, frames, strict=True)]
        writing = [self.greedy(reply, max_tokens) for reply in replies]
        written: list[list[int]] = [[] for _ in rows]
        for _ in range(max_tokens):
            for tokens, reply_tokens in zip(written, writing, strict=True):
                tokens += [token for token in (next(reply_tokens, None),) if token is not None]
            if not (going := [reply for reply in replies if reply.last is not None]):
                break
            self.advance(going)
        return [[token for token in tokens if token not in self.stop] for tokens in written]

    def _read(self, ids: Sequence[int], frames: torch.Tensor, placeholder: int, max_tokens: int) -> Reply:
        """Read one prompt into a new slot."""
        sounds = torch.tensor(ids, device=frames.device) == placeholder
        prompt = self.embed(ids).masked_scatter(sounds[:, None], frames)
        reply = Reply(self.new_slot(len(ids) + max_tokens))
        for states in self.prefill(reply.slot, prompt):
            (reply.next,) = self.likeliest(states[-1:])
        return reply

    def likeliest(self, states: torch.Tensor) -> list[int]:
        """Return the likeliest token after each of the states (n, hidden)."""
        tokens: list[int] = self.logits(states).argmax(-1).tolist()
        return tokens

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return scores (..., vocabulary) in float32 of states (..., hidden)."""
        scores: torch.Tensor = self._head(hidden).float()
        return scores

    @torch.inference_mode()
    def _forward(self, slots: Sequence[Slot], embeddings: torch.Tensor) -> torch.Tensor:
        """One pass over (slots, n, hidden), each row after what its slot holds; returns (slots, n, hidden).

        A pass that fails leaves every slot as it was.
        """
        self._counters.forward_passes += 1
        lengths = [slot.length for slot in slots]
        try:
            return self._pass(slots, embeddings)
        except BaseException:
            for slot, length in zip(slots, lengths, strict=True):
                slot.roll_back(length)
            raise

    def _pass(self, slots: Sequence[Slot], embeddings: torch.Tensor) -> torch.Tensor:
        starts = torch.tensor([slot.length for slot in slots], device=embeddings.device)[:, None]
        positions = starts + torch.arange(embeddings.shape[1], device=embeddings.device)
        if self._fused and positions.numel() <= FEW:
            return self._fused(slots, embeddings, positions)
        output = self._language_model(
            inputs_embeds=embeddings, position_ids=positions, use_cache=True, **{CACHE_ARGUMENT: Rows(slots)}
        )
        states: torch.Tensor = output.last_hidden_state
        return states


def _own_copy(model: Any) -> tuple[Any, Any]:
    """Copy the language model and its head: modules and configuration of their own, over the same weights.

    The copies attend over slots; ``model`` itself is not changed.
    """
    weights = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    language_model = deepcopy(model.model.language_model, weights)
    head = deepcopy(model.lm_head, weights)
    language_model.config._attn_implementation = implementation(language_model.config._attn_implementation)
    read_with_all_cores(language_model)
    read_with_all_cores(head)
    return language_model, head
