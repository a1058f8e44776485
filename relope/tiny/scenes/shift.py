"""The shift: what makes benchmark images harder than the images tiny-vl was trained on.

A model trained by likelihood is calibrated on its own distribution, so its confidence would be
an unbeatable router there. Under shift it is overconfident while its hidden states still show
the difficulty, which is the situation of a pretrained MLLM on a benchmark.
"""

import random
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import ImageFilter

from relope.tiny.scenes.canvas import SIDE, Canvas, draw_shape, paint
from relope.tiny.scenes.vocabulary import COLORS, SHAPES

Shift = Mapping[str, float]
"""Factor → strength, 0 (absent) to 1.5."""

_COMMON = ("noise", "contrast", "blur", "occlusion")
FACTORS: dict[str, tuple[str, ...]] = {
    "shapes": (*_COMMON, "distractors", "hue", "saturation", "small"),
    "count": (*_COMMON, "distractors", "hue", "saturation", "small", "overlap"),
    "digits": (*_COMMON, "distractors", "small", "rotation"),
    "bars": (*_COMMON, "hue", "saturation", "margin", "fifth"),
    "clock": (*_COMMON, "distractors", "small", "rotation"),
}

STRENGTHS: dict[str, float] = {"shapes": 1.3, "count": 1.55, "digits": 1.35, "bars": 1.5, "clock": 1.55}
"""The only tuned numbers: set on tiny-vl's accuracy alone (``recipes/check_tiny_vl.py``) and
frozen before any probe was fitted."""


def draw_shift(family: str, rng: random.Random, strengths: Mapping[str, float]) -> dict[str, float]:
    """Draw one to three factors of a family, each U(0, 1) times the family's strength."""
    chosen = rng.sample(FACTORS[family], rng.choice((1, 2, 2, 3)))
    return {factor: min(1.5, rng.random() * strengths[family]) for factor in chosen}


def add_distractors(canvas: Canvas, strength: float, rng: random.Random) -> None:
    """Scatter small shapes that have nothing to do with the question."""
    if not strength:
        return
    for _ in range(1 + int(4 * strength)):
        x, y = rng.randint(4, 60), rng.randint(4, 60)
        radius = rng.uniform(2, 3 + 4 * strength)
        draw_shape(canvas.pen, rng.choice(SHAPES), x, y, radius, paint(rng.choice(COLORS), rng))


def finish(canvas: Canvas, shift: Shift, rng: random.Random) -> npt.NDArray[np.uint8]:
    """Apply what happens to the whole image: occlusion, blur, contrast and noise.

    Returns:
        The image as ``[SIDE, SIDE, 3] uint8``.
    """
    _occlude(canvas, shift.get("occlusion", 0.0), rng)
    blur, contrast = shift.get("blur", 0.0), shift.get("contrast", 0.0)
    if blur:
        canvas.image = canvas.image.filter(ImageFilter.GaussianBlur(0.5 + 3 * blur))
    pixels = np.asarray(canvas.image, np.float32)
    kept = rng.uniform(0.85, 1) * (1 - 0.88 * min(1.0, contrast))
    pixels = canvas.background + (pixels - canvas.background) * kept
    if contrast:
        pixels = pixels - rng.uniform(0, 60) * contrast
    deviation = rng.choice((0, 3, 6)) + 70 * shift.get("noise", 0.0)
    if deviation:
        noise = np.random.default_rng(rng.randrange(2**31)).standard_normal(pixels.shape, np.float32)
        pixels = pixels + noise * deviation
    return pixels.clip(0, 255).astype(np.uint8)


def _occlude(canvas: Canvas, strength: float, rng: random.Random) -> None:
    if not strength:
        return
    half = (2 + 10 * strength) / 2
    for _ in range(1 + (strength > 0.5)):
        grey, centre = rng.randint(90, 230), rng.uniform(8, 56)
        strip = (centre - half, 0, centre + half, SIDE)
        box = strip if rng.random() < 0.5 else (0, centre - half, SIDE, centre + half)
        canvas.pen.rectangle(box, fill=(grey, grey, grey))
