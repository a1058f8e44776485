"""Scenes of the second testbed: several objects, and questions about them that take two steps.

Everything is drawn for many images at once from one generator on the CPU, so a batch is a function
of its seed on every machine. Pictures of the scenes are made by ``premise_paint.py``.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

COLORS = ("red", "yellow", "green", "cyan", "blue", "purple")
SHAPES = ("circle", "square", "triangle", "cross")
SUPERLATIVES = ("largest", "smallest")
SIDES = ("left", "right", "top", "bottom")
CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
SIDE, CELL = 256, 16
"""Width and height of an image, and of the square that one image token stands for, in pixels."""

PLACES = SIDE // CELL
MOST, FEWEST = 9, 5
"""Objects in an image."""

RADII = (8.0, 10.5, 13.5, 17.0, 21.5)
"""Radius of each size in pixels: neighbours differ by a quarter."""

MARGIN = 12.0
"""Pixels by which an object must be on one side of the middle where that is asked."""

KINDS = ("color-of", "shape-of", "place-of", "count-in", "count")
"""All but the last take two steps: find an object, or a side, then read or count."""

MOST_COUNTED = 5
ANSWERS = {
    "color-of": COLORS,
    "shape-of": SHAPES,
    "place-of": CORNERS,
    "count-in": tuple(str(n) for n in range(MOST_COUNTED)),
    "count": tuple(str(n) for n in range(1, MOST_COUNTED)),
}
"""Kind → the answers that it can have."""


@dataclass(frozen=True)
class Scenes:
    """Objects of B images, O places for them each.

    Attributes:
        x: ``[B, O]`` centres in pixels.
        y: ``[B, O]``.
        size: ``[B, O]`` index into RADII.
        radius: ``[B, O]`` pixels.
        color: ``[B, O]`` index into COLORS.
        shape: ``[B, O]`` index into SHAPES.
        there: ``[B, O]`` whether the place holds an object.
    """

    x: Tensor
    y: Tensor
    size: Tensor
    radius: Tensor
    color: Tensor
    shape: Tensor
    there: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor) -> "Scenes":
        """Return some of the images."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def to(self, device: torch.device | str) -> "Scenes":
        """Return the same on a device."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def column(self) -> Tensor:
        """``[B, O]`` column of the image token that an object's centre lies in."""
        return (self.x / CELL).long()

    @property
    def row(self) -> Tensor:
        """``[B, O]`` row of that token."""
        return (self.y / CELL).long()


@dataclass(frozen=True)
class Questions:
    """One question about each of B images.

    Attributes:
        kind: index into KINDS, the same for all.
        words: ``[B, W]`` the words that vary, as indices into the lists of `SLOTS`.
        answer: ``[B]`` index into the kind's ANSWERS; without meaning where nothing is asked.
        asked: ``[B]`` False where an image allows no such question.
        found: ``[B]`` the object that is to be found, -1 where there is none.
    """

    kind: int
    words: Tensor
    answer: Tensor
    asked: Tensor
    found: Tensor


TEMPLATES = {
    "color-of": "what color is the {superlative} {shape}",
    "shape-of": "what shape is the {superlative} {color} thing",
    "place-of": "in which corner is the {superlative} {shape}",
    "count-in": "how many {color} things are on the {side}",
    "count": "how many {thing} things are there",
}
THINGS = (*COLORS, *SHAPES)
SLOTS = {
    "color-of": (SUPERLATIVES, SHAPES),
    "shape-of": (SUPERLATIVES, COLORS),
    "place-of": (SUPERLATIVES, SHAPES),
    "count-in": (COLORS, SIDES),
    "count": (THINGS,),
}
"""Kind → the lists that the words in its template come from, in order."""


def wording(kind: str, words: list[int]) -> str:
    """Return a question's text."""
    text = TEMPLATES[kind]
    for choices, word in zip(SLOTS[kind], words, strict=True):
        text = text[: text.index("{")] + choices[word] + text[text.index("}") + 1 :]
    return text


def draw_scenes(n: int, generator: torch.Generator) -> Scenes:
    """Draw objects that do not touch: each in a field of its own, of three colours and three shapes."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    fields_across = 5
    pitch = SIDE / fields_across
    place = uniform(n, fields_across**2).argsort(1)[:, :MOST]
    size = (uniform(n, MOST) * len(RADII)).long()
    radius = torch.tensor(RADII)[size] * (1 + 0.08 * (uniform(n, MOST) - 0.5))
    room = pitch / 2 - radius
    palette = uniform(n, len(COLORS)).argsort(1)[:, :3]
    forms = uniform(n, len(SHAPES)).argsort(1)[:, :3]
    number = FEWEST + (uniform(n, 1) * (MOST - FEWEST + 1)).long()
    return Scenes(
        x=(place % fields_across + 0.5) * pitch + (2 * uniform(n, MOST) - 1) * room,
        y=(place // fields_across + 0.5) * pitch + (2 * uniform(n, MOST) - 1) * room,
        size=size,
        radius=radius,
        color=palette.gather(1, (uniform(n, MOST) * 3).long()),
        shape=forms.gather(1, (uniform(n, MOST) * 3).long()),
        there=torch.arange(MOST).expand(n, -1) < number,
    )


def _extremes(scenes: Scenes, among: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``[B, 2, C]`` the largest and smallest object of each class and whether it is unique.

    Args:
        scenes: B images.
        among: ``[B, C, O]`` which objects belong to each of C classes.
    """
    sizes = torch.stack([scenes.size, -scenes.size], 1)[:, :, None].masked_fill(~among[:, None], -99)
    best, which = sizes.max(-1)
    unique = (sizes == best[..., None]).sum(-1) == 1
    return which, unique & (among.sum(-1) > 1)[:, None]


def _sides(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """Return ``[B, 4, O]``: is an object left, right, above, below the middle; is it clearly on either side."""
    across, down = scenes.x - SIDE / 2, scenes.y - SIDE / 2
    gaps = torch.stack([-across, across, -down, down], 1)
    return gaps > 0, gaps.abs() > MARGIN


def _choose(answer: Tensor, valid: Tensor, n_answers: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose one of C candidates an image, so that answers are as even as the images allow.

    Args:
        answer: ``[B, C]``.
        valid: ``[B, C]``.
        n_answers: how many there are.
        generator: of the choice.

    Returns:
        ``[B]`` the candidate, and whether it is valid.
    """
    wanted = (torch.rand(len(answer), 1, generator=generator) * n_answers).long()
    liking = torch.rand(answer.shape, generator=generator) + 10.0 * (answer == wanted) + 100.0 * valid
    best, which = liking.max(1)
    return which, best > 99


def ask(scenes: Scenes, kind: str, generator: torch.Generator) -> Questions:
    """Ask one question of a kind about each image."""
    n, there = len(scenes), scenes.there
    of_shape = (scenes.shape[:, None] == torch.arange(len(SHAPES))[:, None]) & there[:, None]
    of_color = (scenes.color[:, None] == torch.arange(len(COLORS))[:, None]) & there[:, None]
    none = torch.full((n,), -1)
    if kind == "count":
        number = torch.cat([of_color, of_shape], 1).sum(-1)
        which, asked = _choose(number - 1, (number > 0) & (number < MOST_COUNTED), MOST_COUNTED - 1, generator)
        return Questions(KINDS.index(kind), which[:, None], _picked(number, which) - 1, asked, none)
    sides, clear = _sides(scenes)
    if kind == "count-in":
        counted = of_color[:, :, None]
        number = (counted & sides[:, None]).sum(-1).flatten(1)  # [B, C·4]
        valid = (~counted | clear[:, None]).all(-1) & counted.any(-1)
        which, asked = _choose(number, valid.flatten(1) & (number < MOST_COUNTED), MOST_COUNTED, generator)
        words = torch.stack([which // len(SIDES), which % len(SIDES)], 1)
        return Questions(KINDS.index(kind), words, _picked(number, which), asked, none)
    best, unique = _extremes(scenes, of_color if kind == "shape-of" else of_shape)
    found, known = best.flatten(1), unique.flatten(1)  # [B, 2·C]: superlative, then class
    corner = sides[:, 1].long() + 2 * sides[:, 3]
    if kind == "place-of":
        known = known & (clear[:, 0] & clear[:, 2]).gather(1, found)
    told = {"color-of": scenes.color, "shape-of": scenes.shape, "place-of": corner}[kind].gather(1, found)
    which, asked = _choose(told, known, len(ANSWERS[kind]), generator)
    words = torch.stack([which // best.shape[2], which % best.shape[2]], 1)
    return Questions(KINDS.index(kind), words, _picked(told, which), asked, _picked(found, which))


def _picked(values: Tensor, which: Tensor) -> Tensor:
    return values.gather(1, which[:, None])[:, 0]
