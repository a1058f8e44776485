"""One object: its colour, its shape and where it is."""

import random

from relope.tiny.scenes.canvas import Canvas, draw_shape, paint
from relope.tiny.scenes.facts import Facts
from relope.tiny.scenes.shift import Shift, add_distractors
from relope.tiny.scenes.vocabulary import COLORS, PLACES, SHAPES


def draw(canvas: Canvas, shift: Shift, rng: random.Random, split: str) -> Facts:
    add_distractors(canvas, shift.get("distractors", 0.0), rng)
    color, shape, side = rng.choice(COLORS), rng.choice(SHAPES), rng.choice(PLACES)
    radius = rng.uniform(10, 14) * (1 - 0.7 * min(1.1, shift.get("small", 0.0)))
    offset, wobble = rng.uniform(11, 15), rng.uniform(-6, 6)
    x, y = {
        "left": (32 - offset, 32 + wobble),
        "right": (32 + offset, 32 + wobble),
        "top": (32 + wobble, 32 - offset),
        "bottom": (32 + wobble, 32 + offset),
    }[side]
    fill = paint(color, rng, shift.get("hue", 0.0), shift.get("saturation", 0.0))
    draw_shape(canvas.pen, shape, x, y, radius, fill)
    return Facts(
        answers={"color": color, "shape": shape, "where": side},
        attributes={
            "shapes-color": COLORS.index(color),
            "shapes-shape": SHAPES.index(shape),
            "shapes-where": PLACES.index(side),
        },
        caption=("object", color, shape, side),
        trace=("object", color, shape, side),
    )
