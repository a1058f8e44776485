"""A clock face with one hand."""

import math
import random

from relope.tiny.scenes.canvas import Canvas
from relope.tiny.scenes.facts import Facts
from relope.tiny.scenes.shift import Shift


def draw(canvas: Canvas, shift: Shift, rng: random.Random, split: str) -> Facts:
    hour = rng.randint(1, 12)
    radius = rng.uniform(25, 29) * (1 - 0.6 * min(1.1, shift.get("small", 0.0)))
    room = 28 - radius
    x = 32 + rng.uniform(-2, 2) + rng.uniform(-1, 1) * room
    y = 32 + rng.uniform(-2, 2) + rng.uniform(-1, 1) * room
    _paint_face(canvas, x, y, radius)
    if distractor := shift.get("distractors", 0.0):
        angle, length = rng.uniform(0, 2 * math.pi), radius * (0.3 + 0.5 * distractor)
        _paint_hand(canvas, x, y, angle, length, grey=90, width=1 + (distractor > 0.6))
    turn = rng.uniform(-3, 3) + rng.choice((-1, 1)) * 13 * min(1.0, shift.get("rotation", 0.0))
    _paint_hand(canvas, x, y, math.radians(30 * hour + turn), radius * 0.75, grey=30, width=3)
    answers = {"hour": str(hour)}
    if hour not in (3, 9):
        answers["up-down"] = "up" if hour > 9 or hour < 3 else "down"
    if hour not in (6, 12):
        answers["side"] = "right" if hour < 6 else "left"
    return Facts(answers, {"clock-hour": hour - 1}, ("clock", str(hour)), ("clock", str(hour)))


def _paint_face(canvas: Canvas, x: float, y: float, radius: float) -> None:
    pen = canvas.pen
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=(40, 40, 40), fill=(252, 252, 252))
    for tick in range(12):
        sine, cosine = math.sin(tick * math.pi / 6), math.cos(tick * math.pi / 6)
        near, far = radius * 0.88, radius
        pen.line((x + near * sine, y - near * cosine, x + far * sine, y - far * cosine), fill=(40, 40, 40))


def _paint_hand(canvas: Canvas, x: float, y: float, angle: float, length: float, grey: int, width: int) -> None:
    tip = (x + length * math.sin(angle), y - length * math.cos(angle))
    canvas.pen.line((x, y, *tip), fill=(grey, grey, grey), width=width)
