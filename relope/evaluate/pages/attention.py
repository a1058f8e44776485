"""Attention weights over image patches and words: a page on which pointing at one tells its weight."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relope.evaluate.pages.render import render

_FULL = 4.0
"""At least so many times the average weight is inked fully: even weights look even, and light."""


@dataclass(frozen=True)
class Word:
    """A word of the prompt: its text, the indices of its tokens in the prompt, and their weights."""

    text: str
    indices: list[int]
    weights: list[float]

    @property
    def weight(self) -> float:
        """Return the word's share of all attention."""
        return sum(self.weights)

    @property
    def visible(self) -> str:
        """Return the text with its line ends written out."""
        return self.text.replace("\n", "⏎")


@dataclass(frozen=True)
class Patches:
    """An image's tokens, row by row.

    Attributes:
        indices: where they are in the prompt.
        weights: ``[P]`` share of all attention.
        columns: how many stand in a row.
        known: whether the grid is the image's own; else tokens are in reading order only.
    """

    indices: list[int]
    weights: npt.NDArray[np.float32]
    columns: int
    known: bool

    @property
    def rows(self) -> int:
        """Return how many rows there are, the last perhaps not full."""
        return -(-len(self.indices) // self.columns)


def scale(patches: Sequence[Patches], words: Sequence[Word]) -> float:
    """Return the weight that is inked fully: the largest, or some times the average if that is more."""
    n_tokens = sum(len(part.weights) for part in patches) + sum(len(word.weights) for word in words)
    most = max([float(part.weights.max()) for part in patches] + [word.weight for word in words], default=0.0)
    return max(most, min(1.0, _FULL / max(n_tokens, 1)))


def render_attention(
    title: str,
    answer: str,
    notes: Sequence[str],
    images: Sequence[str | None],
    patches: Sequence[Patches],
    words: Sequence[Word],
) -> str:
    """Return a self-contained HTML page; pointing at a patch or a word tells its weight.

    Args:
        title: heading.
        answer: what the model answered.
        notes: sentences under the heading.
        images: data URIs, or None where an image is not at hand.
        patches: one grid an image.
        words: the prompt's words.
    """
    full = scale(patches, words)
    return render(
        "attention.html.j2",
        title=title,
        answer=answer,
        notes=notes,
        grids=list(zip(images, patches, strict=True)),
        words=words,
        full=full,
        ink=lambda weight: f"{0.85 * float(weight) / full:.3f}",
        percent=lambda weight: f"{float(weight):.2%}",
    )
