"""The plain way: transformers' own model and `generate`, over everything, from nothing, each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.prompt import encode_text, read_template
from af3stream.engine.af3.repetition import repeats
from af3stream.engine.captioning import Samples
from af3stream.engine.contract import Turn


class Repetition(StoppingCriteria):  # type: ignore[misc]
    """Ends a reply that repeats itself.

    Args:
        prompt: ids before the generated ones.
    """

    def __init__(self, prompt: int) -> None:
        self._prompt = prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """Whether each row (prompt + generated) is over."""
        return torch.tensor([repeats(row[self._prompt :].tolist()) for row in input_ids], device=input_ids.device)


def reply(
    loaded: LoadedCheckpoint,
    body: Sequence[Samples | str],
    question: str,
    max_tokens: int,
    system: str | None = None,
    earlier: Sequence[Turn] = (),
) -> list[int]:
    """Greedy tokens for a body of windows and notes, each window padded to its full length, counted by itself."""
    tokenizer, template = loaded.processor.tokenizer, read_template(loaded.processor, system)
    ids = list(template.head)
    for part in body:
        if isinstance(part, str):
            ids += encode_text(tokenizer, part)
        else:
            ids += [loaded.model.config.audio_token_id] * loaded.alignment.frames(len(part))
    for turn in earlier:
        ids += [*encode_text(tokenizer, turn.question), *template.tail]
        ids += [*encode_text(tokenizer, turn.answer), *template.between]
    ids += [*encode_text(tokenizer, question), *template.tail]
    windows = [part for part in body if not isinstance(part, str)]
    return _generate(
        loaded,
        torch.tensor([ids], device=loaded.model.device),
        features(loaded, windows) if windows else {},
        max_tokens,
    )


def stock_reply(
    loaded: LoadedCheckpoint,
    audio: Samples,
    question: str,
    max_tokens: int,
    earlier: Sequence[Turn] = (),
    system: str | None = None,
) -> list[int]:
    """Greedy tokens through the stock processor and its chat template, for audio in full 30 s windows."""
    chat: list[dict[str, Any]] = []
    for turn in earlier:
        chat += [_says("user", turn.question), _says("assistant", turn.answer)]
    chat.append(_says("user", question))
    chat[0]["content"].insert(0, {"type": "audio", "path": "-"})
    if system is not None:
        chat.insert(0, _says("system", system))
    text = loaded.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = loaded.processor(text=[text], audio=[audio]).to(loaded.model.device, loaded.model.dtype)
    return _generate(loaded, inputs.pop("input_ids"), dict(inputs), max_tokens)


def _says(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def features(loaded: LoadedCheckpoint, windows: Sequence[Samples]) -> dict[str, torch.Tensor]:
    """Stock features (windows, mels, 3000) in the model's dtype, and their mask (windows, 3000), on its device."""
    extracted = loaded.processor.feature_extractor(
        list(windows), sampling_rate=16_000, padding="max_length", return_attention_mask=True, return_tensors="pt"
    ).to(loaded.model.device, loaded.model.dtype)
    return {"input_features": extracted["input_features"], "input_features_mask": extracted["attention_mask"]}


def projected(loaded: LoadedCheckpoint, window: Samples) -> torch.Tensor:
    """A window through the stock encoder and projector, padded: (K, hidden)."""
    with torch.inference_mode():
        output = loaded.model.get_audio_features(**features(loaded, [window]))
    frames: torch.Tensor = output.pooler_output
    return frames


def _generate(loaded: LoadedCheckpoint, ids: torch.Tensor, inputs: dict[str, Any], max_tokens: int) -> list[int]:
    inputs.setdefault("attention_mask", torch.ones_like(ids))
    criteria = StoppingCriteriaList([Repetition(ids.shape[1])])
    output = loaded.model.generate(
        input_ids=ids, **inputs, max_new_tokens=max_tokens, do_sample=False, stopping_criteria=criteria
    )
    return [token for token in output[0, ids.shape[1] :].tolist() if token not in loaded.stop]
