"""Count the operations of reading positions, as a reference for measured growth."""

from __future__ import annotations

from af3stream.engine.af3.engine import Af3Engine


def operations(engine: Af3Engine, new: int, held: int) -> float:
    """Return the floating point operations of a pass over ``new`` positions after ``held``."""
    text = engine._loaded.model.config.text_config
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    layers = engine._loaded.model.model.language_model.layers
    linear = 2 * new * sum(weight.numel() for weight in layers.parameters())
    seen = new * held + new * (new + 1) / 2  # keys, of all queries together
    attention = 4 * seen * text.num_attention_heads * head_dim * text.num_hidden_layers
    return float(linear + attention)


def positions(engine: Af3Engine, windows: int) -> int:
    """Return the positions of ``windows`` full windows and the template before them."""
    return windows * engine.tokens.frames(engine.capacity.window_samples) + len(engine._fusion.head())
