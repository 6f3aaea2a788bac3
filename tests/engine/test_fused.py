"""Few positions read in few operations, compiled or not: what transformers writes, or a clear refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AudioFlamingo3ForConditionalGeneration

from af3stream.engine.af3 import linear
from af3stream.engine.af3.checkpoint import load_checkpoint
from af3stream.engine.af3.decode import Decoder, Reply
from af3stream.engine.af3.encoder import Encoder
from af3stream.engine.af3.engine import Af3Engine
from af3stream.engine.af3.linear import FEW, HalfEmbedding, HalfLinear, exactly_half, keep_in_half
from af3stream.engine.captioning import Hypothesis, Samples
from af3stream.errors import ModelError
from tests.captioned import captioned
from tests.checkpoints import make_tiny
from tests.engine.conftest import answer, model_config, new_context, parts_of

TOKENS = 24
Text = Literal["llama", "qwen2"]


def halved(folder: Path, text: Text) -> Path:
    """A tiny checkpoint whose weights two bytes hold exactly, as those of published ones."""
    path = make_tiny(folder, text=text) / "model.safetensors"
    rounded = {name: weight.half().float() for name, weight in load_file(path).items()}
    save_file(rounded, path, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def tiny_halved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return halved(tmp_path_factory.mktemp("halved"), request.param)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same functions, run as they are written."""

    def as_written(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        return function

    monkeypatch.setattr(torch, "compile", as_written)


def engine_of(folder: Path, **settings: Any) -> Af3Engine:
    return Af3Engine(load_checkpoint(folder, model_config(**settings)), "tiny")


def answered(engine: Af3Engine, signal: Callable[[float, int], Samples]) -> list[Any]:
    """Answers over two windows, and a caption after a draft that is wrong."""
    parts = parts_of(engine, [signal(7.0, 1), signal(4.0, 2)])
    context = new_context(engine)
    list(context.extend(parts))
    questions = ("What was said?", "Who spoke?")
    heard = captioned(engine.captioner, signal(5.0, 3), Hypothesis("", (5, 6, 7, 8)), max_tokens=TOKENS).tokens
    return [*(answer(context, parts, question, TOKENS)[0] for question in questions), heard]


def reply_after(decoder: Decoder, *tokens: int) -> Reply:
    """A reply whose last token is to be read after the others."""
    reply = Reply(decoder.new_slot(8), last=tokens[-1])
    list(decoder.prefill(reply.slot, decoder.embed(tokens[:-1])))
    return reply


@pytest.mark.device
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize(("slots", "new"), [(1, 1), (FEW, 1), (2, 2), (1, FEW)])
@pytest.mark.usefixtures("uncompiled")
def test_few_positions_are_read_as_transformers_reads_them(
    tiny_halved: Path, compile: bool, slots: int, new: int
) -> None:
    """Each row after another number of positions."""
    fused = engine_of(tiny_halved, compile=compile)._decoder
    plain = engine_of(tiny_halved)._decoder
    plain._fused = None
    states = []
    for decoder in (fused, plain):
        rows = [decoder.new_slot(16) for _ in range(slots)]
        for held, slot in enumerate(rows, start=3):
            list(decoder.prefill(slot, decoder.embed(range(7, 7 + held))))
        states.append(decoder._forward(rows, decoder.embed(range(slots * new)).view(slots, new, -1)))
    torch.testing.assert_close(states[0], states[1], atol=2e-5, rtol=1e-4)


def test_projections_of_the_same_states_lie_together(tiny_halved: Path) -> None:
    """Without a second copy of them, and where both the decoder and transformers' own model read them."""
    engine = engine_of(tiny_halved)
    for model in (engine._loaded.model.model.language_model, engine._decoder._language_model):
        own = model.layers[0].self_attn
        starts = [projection.weight.untyped_storage().data_ptr() for projection in (own.q_proj, own.k_proj, own.v_proj)]
        assert len({*starts}) == 1
    assert engine._decoder._fused is not None


@pytest.mark.device
@pytest.mark.usefixtures("uncompiled")
def test_the_functions_write_what_transformers_writes(
    tiny_halved: Path, signal: Callable[[float, int], Samples]
) -> None:
    assert answered(engine_of(tiny_halved, compile=True), signal) == answered(engine_of(tiny_halved), signal)


@pytest.mark.slow
@pytest.mark.device
def test_compiled_they_do_too(tmp_path: Path, signal: Callable[[float, int], Samples]) -> None:
    folder = halved(tmp_path / "tiny", "llama")
    engine, plain = engine_of(folder, compile=True), engine_of(folder)
    assert engine.counters.forward_passes == 0  # what was compiled for is not counted
    assert answered(engine, signal) == answered(plain, signal)
    decoder = engine._decoder
    replies = [reply_after(decoder, *tokens) for tokens in ((5, 6), (7, 8, 9), (10, 11))]
    apart = [reply_after(decoder, *tokens) for tokens in ((5, 6), (7, 8, 9), (10, 11))]
    decoder.advance(replies)  # several rows in one pass
    for reply in apart:
        decoder.advance([reply])
    assert [reply.next for reply in replies] == [reply.next for reply in apart]


@pytest.mark.usefixtures("uncompiled")
def test_weights_take_half_the_bytes(tiny_halved: Path) -> None:
    def bytes_of(engine: Af3Engine) -> int:
        model = engine._loaded.model.model.language_model
        return sum(tensor.nbytes for tensor in {*model.parameters(), *model.buffers()} if tensor.ndim == 2)

    assert bytes_of(engine_of(tiny_halved, compile=True)) < 0.51 * bytes_of(engine_of(tiny_halved))


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("rows", [(1,), (FEW, 1), (2, 7)])
@pytest.mark.parametrize("bias", [False, True])
def test_products_with_halves_are_those_of_the_wide_weights(rows: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 10, bias=bias).requires_grad_(False)
    layer.weight.copy_(layer.weight.half().float())
    model = nn.ModuleList([layer])
    keep_in_half(model, compiles=True)
    given = torch.randn(*rows, 24)
    assert isinstance(model[0], HalfLinear) and model[0].weight.dtype == torch.float16
    torch.testing.assert_close(model[0](given), layer(given), atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("uncompiled")
def test_a_narrower_model_is_decoded_as_it_is(tiny_halved: Path, signal: Callable[[float, int], Samples]) -> None:
    plain, engine = (engine_of(tiny_halved, dtype="bfloat16", compile=compile) for compile in (False, True))
    assert not any(isinstance(layer, HalfLinear) for layer in engine._loaded.model.modules())
    assert answered(engine, signal) == answered(plain, signal)


@pytest.mark.parametrize("seconds", [0.1, 3.0])
def test_a_tower_that_halves_hold_is_kept_in_them_and_gives_the_same_frames_without_a_compiler(
    tiny_halved: Path, signal: Callable[[float, int], Samples], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "compiled", None)
    engine = engine_of(tiny_halved)
    tower = engine._loaded.model.model.audio_tower
    narrow = [layer for layer in tower.modules() if isinstance(layer, HalfLinear | HalfEmbedding)]
    assert len(narrow) == 1 + 2 * 6 and not any(isinstance(layer, nn.Linear) for layer in tower.modules())
    wide = AudioFlamingo3ForConditionalGeneration.from_pretrained(tiny_halved, dtype=torch.float32)
    extractor, alignment = engine._loaded.processor.feature_extractor, engine._loaded.alignment
    (expected,) = Encoder(wide, extractor, alignment).encode([signal(seconds, 4)])
    assert torch.equal(engine._encoder.encode([signal(seconds, 4)])[0], expected) and len(expected) > 1


def test_a_table_in_halves_gives_the_same_embeddings() -> None:
    table = nn.Embedding(12, 4).requires_grad_(False)
    table.weight.copy_(table.weight.bfloat16().float())
    model = nn.ModuleList([table])
    keep_in_half(model, compiles=True)
    ids = torch.tensor([[3, 0], [11, 3]])
    assert isinstance(model[0], HalfEmbedding)
    torch.testing.assert_close(model[0](ids), table(ids), atol=0, rtol=0)


def test_weights_that_halves_would_change_stay_wide() -> None:
    layer = nn.Linear(24, 10).requires_grad_(False)
    layer.weight[3, 3] = 1 / 3
    keep_in_half(model := nn.ModuleList([layer]), compiles=True)
    assert model[0] is layer
    large = torch.tensor([[65_536.0, 2**-20]])  # beyond float16, exact in bfloat16
    assert (half := exactly_half(large)) is not None and half.dtype == torch.bfloat16


def test_where_nothing_compiles_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Callable[..., Any]:
        def call(*_: Any) -> None:
            raise RuntimeError("no working C++ compiler\nand more")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(ModelError, match=r"model\.compile is not possible here: no working C\+\+ compiler$"):
        engine_of(halved(tmp_path / "tiny", "llama"), compile=True)
