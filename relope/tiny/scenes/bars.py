"""A bar chart of two to four bars (a fifth under shift), each of its own colour."""

import random

from relope.tiny.scenes.canvas import SIDE, Canvas, paint
from relope.tiny.scenes.facts import Facts
from relope.tiny.scenes.shift import Shift
from relope.tiny.scenes.vocabulary import COLORS, LEVELS

_TOPS = ((13, 19), (28, 35), (46, 54))
"""Height of the tallest bar in pixels for low, middle and high."""


def draw(canvas: Canvas, shift: Shift, rng: random.Random, split: str) -> Facts:
    drawn = rng.randint(2, 4)
    fifth = rng.random() < shift.get("fifth", 0.0)
    number = 5 if fifth else drawn
    level = rng.randrange(3)
    top = rng.uniform(*_TOPS[level])
    heights = [max(4.0, top * share) for share in _shares(number, shift.get("margin", 0.0), rng)]
    rng.shuffle(heights)
    colors = rng.sample(COLORS, number)
    _paint_bars(canvas, colors, heights, shift, rng)
    tallest, shortest = colors[heights.index(max(heights))], colors[heights.index(min(heights))]
    answers = {"tallest": tallest, "shortest": shortest, "level": LEVELS[level]}
    attributes = {
        "bars-tallest": COLORS.index(tallest),
        "bars-shortest": COLORS.index(shortest),
        "bars-level": level,
    }
    if not fifth:
        answers["bars"] = str(number)
        attributes["bars-number"] = number - 2
    heard = [word for color, height in zip(colors, heights, strict=True) for word in (color, str(round(height / 2)))]
    return Facts(
        answers=answers,
        attributes=attributes,
        caption=("bars", *heard),
        trace=("bars", str(number), LEVELS[level], "tallest", tallest, "shortest", shortest),
    )


def _shares(number: int, margin: float, rng: random.Random) -> list[float]:
    """Return heights as shares of the tallest; ``margin`` narrows the gaps that decide."""
    tight = min(1.0, margin)
    second = 0.82 + 0.15 * tight
    shares = [1.0, rng.uniform(second - 0.12, second)]
    if number > 2:
        lowest = rng.uniform(0.3, 0.5)
        shares.append(lowest)
        floor = min(lowest + 0.12 * (1 - 0.8 * tight), 0.62)
        shares += [rng.uniform(floor, max(0.64, second - 0.12)) for _ in range(number - 3)]
    return shares


def _paint_bars(canvas: Canvas, colors: list[str], heights: list[float], shift: Shift, rng: random.Random) -> None:
    pen, width = canvas.pen, (SIDE - 6) // len(colors)
    for index, (color, height) in enumerate(zip(colors, heights, strict=True)):
        left = 3 + index * width
        fill = paint(color, rng, shift.get("hue", 0.0), shift.get("saturation", 0.0))
        pen.rectangle((left + 1, 60 - height, left + width - 2, 60), fill=fill)
    pen.line((2, 61, 62, 61), fill=(60, 60, 60))
