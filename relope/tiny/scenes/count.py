"""One to six dots of one colour."""

import math
import random

from relope.tiny.scenes.canvas import Canvas, paint
from relope.tiny.scenes.facts import Facts
from relope.tiny.scenes.shift import Shift, add_distractors
from relope.tiny.scenes.vocabulary import COLORS


def draw(canvas: Canvas, shift: Shift, rng: random.Random, split: str) -> Facts:
    add_distractors(canvas, shift.get("distractors", 0.0), rng)
    number, color = rng.randint(1, 6), rng.choice(COLORS)
    radius = rng.uniform(5, 6.5) * (1 - 0.6 * min(1.1, shift.get("small", 0.0)))
    gap = (2 * radius + 3) * (1 - 0.6 * min(1.2, shift.get("overlap", 0.0)))
    for x, y in _centres(number, gap, rng):
        fill = paint(color, rng, shift.get("hue", 0.0), shift.get("saturation", 0.0))
        canvas.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return Facts(
        answers={"count": str(number), "many": "yes" if number > 3 else "no", "dot-color": color},
        attributes={"count-number": number - 1, "count-color": COLORS.index(color)},
        caption=("dots", str(number), color),
        trace=("dots", str(number), color),
    )


def _centres(number: int, gap: float, rng: random.Random) -> list[tuple[float, float]]:
    """Draw centres that keep their distance, starting afresh when no room is left."""
    centres: list[tuple[float, float]] = []
    tries = 0
    while len(centres) < number:
        x, y = rng.uniform(8, 56), rng.uniform(8, 56)
        tries += 1
        if all(math.hypot(x - a, y - b) > gap for a, b in centres):
            centres.append((x, y))
        elif tries % 400 == 0:
            centres = []
    return centres
