"""Read few positions with few operations a layer; the operations may be compiled.

With few positions the arithmetic is small, so the overhead around it counts. Projections that read the same states are
one product over joined weights, and nothing is looked up or prepared layer by layer. Attention over slots is that of
`af3stream.engine.af3.attention`. The formulas of the layers are those of transformers' Llama and Qwen2. Compiled, the
end of a layer and the beginning of the next are a few loops that read each weight once.
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
    """Reads a few positions, with the results of the language model's own forward pass.

    Weights of projections that read the same states are joined; the model's own layers become views of them.

    Args:
        language_model: of a supported architecture.
        compiled: whether to compile. That takes half a minute when it first runs on a machine, and is read from the
            cache folder later.

    Raises:
        ValueError: for another architecture.
    """

    def __init__(self, language_model: Any, *, compiled: bool) -> None:
        if not is_supported(language_model):
            raise ValueError(
                f"model.compile knows {' and '.join(ARCHITECTURES)}, not {language_model.config.model_type}"
            )
        self._model = language_model
        self._before, self._after = list[Any](), list[Any]()
        for layer in language_model.layers:
            own, mlp = layer.self_attn, layer.mlp
            self._before.append((layer.input_layernorm.weight, *join_weights(own.q_proj, own.k_proj, own.v_proj)))
            fed = *join_weights(own.o_proj), *join_weights(mlp.gate_proj, mlp.up_proj), *join_weights(mlp.down_proj)
            self._after.append((layer.post_attention_layernorm.weight, *fed))
        steps = _Steps(language_model, product if compiled else product_by_all_cores)
        written: Sequence[Callable[..., Any]] = (steps.enter, steps.between, steps.leave)
        self._enter, self._between, self._leave = (
            torch.compile(step, dynamic=True) if compiled else step for step in written
        )

    @torch.inference_mode()
    def __call__(self, slots: Sequence[Slot], embeddings: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return states (slots, n, hidden) of embeddings (slots, n, hidden) at positions (slots, n) after the slots."""
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
        """Return the rotary embeddings of each row's positions, the first half of the sines negated.

        So a rotation by half of the head's width, as `roll` does it, needs no change of sign.
        """
        cosines, sines = self._model.rotary_emb(embeddings, position_ids=positions)
        low, high = sines.chunk(2, -1)
        return cosines[:, None], torch.cat([-low, high], -1)[:, None]


class _Steps:
    """The operations between attentions.

    Args:
        language_model: where the sizes are read.
        product: computes rows times weights.
    """

    def __init__(self, language_model: Any, product: Product) -> None:
        own, config = language_model.layers[0].self_attn, language_model.config
        self._product = product
        self._eps: float = language_model.norm.variance_epsilon
        self._head_dim: int = own.head_dim
        self._kv_heads: int = config.num_key_value_heads
        self._turned: int = config.num_attention_heads + config.num_key_value_heads  # queries and keys

    def enter(self, rows: torch.Tensor, before: Any, turns: Turns) -> Heads:
        """Return what the attention takes of rows (slots, n, hidden), rotated to their positions."""
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
        """Return a layer's output (slots, n, hidden), and what the next layer's attention takes."""
        rows = self._feed(rows, mixed, after)
        return rows, self.enter(rows, before, turns)

    def leave(self, rows: torch.Tensor, mixed: torch.Tensor, after: Any, norm: torch.Tensor) -> torch.Tensor:
        """Return the last layer's output (slots, n, hidden), normalised."""
        return self._normed(self._feed(rows, mixed, after), norm)

    def _feed(self, rows: torch.Tensor, mixed: torch.Tensor, after: Any) -> torch.Tensor:
        """Return a layer's output from its input and its attention's output, (slots, n, heads * head_dim)."""
        norm, out, out_bias, gate_up, gate_up_bias, down, down_bias = after
        rows = rows + self._product(mixed, out, out_bias)
        gate, up = self._product(self._normed(rows, norm), gate_up, gate_up_bias).chunk(2, -1)
        return rows + self._product(silu(gate) * up, down, down_bias)

    def _normed(self, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMSNorm, in float32 as transformers computes it."""
        wide = rows.float()
        return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._eps)).to(rows.dtype)


def is_supported(language_model: Any) -> bool:
    """Return whether the layers' formulas are those of this module."""
    config = language_model.config
    return config.model_type in ARCHITECTURES and config.hidden_act == "silu"


def is_faster(language_model: Any) -> bool:
    """Return whether it is faster even if nothing is compiled: on a CPU, if all weights are float32."""
    layers = [layer for layer in language_model.layers.modules() if isinstance(layer, nn.Linear)]
    return is_supported(language_model) and bool(layers) and all(type(layer) is FewRowsLinear for layer in layers)


def join_weights(*linears: Any) -> Linear:
    """Join the weights of layers to one (sum of out, in), and their biases; the layers' own become views of it.

    The weights of a single layer are not moved.
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
