"""The door to all image families: ``draw_scene``."""

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relope.tiny.scenes import bars, clock, count, digits, shapes
from relope.tiny.scenes.canvas import Canvas
from relope.tiny.scenes.facts import Facts
from relope.tiny.scenes.shift import STRENGTHS, Shift, draw_shift, finish


@dataclass(frozen=True)
class Scene:
    """A finished image ``[64, 64, 3] uint8`` with its facts and the shift that was applied."""

    family: str
    pixels: npt.NDArray[np.uint8]
    facts: Facts
    shift: dict[str, float]


Painter = Callable[[Canvas, Shift, random.Random, str], Facts]

PAINTERS: dict[str, Painter] = {
    "shapes": shapes.draw,
    "count": count.draw,
    "digits": digits.draw,
    "bars": bars.draw,
    "clock": clock.draw,
}
"""Family → the function that draws it."""

FAMILIES = tuple(PAINTERS)
"""In the order in which they take turns."""


def scene_rng(family: str, split: str, index: int) -> random.Random:
    """Return the generator that alone decides everything about one image."""
    digest = hashlib.sha256(f"{family}|{split}|{index}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "little"))


def draw_scene(
    family: str, split: str, index: int, *, shifted: bool = True, strengths: Mapping[str, float] = STRENGTHS
) -> Scene:
    """Draw image ``index`` of a family's split.

    Args:
        family: one of ``FAMILIES``.
        split: any name; another split never draws the same image. Handwritten scans are
            held out: ``"pretrain"`` uses its own three quarters of them.
        index: number of the image within its split.
        shifted: False draws the clean image that tiny-vl was trained on.
        strengths: family → strength of the shift; the benchmark's own unless a recipe trains.
    """
    rng = scene_rng(family, split, index)
    shift = draw_shift(family, rng, strengths) if shifted else {}
    canvas = Canvas.blank(rng)
    facts = PAINTERS[family](canvas, shift, rng, split)
    return Scene(family, finish(canvas, shift, rng), facts, shift)
