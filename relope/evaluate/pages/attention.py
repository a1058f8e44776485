"""Attention weights over image patches and words: a page on which pointing at one tells its weight."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from relope.evaluate.pages.render import render

if TYPE_CHECKING:
    from PIL.Image import Image

_FULL = 4.0
"""At least so many times the average weight is inked fully: even weights look even, and light."""

_SIDE, _SMOOTH = 840, 100
"""Pixels of a picture's longer side at most: twice what it takes on the page; and below which it is not smoothed."""


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
class Picture:
    """An image as a page holds it.

    Attributes:
        uri: a data URI.
        width: pixels.
        height: pixels.
    """

    uri: str
    width: int
    height: int

    @property
    def small(self) -> bool:
        """Return whether its pixels are to be seen as squares, not smoothed."""
        return max(self.width, self.height) < _SMOOTH


def picture(image: "Image") -> Picture:
    """Return an image as a page holds it: no larger than it is looked at, small ones to the bit."""
    shown = image.convert("RGB")
    shown.thumbnail((_SIDE, _SIDE))
    lossless, buffer = max(shown.size) < _SMOOTH, io.BytesIO()
    shown.save(buffer, "WEBP", lossless=lossless, quality=85)
    return Picture(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", *shown.size)


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
    images: Sequence[Picture | None],
    patches: Sequence[Patches],
    words: Sequence[Word],
) -> str:
    """Return a self-contained HTML page; pointing at a patch or a word tells its weight.

    Args:
        title: heading.
        answer: what the model answered.
        notes: sentences under the heading.
        images: None where one is not at hand.
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
