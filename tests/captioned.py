"""A caption by a captioner, all its passes one after another."""

from __future__ import annotations

from af3stream.engine.captioning import (
    DEFAULT_OPTIONS,
    Captioner,
    CaptionOptions,
    CaptionRequest,
    Hypothesis,
    Samples,
    result_of,
)


def captioned(
    captioner: Captioner,
    samples: Samples,
    draft: Hypothesis | None = None,
    *,
    final: bool = True,
    max_tokens: int = 99,
    options: CaptionOptions = DEFAULT_OPTIONS,
) -> Hypothesis:
    """The caption of an utterance."""
    return result_of(captioner.caption(CaptionRequest(samples, max_tokens, final, draft, options)))
