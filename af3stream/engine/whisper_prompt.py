"""The tokens before a Whisper transcript: vocabulary, language and task."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any, Final, Literal

LONGEST: Final = 448  # tokens of a prompt and its transcript; the library's max_length
VOCABULARY_TOKENS: Final = LONGEST // 2 - 1  # the most that may stand before a transcript; as in faster-whisper

Task = Literal["transcribe", "translate"]


class WhisperPrompt:
    """Builds prompts for one tokenizer.

    Args:
        tokenizer: a `tokenizers.Tokenizer` of a Whisper checkpoint.
        languages: codes that the library knows; those without a token are left out.
        multilingual: whether the checkpoint takes a language and a task.

    Attributes:
        languages: codes that may be asked for, the ones with most training data first.
    """

    def __init__(self, tokenizer: Any, languages: Sequence[str], *, multilingual: bool) -> None:
        self._tokenizer = tokenizer
        self._multilingual = multilingual
        self.languages = tuple(code for code in languages if self._id(code) is not None) if multilingual else ("en",)
        self._plain = deepcopy(tokenizer)
        self._plain.encode_special_tokens = True  # a control token spelled in a term is text
        self._before = lru_cache(maxsize=8)(self._vocabulary)

    def ids(self, language: str, task: Task, vocabulary: tuple[str, ...] = ()) -> list[int]:
        """Return the prompt's token ids.

        The vocabulary stands where the text before the audio would stand, so the transcript follows its spelling. Of a
        long vocabulary only the first terms are used, as many as fit into 223 tokens.
        """
        names = ["startoftranscript", language, task] if self._multilingual else ["startoftranscript"]
        return [*self._before(vocabulary), *(token for name in [*names, "notimestamps"] if (token := self._id(name)))]

    def _id(self, name: str) -> int | None:
        token: int | None = self._tokenizer.token_to_id(f"<|{name}|>")
        return token

    def _vocabulary(self, vocabulary: tuple[str, ...]) -> tuple[int, ...]:
        first = self._id("startofprev")
        if not vocabulary or first is None:
            return ()
        ids: list[int] = []
        for term in vocabulary:
            spelled = self._plain.encode(f"{',' if ids else ''} {term}", add_special_tokens=False).ids
            if len(ids) + len(spelled) >= VOCABULARY_TOKENS:
                break
            ids += spelled
        return (first, *ids)
