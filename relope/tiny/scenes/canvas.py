"""Drawing primitives shared by the image families."""

import colorsys
import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from relope.tiny.scenes.vocabulary import COLORS

SIDE = 64
"""Width and height of every image in pixels."""

Rgb = tuple[int, int, int]
_HUES = dict(zip(COLORS, (0, 28, 55, 120, 180, 225, 275, 325), strict=True))


@dataclass
class Canvas:
    """An image under way: its background grey level (0–255) and the image drawn so far."""

    background: int
    image: Image.Image

    @classmethod
    def blank(cls, rng: random.Random) -> "Canvas":
        grey = rng.randint(215, 255)
        return cls(grey, Image.new("RGB", (SIDE, SIDE), (grey, grey, grey)))

    @property
    def pen(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)


def paint(color: str, rng: random.Random, hue: float = 0.0, saturation: float = 0.0) -> Rgb:
    """Return an RGB value of a named colour, moved towards its neighbours by the shift.

    Args:
        color: one of the eight colour names.
        rng: source of the jitter that every object has.
        hue: 0–1.5, how far the hue may drift towards the next colour.
        saturation: 0–1.5, how far the colour fades to grey.
    """
    own, index = _HUES[color], COLORS.index(color)
    up = (_HUES[COLORS[(index + 1) % len(COLORS)]] - own) % 360
    down = (own - _HUES[COLORS[index - 1]]) % 360
    drift = rng.uniform(-1, 1) * (0.12 + 0.33 * hue)
    degrees = own + drift * (up if drift > 0 else down)
    red, green, blue = colorsys.hsv_to_rgb(
        (degrees / 360) % 1, rng.uniform(0.8, 1) * max(0.0, 1 - 0.75 * saturation), rng.uniform(0.75, 0.95)
    )
    return int(255 * red), int(255 * green), int(255 * blue)


def draw_shape(pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, fill: Rgb) -> None:
    """Draw one of the six shapes around its centre."""
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "ring":
        pen.ellipse(box, outline=fill, width=max(2, int(radius * 0.4)))
    elif shape == "square":
        inner = radius * 0.9
        pen.rectangle((x - inner, y - inner, x + inner, y + inner), fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
    elif shape == "cross":
        arm = max(1.0, radius * 0.33)
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
    else:
        pen.polygon(_star(x, y, radius), fill=fill)


def _star(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    points = []
    for corner in range(10):
        angle = -math.pi / 2 + corner * math.pi / 5
        reach = radius * (1.15 if corner % 2 == 0 else 0.5)
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points
