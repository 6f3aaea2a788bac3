"""One session's persistent prefix: what the language model has read, kept as keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from af3stream.engine.af3.decode import Decoder
from af3stream.engine.af3.fusion import Fusion
from af3stream.engine.af3.kv import Slot
from af3stream.engine.af3.prompt import Unframer, detokenize
from af3stream.engine.contract import Completion, Counters, Part, unread


class PrefixContext:
    """Implements `af3stream.engine.contract.Context` for AF3.

    The slot holds the template's head and the kept parts. A question reads what follows them, writes its answer, and
    rolls the slot back to where it was.

    Args:
        capacity: positions of a slot.
    """

    def __init__(self, fusion: Fusion, decoder: Decoder, capacity: int, counters: Counters) -> None:
        self._fusion = fusion
        self._decoder = decoder
        self._capacity = capacity
        self._counters = counters
        self._slot: Slot | None = None
        self._kept: list[Part] = []

    @property
    def kept_tokens(self) -> int:
        """Positions of the kept prefix, 0 when cool."""
        return self._slot.length if self._slot else 0

    def cool(self) -> None:
        """Give up the keys and values; the next call builds them again from the embeddings."""
        self._slot, self._kept = None, []

    def extend(self, parts: Sequence[Part]) -> Iterator[None]:
        """Make ``parts`` the kept prefix; see the contract."""
        new = unread(parts, self._kept)
        if self._slot is not None and new is not None:
            yield from self._append(self._slot, self._kept, new)
            return
        if self._slot is not None:
            self._counters.rebuilds += 1
        slot, kept = self._decoder.new_slot(self._capacity), list[Part]()
        yield from self._read_head(slot)
        yield from self._append(slot, kept, parts)
        self._slot, self._kept = slot, kept

    def answer(self, parts: Sequence[Part], question: str, max_tokens: int) -> Iterator[str | Completion]:
        """Answer over ``parts`` and leave the kept prefix as it was; see the contract."""
        new = unread(parts, self._kept) if self._slot is not None else None
        slot = self._slot if new is not None else None
        if slot is None:  # another body than the kept one: its own slot, thrown away
            slot, new = self._decoder.new_slot(self._capacity), parts
            for _ in self._read_head(slot):
                yield ""
        kept = slot.length
        try:
            prompt = torch.cat([*self._fusion.parts(new or ()), self._fusion.question(question)])
            state = prompt[-1]
            for states in self._decoder.prefill(slot, prompt):
                state = states[-1]
                yield ""
            yield from self._write(slot, state, len(prompt), max_tokens)
        finally:
            slot.roll_back(kept)

    def _write(self, slot: Slot, hidden: torch.Tensor, prefilled: int, max_tokens: int) -> Iterator[str | Completion]:
        written: list[int] = []

        def words() -> Iterator[int]:
            for token in self._decoder.greedy(slot, hidden, max_tokens):
                written.append(token)
                yield token

        unframer = Unframer()
        for piece in detokenize(self._fusion.tokenizer, words()):
            yield unframer.push(piece)
        yield unframer.finish()
        stopped = bool(written) and written[-1] in self._decoder.stop
        yield Completion(tokens=len(written), finish="stop" if stopped else "length", prefilled=prefilled)

    def _read_head(self, slot: Slot) -> Iterator[None]:
        for _ in self._decoder.prefill(slot, self._fusion.head()):
            yield None

    def _append(self, slot: Slot, kept: list[Part], new: Sequence[Part]) -> Iterator[None]:
        for part, embeddings in zip(new, self._fusion.parts(new), strict=True):
            start = slot.length
            try:
                for _ in self._decoder.prefill(slot, embeddings):
                    yield None
            except BaseException:  # closed or failed half-way: only whole parts are kept
                slot.roll_back(start)
                raise
            kept.append(part)
