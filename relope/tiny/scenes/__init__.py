"""One picture family a file; ``draw_scene`` is the door to all of them."""

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relope.tiny.canvas import Canvas
from relope.tiny.shift import STRENGTHS, Shift, draw_shift, finish
from relope.tiny.vocabulary import QUESTIONS


@dataclass(frozen=True)
class Facts:
    """What is true of a picture.

    Attributes:
        answers: question kind → answer; a kind that has no answer here is absent.
        attributes: attribute → class index, for the training recipe's auxiliary heads.
        caption: an exact description, in words of the vocabulary.
        trace: the words of a chain of thought that leads to every answer.
        source: identity of borrowed material (a handwritten scan), else ``""``.
    """

    answers: dict[str, str]
    attributes: dict[str, int]
    caption: tuple[str, ...]
    trace: tuple[str, ...]
    source: str = ""


@dataclass(frozen=True)
class Scene:
    """A finished picture ``[64, 64, 3] uint8`` with its facts and the shift that was applied."""

    family: str
    pixels: npt.NDArray[np.uint8]
    facts: Facts
    shift: dict[str, float]


Painter = Callable[[Canvas, Shift, random.Random, str], Facts]


def painters() -> dict[str, Painter]:
    """Return family → the function that draws it, in the order used everywhere."""
    from relope.tiny.scenes import bars, clock, count, digits, shapes

    return {"shapes": shapes.draw, "count": count.draw, "digits": digits.draw, "bars": bars.draw, "clock": clock.draw}


FAMILIES = ("shapes", "count", "digits", "bars", "clock")


def scene_rng(family: str, split: str, index: int) -> random.Random:
    """Return the generator that alone decides everything about one picture."""
    digest = hashlib.sha256(f"{family}|{split}|{index}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "little"))


def draw_scene(
    family: str, split: str, index: int, *, shifted: bool = True, strengths: Mapping[str, float] = STRENGTHS
) -> Scene:
    """Draw picture ``index`` of a family's split.

    Args:
        family: one of ``FAMILIES``.
        split: any name; another split never draws the same picture. Handwritten scans are
            held out: ``"pretrain"`` uses its own three quarters of them.
        index: number of the picture within its split.
        shifted: False draws the clean picture that tiny-vl was trained on.
        strengths: family → strength of the shift; the benchmark's own unless a recipe trains.
    """
    rng = scene_rng(family, split, index)
    shift = draw_shift(family, rng, strengths) if shifted else {}
    canvas = Canvas.blank(rng)
    facts = painters()[family](canvas, shift, rng, split)
    return Scene(family, finish(canvas, shift, rng), facts, shift)


def question_text(kind: str) -> str:
    """Return the words of a question kind."""
    return QUESTIONS[kind][0]
