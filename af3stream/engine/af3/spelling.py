"""What frames spell where they have learned to be token embeddings: connectionist temporal classification (CTC).

A frame's tokens are scored by the cosine between it and their embeddings, the table's mean taken off both; most frames
are blank, and the mean frame says where that is. What frames spell is a draft for next to nothing, how likely they
find a text is a second opinion on what another captioner wrote, and a word was said where they find it likeliest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import ctc_loss, normalize

SHARPNESS: Final = 30.0  # of the cosine in a frame's scores, as it was trained; 10 cannot get sharp enough
BLANK: Final = 0.85  # of the likeness to the mean frame, as most frames are blank: a likeness below it is a token's

TOGETHER: Final = 16  # texts whose alignments are held at once: 20 MB in a full window
SPEECH: Final = 25  # frames of speech have one token at least, a second's; of noise one or two in twenty seconds
SPEECH_TOKENS: Final = 2  # and it has no fewer
SOUND: Final = "("  # how the name of what is no speech begins


class Units:
    """Texts in the tokens that a frame may be: the first of the tokenizer's, so that rare words come in pieces.

    Args:
        tokenizer: of the language model.
        tokens: how many of its first; control tokens are none of them.

    Attributes:
        ids: all of them, (units,).
    """

    def __init__(self, tokenizer: Any, tokens: int) -> None:
        from tokenizers import Tokenizer

        whole = json.loads(tokenizer.backend_tokenizer.to_str())
        model, controls = whole["model"], {token["content"] for token in whole["added_tokens"]}
        model["vocab"] = {t: i for t, i in model["vocab"].items() if i < tokens and t not in controls}
        model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
        whole["added_tokens"] = []
        self._tokenizer = Tokenizer.from_str(json.dumps(whole))
        self.ids = torch.tensor(sorted(model["vocab"].values()))

    def encode(self, text: str, *, first: bool = False) -> list[int]:
        """Tokens of a text; with a space before it, unless it is the first."""
        ids: list[int] = self._tokenizer.encode(text if first else f" {text}", add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without space around it."""
        text: str = self._tokenizer.decode(tokens)
        return text.strip()


@dataclass(frozen=True, slots=True)
class Filler:
    """What a window's frames spell, whatever is looked for in them; little, beside the frames.

    Attributes:
        best: of each frame, the score of its likeliest token, or of the blank; (n,).
        blank: whether that is the blank; (n,) bool.
    """

    best: torch.Tensor
    blank: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some of a window's frames, from ``first`` up to ``end``.

    Attributes:
        frames: projected, of the whole window, (n, hidden).
        filler: what these spell.
    """

    frames: torch.Tensor
    filler: Filler
    first: int
    end: int


@dataclass(frozen=True, slots=True, order=True)
class Spotted:
    """Where in a stretch a word is said, if it is.

    Attributes:
        score: by how much spelling the word there is less likely than the likeliest, as a log-probability: 0 at most.
        first, last: its frames, counted in the window.
    """

    score: float
    first: int
    last: int


class Spelling:
    """Reads frames as token embeddings.

    Args:
        table: the language model's token embeddings, (tokens, hidden).
        tokenizer: of the language model.
        tokens: how many of the first a frame may be.

    Attributes:
        units: those tokens.
    """

    def __init__(self, table: torch.Tensor, tokenizer: Any, tokens: int) -> None:
        self.units = Units(tokenizer, tokens)
        self._table, self._mean = table[:tokens], table.mean(0)
        self._lengths = (self._table - self._mean).norm(dim=1)

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor) -> list[int]:
        """The likeliest token ids of projected frames (n, hidden), repeats and blanks taken out."""
        best = self._likeness(frames).argmax(1).tolist()
        return [token for token, _ in groupby(best) if token < len(self._table)]

    @torch.inference_mode()
    def likelihoods(self, frames: torch.Tensor, texts: Sequence[str]) -> list[float]:
        """The log-probability of each text, in all its alignments with projected frames (n, hidden)."""
        said = [self.units.encode(text, first=True) for text in texts]
        units = sorted({unit for ids in said for unit in ids})
        places = {unit: place for place, unit in enumerate(units)}
        scores = (SHARPNESS * self._likeness(frames)).log_softmax(1)[:, [*units, -1]]  # (n, units and the blank)
        likelihoods: list[float] = []
        for start in range(0, len(said), TOGETHER):
            some = said[start : start + TOGETHER]
            losses = ctc_loss(
                scores[:, None].expand(-1, len(some), -1),
                torch.tensor([places[unit] for ids in some for unit in ids], device=scores.device),
                torch.full((len(some),), len(frames)),
                torch.tensor([len(ids) for ids in some]),
                blank=len(units),
                reduction="none",
            )
            likelihoods += (-losses).tolist()
        return likelihoods

    @torch.inference_mode()
    def filler(self, frames: torch.Tensor) -> Filler:
        """What does not depend on a word, of projected frames (n, hidden); `spot` is quick with it."""
        likeliest = (SHARPNESS * self._likeness(frames)).max(1)
        return Filler(likeliest.values, (likeliest.indices == len(self._table)).cpu().numpy())

    @torch.inference_mode()
    def spot(self, stretches: Sequence[Stretch], word: str) -> list[Spotted]:
        """Where in each stretch a word is likeliest said: keyword spotting with a filler of whatever is likeliest.

        Args:
            stretches: of one frame at least.

        Returns:
            One a stretch; none at all where there is no way to spell the word.
        """
        forms = [(form, False) for form in (word, word.lower(), word.capitalize())] + [(word.capitalize(), True)]
        ways = sorted({tuple(self.units.encode(form, first=first)) for form, first in forms} - {()})
        if not ways or not stretches:
            return []
        units = sorted({unit for way in ways for unit in way})
        states = [[place for unit in way for place in (units.index(unit), -1)][:-1] for way in ways]  # blanks between
        whole = {id(each.frames): each for each in stretches}
        relative = {key: self._relative(each.frames, each.filler, units) for key, each in whole.items()}
        found = _likeliest(
            [relative[id(each.frames)][each.first : each.end, columns] for each in stretches for columns in states]
        )
        each_way = [found[start : start + len(ways)] for start in range(0, len(found), len(ways))]
        return [
            Spotted(score, stretch.first + first, stretch.first + last)
            for stretch, (score, first, last) in zip(stretches, map(max, each_way), strict=True)
        ]

    def _relative(self, frames: torch.Tensor, filler: Filler, units: Sequence[int]) -> NDArray[np.float32]:
        """How much less likely than the best of each frame these units are, and the blank; (n, units + 1)."""
        scores = SHARPNESS * self._likeness(frames, units)
        relative: NDArray[np.float32] = (scores - filler.best[:, None]).cpu().numpy()
        return relative

    def _likeness(self, frames: torch.Tensor, units: Sequence[int] | slice = slice(None)) -> torch.Tensor:
        """Of each frame to each of the tokens, and to the blank, which is the last; (n, tokens + 1)."""
        ways = normalize(frames.to(self._mean) - self._mean, dim=1)
        cosines = (ways @ self._table[units].T - (ways @ self._mean)[:, None]) / self._lengths[units]
        blank = normalize(ways.mean(0), dim=0)
        return torch.cat([cosines, BLANK * (ways @ blank)[:, None]], dim=1)


class Spelled:
    """One piece of audio, by what its frames spell.

    Args:
        frames: projected, (n, hidden).
    """

    def __init__(self, spelling: Spelling, frames: torch.Tensor) -> None:
        self._spelling, self._frames = spelling, frames

    @property
    def speech(self) -> bool:
        """Whether anybody speaks: more is spelled than in noise, and not the name of a sound."""
        tokens = self._spelling(self._frames)
        enough = len(tokens) >= max(SPEECH_TOKENS, len(self._frames) / SPEECH)
        return enough and not self._spelling.units.decode(tokens).startswith(SOUND)

    def likelihoods(self, texts: Sequence[str]) -> list[float]:
        """The log-probability of each text."""
        return self._spelling.likelihoods(self._frames, texts)


def _likeliest(paths: Sequence[NDArray[np.float32]]) -> list[tuple[float, int, int]]:
    """The best way through each of these paths, from its first state to its last, over any of its frames in a row.

    Args:
        paths: (frames, states) log-probabilities each; odd states are blanks, which may be left out between two units
            that differ. Two neighbouring states that are the same unit have the same column.

    Returns:
        The score of each, and its first and last frame.
    """
    longest, widest = max(len(path) for path in paths), max(path.shape[1] for path in paths)
    each = np.arange(len(paths))
    scores = np.full((longest, len(paths), widest), -np.inf, np.float32)
    skips = np.zeros((len(paths), widest), bool)
    for number, path in enumerate(paths):
        scores[: len(path), number, : path.shape[1]] = path
        skips[number, 2 : path.shape[1] : 2] = (path[:, 2::2] != path[:, :-2:2]).any(0)
    last = np.array([path.shape[1] - 1 for path in paths])
    state, begun = np.full((len(paths), widest), -np.inf, np.float32), np.zeros((len(paths), widest), np.int64)
    best, spans = np.full(len(paths), -np.inf, np.float32), np.zeros((len(paths), 2), np.int64)
    for frame in range(longest):
        ways = np.full((3, len(paths), widest), -np.inf, np.float32)  # to stay, to enter, to leave a blank out
        ways[0], ways[1, :, 0], ways[1, :, 1:] = state, 0.0, state[:, :-1]
        ways[2, :, 2:] = np.where(skips[:, 2:], state[:, :-2], -np.inf)
        begins = np.full((3, len(paths), widest), frame)
        begins[0], begins[1, :, 1:], begins[2, :, 2:] = begun, begun[:, :-1], begun[:, :-2]
        taken = ways.argmax(0)[None]
        state = np.take_along_axis(ways, taken, 0)[0] + scores[frame]
        begun = np.take_along_axis(begins, taken, 0)[0]
        ended = state[each, last]
        better = ended > best
        best[better] = ended[better]
        spans[better, 0], spans[better, 1] = begun[each, last][better], frame
    return [(float(score), int(first), int(final)) for score, (first, final) in zip(best, spans, strict=True)]
