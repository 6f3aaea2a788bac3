"""One session's KV prefix: what the language model has read, kept as keys and values."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from af3stream.engine.af3.decode import Decoder, Reply
from af3stream.engine.af3.kv import Slot
from af3stream.engine.af3.prompt import Unframer, detokenize
from af3stream.engine.af3.prompt_embedder import PromptEmbedder
from af3stream.engine.contract import Completion, Lookup, PromptPart, Turn
from af3stream.engine.counters import Counters
from af3stream.engine.prompt_parts import instructions_of, shared


@dataclass(eq=False, slots=True)
class Prefix:
    """What a slot holds: the template's head, unless instructions replace it, then whole parts.

    Attributes:
        ends: positions up to the end of the head, then up to the end of each part.
    """

    slot: Slot
    parts: list[PromptPart] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def cut(self, count: int) -> None:
        """Keep only the first ``count`` parts."""
        del self.parts[count:], self.ends[count + 1 :]
        self.slot.roll_back(self.ends[-1])


@dataclass(eq=False, slots=True)
class Answer:
    """Implements `af3stream.engine.contract.Answering`.

    It is in no reference cycle, so dropping it closes it at once. Otherwise the garbage collector might close it when
    the slot is in use again.

    Args:
        steps: its pieces. After the question is read it yields the `Reply`, once.

    Attributes:
        reply: what is written, once the question is read; the replies of several answers can advance in one pass.
    """

    steps: Generator[str | Reply | Completion, None, None]
    reply: Reply | None = None

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> str | Completion:
        step = next(self.steps)
        if isinstance(step, Reply):
            self.reply = step
            return next(self)
        return step

    def close(self) -> None:
        """Restore the slot to what it was before the answer."""
        self.steps.close()


class PrefixContext:
    """Implements `af3stream.engine.contract.Context` for AF3.

    A question reads what the kept prefix does not hold, writes its answer, and restores the slot.

    Args:
        capacity: positions of a slot.
        embeddings: returns those of a segment, (K, hidden).
    """

    def __init__(
        self, fusion: PromptEmbedder, decoder: Decoder, capacity: int, counters: Counters, embeddings: Lookup
    ) -> None:
        self._fusion = fusion
        self._embeddings = embeddings
        self._decoder = decoder
        self._capacity = capacity
        self._counters = counters
        self._kept: Prefix | None = None
        self._touched_only = decoder.device.type == "cpu"  # elsewhere a slot takes all its memory at once

    @property
    def kept_tokens(self) -> int:
        """Positions of the kept prefix, 0 when evicted."""
        return self._kept.slot.length if self._kept else 0

    @property
    def kept_bytes(self) -> int:
        """Bytes of the kept prefix's slot, 0 when evicted; on a CPU, those of all positions that it ever held."""
        kept = self._kept  # once, because another thread may evict it meanwhile
        return self._slot_bytes(kept.slot.written) if kept else 0

    def bytes_for(
        self, parts: Sequence[PromptPart], question: str = "", max_tokens: int = 0, earlier: Sequence[Turn] = ()
    ) -> int:
        """Return the most bytes that ``extend``, or ``answer``, takes; see the contract."""
        prefix, common = self._reusable(parts)
        positions = self._fusion.positions(parts, question, earlier) + max_tokens
        if prefix is None:
            return self.kept_bytes + self._slot_bytes(positions)
        aside = prefix.slot.length - prefix.ends[common] if question else 0
        return self._slot_bytes(max(positions, prefix.slot.written)) + aside * self._decoder.position_bytes

    def _slot_bytes(self, positions: int) -> int:
        return (positions if self._touched_only else self._capacity) * self._decoder.position_bytes

    def evict(self) -> None:
        """Give up the keys and values; the next call makes them again from the embeddings."""
        self._kept = None

    def held(self, parts: Sequence[PromptPart]) -> int:
        """Return how many leading parts the kept prefix holds; see the contract."""
        return self._reusable(parts)[1]

    def extend(self, parts: Sequence[PromptPart]) -> Iterator[None]:
        """Make ``parts`` the kept prefix; see the contract."""
        prefix, common = self._reusable(parts)
        if prefix is None:
            self._counters.rebuilds += self._kept is not None
            prefix = self._fresh(parts)
        else:
            prefix.cut(common)
        for part, embeddings in zip(parts[common:], self._embed(parts[common:]), strict=True):
            start = prefix.slot.length
            try:
                for _ in self._decoder.prefill(prefix.slot, embeddings):
                    yield None
            except BaseException:  # closed or failed inside a part: a prefix holds whole parts
                prefix.slot.roll_back(start)
                raise
            prefix.parts.append(part)
            prefix.ends.append(prefix.slot.length)
        self._kept = prefix

    def answer(
        self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: Sequence[Turn] = ()
    ) -> Answer:
        """Answer over ``parts`` and leave the kept prefix as it was; see the contract."""
        return Answer(self._answer(parts, question, max_tokens, tuple(earlier)))

    def _answer(
        self, parts: Sequence[PromptPart], question: str, max_tokens: int, earlier: tuple[Turn, ...]
    ) -> Generator[str | Reply | Completion, None, None]:
        prefix, common = self._reusable(parts)
        if prefix is None:  # a slot of its own, which is dropped at the end
            prefix = self._fresh(parts)
        slot = prefix.slot
        aside = slot.snapshot(prefix.ends[common])
        try:
            prompt = torch.cat([*self._embed(parts[common:]), self._fusion.question(question, earlier)])
            state = prompt[-1]
            for states in self._decoder.prefill(slot, prompt):
                state = states[-1]
                yield ""
            reply = Reply(slot, *self._decoder.likeliest(state[None]))
            yield reply
            yield from self._write(reply, len(prompt), max_tokens)
        finally:
            slot.restore(aside)

    def _embed(self, parts: Sequence[PromptPart]) -> Iterator[torch.Tensor]:
        return self._fusion.parts(parts, self._embeddings)

    def _reusable(self, parts: Sequence[PromptPart]) -> tuple[Prefix | None, int]:
        """Return the kept prefix and how many leading parts it shares with ``parts``; ``None`` if it shares none."""
        if self._kept is None:
            return None, 0
        common = shared(parts, self._kept.parts)
        same_head = not (self._kept.parts or instructions_of(parts))
        return (self._kept if common or same_head else None), common

    def _fresh(self, parts: Sequence[PromptPart]) -> Prefix:
        """Return a new prefix for these parts. It holds the template's head, a few dozen positions, unless they do."""
        slot = self._decoder.new_slot(self._capacity)
        if instructions_of(parts):
            return Prefix(slot, ends=[0])
        for _ in self._decoder.prefill(slot, self._fusion.head()):
            pass
        return Prefix(slot, ends=[slot.length])

    def _write(self, reply: Reply, prefilled: int, max_tokens: int) -> Iterator[str | Completion]:
        written: list[int] = []

        def tokens() -> Iterator[int]:
            for token in self._decoder.greedy(reply, max_tokens):
                written.append(token)
                yield token

        unframer = Unframer()
        for piece in detokenize(self._fusion.tokenizer, tokens()):
            yield unframer.push(piece)
        yield unframer.finish()
        stopped = bool(written) and self._decoder.ends(written)
        yield Completion(tokens=len(written), finish="stop" if stopped else "length", prefilled=prefilled)
