"""Attention weights over image patches and words: a PNG, and a page that says each weight."""

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from relope.evaluate.pages.style import CSS

if TYPE_CHECKING:
    from PIL.Image import Image

_INK = (213, 94, 0)
_LETTERS, _LEFT, _ADVANCE = 86, 0.02, 0.602
"""Letters in a line, its left edge, and the width of a letter of the monospaced font in em."""
_FULL = 4.0
"""At least so many times the average weight is inked fully: even weights look even, and light."""
_PAGE_CSS = """
.shown { position: relative; display: inline-block; margin: .4rem 1.2rem .4rem 0; vertical-align: top; }
.shown img { display: block; width: 420px; height: auto; image-rendering: pixelated; filter: grayscale(1); }
.shown .empty { width: 420px; height: 420px; background: var(--soft); }
.patches { position: absolute; inset: 0; display: grid; }
.patches i:hover, .words span:hover { outline: 2px solid var(--ink); }
.words { font: 1.02rem/2.1 ui-monospace, monospace; max-width: 60rem; }
.words span { padding: .15rem .1rem; border-radius: 3px; white-space: pre-wrap; }
"""


@dataclass(frozen=True)
class Word:
    """A word of the prompt: its text, its tokens' places in the prompt and their weights."""

    text: str
    places: list[int]
    weights: list[float]

    @property
    def weight(self) -> float:
        """Return the word's share of all attention."""
        return sum(self.weights)


@dataclass(frozen=True)
class Patches:
    """An image's tokens, row by row.

    Attributes:
        places: where they are in the prompt.
        weights: ``[P]`` share of all attention.
        columns: how many stand in a row.
        known: whether the grid is the image's own; else tokens are in reading order only.
    """

    places: list[int]
    weights: npt.NDArray[np.float32]
    columns: int
    known: bool

    @property
    def rows(self) -> int:
        """Return how many rows there are, the last perhaps not full."""
        return -(-len(self.places) // self.columns)


def scale(patches: Sequence[Patches], words: Sequence[Word]) -> float:
    """Return the weight that is inked fully: the largest, or some times the average if that is more."""
    n_tokens = sum(len(part.weights) for part in patches) + sum(len(word.weights) for word in words)
    most = max([float(part.weights.max()) for part in patches] + [word.weight for word in words], default=0.0)
    return max(most, min(1.0, _FULL / max(n_tokens, 1)))


def draw(title: str, pictures: Sequence["Image | None"], patches: Sequence[Patches], words: Sequence[Word]) -> bytes:
    """Return a PNG: each picture beside its weights, and the words below, on one common scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    full, lines = scale(patches, words), _lines(words)
    text_inches, picture_inches = 0.7 + 0.3 * len(lines), 4.0 * len(patches)
    figure = Figure(figsize=(9, 0.9 + picture_inches + text_inches), layout=None, facecolor="white")
    FigureCanvasAgg(figure)
    height = figure.get_figheight()
    figure.text(_LEFT, 1 - 0.35 / height, title, fontsize=13, fontweight="bold", va="center")
    for number, (picture, part) in enumerate(zip(pictures, patches, strict=True)):
        bottom = 1 - (0.75 + 4.0 * (number + 1)) / height
        _draw_picture(figure, (bottom + 0.1 / height, 3.7 / height), picture, part, full)
    _draw_words(figure, lines, full, text_inches, height)
    n_tokens = sum(len(part.weights) for part in patches) + sum(len(word.weights) for word in words)
    legend = f"full ink = {full:.2%} of the weight or more; an even share would be {1 / max(n_tokens, 1):.2%} a token"
    figure.text(_LEFT, 0.15 / height, legend, fontsize=9, color="#5c626e", va="center")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw_picture(figure: Any, band: tuple[float, float], picture: "Image | None", part: Patches, full: float) -> None:
    bottom, high = band
    shape = (part.rows, part.columns)
    grid = np.zeros(part.rows * part.columns)
    grid[: len(part.weights)] = [float(weight) / full for weight in part.weights]
    heat = np.zeros((*shape, 4))
    heat[..., :3] = np.array(_INK) / 255
    heat[..., 3] = 0.85 * grid.reshape(shape)
    extent = (0, part.columns, part.rows, 0)
    ratio = part.rows / part.columns if picture is None else picture.height / picture.width
    for left, covered in ((_LEFT, False), (0.52, True)):
        axes = figure.add_axes((left, bottom, 0.46, high))
        axes.set_axis_off()
        if picture is not None:
            shown = np.asarray(picture.convert("L").convert("RGB") if covered else picture)
            axes.imshow(shown // 2 + 127 if covered else shown, extent=extent, interpolation="nearest")
        if covered:
            axes.imshow(heat, extent=extent, interpolation="nearest")
        axes.set_xlim(0, part.columns)
        axes.set_ylim(part.rows, 0)
        axes.set_aspect(ratio * part.columns / part.rows)
        axes.set_anchor("W")
        name = f"weight on its patches: {float(part.weights.sum()):.1%}" + (
            "" if part.known else " (reading order, no grid)"
        )
        axes.set_title(name if covered else "the picture" if picture is not None else "", fontsize=10, loc="left")


def _lines(words: Sequence[Word]) -> list[list[Word]]:
    """Break words into lines of at most `_LETTERS` letters, and where the text has line ends."""
    lines: list[list[Word]] = [[]]
    used = 0
    for word in words:
        text = _visible(word.text)
        if used and used + len(text) > _LETTERS:
            lines.append([])
            used = 0
        lines[-1].append(word)
        used += len(text)
        if "\n" in word.text:
            lines.append([])
            used = 0
    return [line for line in lines if line]


def _visible(text: str) -> str:
    return text.replace("\n", "⏎")


def _draw_words(figure: Any, lines: Sequence[Sequence[Word]], full: float, inches: float, height: float) -> None:
    from matplotlib.patches import Rectangle

    letter = 0.96 / _LETTERS
    points = letter * figure.get_figwidth() * 72 / _ADVANCE
    for number, line in enumerate(lines):
        middle = (inches - 0.35 - 0.3 * number) / height
        left = _LEFT
        for word in line:
            text = _visible(word.text)
            wide = letter * len(text)
            ink = (*(value / 255 for value in _INK), 0.85 * word.weight / full)
            box = Rectangle((left, middle - 0.13 / height), wide, 0.26 / height, color=ink, lw=0)
            figure.add_artist(box)
            figure.text(left, middle, text, fontsize=points, family="monospace", va="center", parse_math=False)
            left += wide


def page(
    title: str,
    answer: str,
    notes: Sequence[str],
    pictures: Sequence[str | None],
    patches: Sequence[Patches],
    words: Sequence[Word],
) -> str:
    """Return a self-contained HTML page; pointing at a patch or a word tells its weight.

    Args:
        title: heading.
        answer: what the model answered.
        notes: sentences under the heading, already HTML.
        pictures: data URIs, or None where a picture is not at hand.
        patches: one grid a picture.
        words: the prompt's words.
    """
    full = scale(patches, words)
    shown = "".join(_picture(uri, part, full) for uri, part in zip(pictures, patches, strict=True))
    spans = "".join(_span(word, full) for word in words)
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class='lead'>The model answered: <b>{html.escape(answer)}</b></p>",
        *(f"<p>{note}</p>" for note in notes),
        f"<div>{shown}</div><h2>The prompt</h2><p class='words'>{spans}</p>",
        "<p class='muted'>Darker is more, on one scale for patches and words: full ink is "
        f"{full:.2%} of the weight. A weight says what the pooled state is made of, not what caused the score.</p>",
    ]
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{CSS}{_PAGE_CSS}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(body)}</body></html>"


def _picture(uri: str | None, part: Patches, full: float) -> str:
    cells = "".join(
        f"<i title='row {index // part.columns + 1}, column {index % part.columns + 1}: {weight:.2%}' "
        f"style='{_ink(float(weight), full)}'></i>"
        for index, weight in enumerate(part.weights)
    )
    grid = f"grid-template: repeat({part.rows}, 1fr) / repeat({part.columns}, 1fr)"
    below = f"<img alt='' src='{uri}'>" if uri else "<div class='empty'></div>"
    return f"<div class='shown'>{below}<div class='patches' style='{grid}'>{cells}</div></div>"


def _span(word: Word, full: float) -> str:
    title = f"{word.weight:.2%} of the weight, {len(word.weights)} token{'s' if len(word.weights) > 1 else ''}"
    text = html.escape(_visible(word.text)) + ("<br>" if "\n" in word.text else "")
    return f"<span title='{title}' style='{_ink(word.weight, full)}'>{text}</span>"


def _ink(weight: float, full: float) -> str:
    red, green, blue = _INK
    return f"background: rgb({red} {green} {blue} / {0.85 * weight / full:.3f})"
