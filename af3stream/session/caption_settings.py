"""How a session's captions are made: what its client asks for, what the service is configured to, what is possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from af3stream.config import CaptionsConfig
from af3stream.engine.captioning import CaptionOptions
from af3stream.engine.facts import CaptionerFacts
from af3stream.errors import BadFormat, quoted
from af3stream.protocol.messages import Start, Task
from af3stream.session.language_tracker import LanguageTracker
from af3stream.session.question_text import clean_text

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class CaptionSettings:
    """Settings in force.

    Attributes:
        language: a code, or ``auto``.
        languages: codes that may occur; empty: the captioner does not say.
        task: ``translate``: English beside the original.
        vocabulary: the client's terms, then the service's.
        words: whether final captions say when each word was said.
    """

    language: str
    languages: tuple[str, ...]
    task: Task
    vocabulary: tuple[str, ...]
    words: bool

    @property
    def options(self) -> CaptionOptions:
        """What every job of the captioner has; the language is added for each."""
        return CaptionOptions(
            languages=self.languages,
            translate=self.task == "translate",
            words=self.words,
            vocabulary=self.vocabulary,
        )

    def tracker(self) -> LanguageTracker:
        """A new tracker of the session's language."""
        return LanguageTracker(None if self.language == AUTO else self.language, self.languages)


def settle(start: Start, config: CaptionsConfig, captioner: CaptionerFacts) -> CaptionSettings:
    """Return the settings of a session.

    Raises:
        BadFormat: for a language that the captioner does not know, or a task or word times that it cannot do.
        BadText: for a term without a letter, a digit or a symbol.
    """
    for code in (*filter(None, [start.language]), *start.languages):
        if code != AUTO and code not in captioner.languages:
            raise BadFormat(f"the captioner {captioner.name} does not know the language {quoted(code)}")
    if start.task == "translate" and not captioner.translates:
        raise BadFormat(f"the captioner {captioner.name} does not translate")
    if start.words and not captioner.times_words:
        raise BadFormat(f"the captioner {captioner.name} does not tell when each word was said (words)")
    terms = [clean_text(term) for term in (*start.vocabulary, *config.vocabulary)]
    return CaptionSettings(
        start.language or config.language,
        start.languages or config.languages or captioner.languages,
        start.task or config.task,
        tuple(dict.fromkeys(terms)),
        start.words,
    )
