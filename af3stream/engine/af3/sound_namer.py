"""Names the sounds of a window by a question of its own over some of its frames."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp
from typing import Final

import torch

from af3stream.engine.af3.decode import Decoder
from af3stream.engine.af3.prompt import strip_framing
from af3stream.engine.af3.prompt_embedder import PromptEmbedder
from af3stream.engine.captioning import NamedSound
from af3stream.engine.contract import Embeddings

QUESTION: Final = "What do you hear?"
MAX_TOKENS: Final = 12  # enough for "The sound of" and a name of a few words


class Af3SoundNamer:
    """Implements `af3stream.engine.contract.SoundNamer` for AF3.

    Args:
        embedder: composes prompts as those of questions.
        sure: the least confidence of a name that may be told.
    """

    def __init__(self, embedder: PromptEmbedder, decoder: Decoder, sure: float) -> None:
        self.sure = sure
        self._embedder = embedder
        self._decoder = decoder

    def name(self, embeddings: Embeddings, first: int, last: int) -> Iterator[NamedSound | None]:
        """Ask what is heard in frames of a window, (K, hidden), and decode greedily; see the contract."""
        assert isinstance(embeddings, torch.Tensor), "a segment is encoded before it is read"
        head, question = self._embedder.head(), self._embedder.question(QUESTION)
        body = torch.cat([head, embeddings[first:last].to(head.device, head.dtype), question])
        slot = self._decoder.new_slot(len(body) + MAX_TOKENS)
        written, log_probabilities = list[int](), list[float]()
        while len(written) < MAX_TOKENS and not (written and self._decoder.ends(written)):
            read = self._decoder.embed(written[-1:]) if written else body
            state = read[-1]
            for states in self._decoder.prefill(slot, read):
                state = states[-1]
                yield None
            likeliest = self._decoder.logits(state).log_softmax(-1).max(-1)
            written.append(int(likeliest.indices))
            log_probabilities.append(float(likeliest.values))
        words = [token for token in written if token not in self._decoder.stop]
        text = strip_framing(self._embedder.tokenizer.decode(words, skip_special_tokens=True))
        yield NamedSound(text, exp(sum(log_probabilities) / len(log_probabilities)))

    def kv_bytes(self, frames: int) -> int:
        """Return the bytes of the slot of its own that a name is made in."""
        return (self._embedder.positions((), QUESTION) + frames + MAX_TOKENS) * self._decoder.position_bytes
