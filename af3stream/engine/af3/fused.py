"""Reading few positions: each layer in few operations, over weights that lie together, compiled where it is asked for.

A few positions are little arithmetic, so what is done around it counts: the projections that read the same states are
one product, and nothing is asked or prepared layer by layer. Attention over slots stays as it is, and the layers'
formulas are those of transformers' Llama and Qwen2. Compiled, what a layer does after its attention and the next before
its own are a few loops that read each weight once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import silu
from transformers import AttentionInterface

from af3stream.engine.af3.kv import Rows, Slot
from af3stream.engine.af3.linear import FewRowsLinear, product, product_by_all_cores

ARCHITECTURES: Final = ("llama", "qwen2")
Linear = tuple[torch.Tensor, torch.Tensor | None]  # weights (out, in), and a bias (out,) or none
Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
Turns = tuple[torch.Tensor, torch.Tensor]  # cosines and signed sines, (slots, 1, n, head_dim) each
Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # query, key, value: (slots, heads, n, head_dim) each


class FusedReading:
    """Reads a few positions as a language model's own forward pass does.

    Weights of projections that read the same states are moved to lie together; the model's own layers read them there.

    Args:
        language_model: of a known architecture.
        compiled: compile it, which takes half a minute when it first runs on a machine; then it is found again in the
            cache folder.

    Raises:
        ValueError: for another architecture.
    """

    def __init__(self, language_model: Any, *, compiled: bool) -> None:
        if not known(language_model):
            raise ValueError(
                f"model.compile knows {' and '.join(ARCHITECTURES)}, not {language_model.config.model_type}"
            )
        self._model = language_model
        self._before, self._after = list[Any](), list[Any]()
        for layer in language_model.layers:
            own, mlp = layer.self_attn, layer.mlp
            self._before.append((layer.input_layernorm.weight, *together(own.q_proj, own.k_proj, own.v_proj)))
            fed = *together(own.o_proj), *together(mlp.gate_proj, mlp.up_proj), *together(mlp.down_proj)
            self._after.append((layer.post_attention_layernorm.weight, *fed))
        steps = _Steps(language_model, product if compiled else product_by_all_cores)
        written: Sequence[Callable[..., Any]] = (steps.enter, steps.between, steps.leave)
        self._enter, self._between, self._leave = (
            torch.compile(step, dynamic=True) if compiled else step for step in written
        )

    @torch.inference_mode()
    def __call__(self, slots: Sequence[Slot], embeddings: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """States (slots, n, hidden) of embeddings (slots, n, hidden) at positions (slots, n), after what slots hold."""
        model = self._model
        cache, attend = Rows(slots), AttentionInterface()[model.config._attn_implementation]
        turns, rows = self._turns(embeddings, positions), embeddings
        heads, last = self._enter(rows, self._before[0], turns), len(model.layers) - 1
        for index, layer in enumerate(model.layers):
            query, key, value = heads
            keys, values = cache.update(key, value, index)
            own = layer.self_attn
            mixed = attend(own, query, keys, values, None, scaling=own.scaling)[0].flatten(2)
            if index == last:
                break
            rows, heads = self._between(rows, mixed, self._after[index], self._before[index + 1], turns)
        states: torch.Tensor = self._leave(rows, mixed, self._after[last], model.norm.weight)
        return states

    def _turns(self, embeddings: torch.Tensor, positions: torch.Tensor) -> Turns:
        """Rotary embeddings of each row's positions; the first half of the sines changes its sign, as what it turns."""
        cosines, sines = self._model.rotary_emb(embeddings, position_ids=positions)
        low, high = sines.chunk(2, -1)
        return cosines[:, None], torch.cat([-low, high], -1)[:, None]


class _Steps:
    """What is done between attentions.

    Args:
        language_model: whose sizes it has.
        product: of rows and weights.
    """

    def __init__(self, language_model: Any, product: Product) -> None:
        own, config = language_model.layers[0].self_attn, language_model.config
        self._product = product
        self._eps: float = language_model.norm.variance_epsilon
        self._head_dim: int = own.head_dim
        self._kv_heads: int = config.num_key_value_heads
        self._turned: int = config.num_attention_heads + config.num_key_value_heads  # queries and keys

    def enter(self, rows: torch.Tensor, before: Any, turns: Turns) -> Heads:
        """Rows (slots, n, hidden) to what the attention takes, turned to their positions."""
        norm, *linear = before
        cosines, sines = turns
        products = self._product(self._normed(rows, norm), *linear)
        heads = torch.unflatten(products, -1, (-1, self._head_dim)).transpose(1, 2)
        plain, value = heads[:, : self._turned], heads[:, self._turned :]
        turned = plain * cosines + plain.roll(self._head_dim // 2, -1) * sines
        return turned[:, : -self._kv_heads], turned[:, -self._kv_heads :], value

    def between(
        self, rows: torch.Tensor, mixed: torch.Tensor, after: Any, before: Any, turns: Turns
    ) -> tuple[torch.Tensor, Heads]:
        """What leaves a layer, and what the next one's attention takes."""
        rows = self._feed(rows, mixed, after)
        return rows, self.enter(rows, before, turns)

    def leave(self, rows: torch.Tensor, mixed: torch.Tensor, after: Any, norm: torch.Tensor) -> torch.Tensor:
        """What leaves the last layer, normalized."""
        return self._normed(self._feed(rows, mixed, after), norm)

    def _feed(self, rows: torch.Tensor, mixed: torch.Tensor, after: Any) -> torch.Tensor:
        """What leaves a layer, of what entered it and what its attention gave, (slots, n, heads * head_dim)."""
        norm, out, out_bias, gate_up, gate_up_bias, down, down_bias = after
        rows = rows + self._product(mixed, out, out_bias)
        gate, up = self._product(self._normed(rows, norm), gate_up, gate_up_bias).chunk(2, -1)
        return rows + self._product(silu(gate) * up, down, down_bias)

    def _normed(self, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMSNorm, in float32 as transformers computes it."""
        wide = rows.float()
        return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._eps)).to(rows.dtype)


def known(language_model: Any) -> bool:
    """Whether its layers' formulas are these."""
    config = language_model.config
    return config.model_type in ARCHITECTURES and config.hidden_act == "silu"


def quicker(language_model: Any) -> bool:
    """Whether reading few positions so is quicker though nothing is compiled: in float32 on a CPU, all weights wide."""
    layers = [layer for layer in language_model.layers.modules() if isinstance(layer, nn.Linear)]
    return known(language_model) and bool(layers) and all(type(layer) is FewRowsLinear for layer in layers)


def together(*linears: Any) -> Linear:
    """The weights of layers as one, (all of out, in), of which theirs become views; and their biases.

    A single layer's stay where they are.
    """
    if len(linears) == 1:
        return linears[0].weight, linears[0].bias
    weights = _joined([linear.weight for linear in linears])
    return weights, None if linears[0].bias is None else _joined([linear.bias for linear in linears])


def _joined(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    whole = torch.cat([tensor.data for tensor in tensors])
    for tensor, part in zip(tensors, torch.split(whole, [len(tensor) for tensor in tensors]), strict=True):
        tensor.data = part
    return whole
