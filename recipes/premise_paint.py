"""Pictures of the second testbed's scenes, and the shift that makes some of them hard.

All images of a batch are painted together, on any device. Noise comes from a hash of the pixel's
number, so that a picture is the same everywhere, but for the last bit of a rounded value.
"""

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from premise_scenes import COLORS, SHAPES, SIDE, Scenes
from torch import Tensor

HUES = (0.0, 55.0, 120.0, 180.0, 225.0, 285.0)
FACTORS = ("noise", "contrast", "blur", "occlusion", "hue", "saturation", "small", "clutter")
"""What the shift is made of; hue and saturation strike each object of an image with probability one half."""

TILE, REACH = 48, 24
CLUTTER = 7
_KERNEL = 12


@dataclass(frozen=True)
class Look:
    """All that chance decides about B pictures beside the scene.

    Attributes:
        background: ``[B]`` grey level, 215 to 255.
        shift: ``[B, F]`` strength of each of FACTORS, 0 = absent.
        rgb: ``[B, O, 3]`` colours of the objects, 0 to 1.
        clutter: small shapes that no question is about, below the objects.
        clutter_rgb: ``[B, CLUTTER, 3]``.
        strips: ``[B, 2, 3]``: whether it lies across, centre, grey level of each strip that hides a part.
        kept: ``[B]`` share of the contrast that is kept.
        noise: ``[B]`` standard deviation in grey levels.
        seed: ``[B]`` of the noise.
    """

    background: Tensor
    shift: Tensor
    rgb: Tensor
    clutter: Scenes
    clutter_rgb: Tensor
    strips: Tensor
    kept: Tensor
    noise: Tensor
    seed: Tensor

    def take(self, rows: Tensor) -> "Look":
        """Return some of the pictures."""
        return replace(self, **{f.name: _taken(getattr(self, f.name), rows) for f in fields(self)})

    def to(self, device: torch.device | str) -> "Look":
        """Return the same on a device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def _taken(part: Tensor | Scenes, rows: Tensor) -> Tensor | Scenes:
    return part.take(rows) if isinstance(part, Scenes) else part[rows]


def draw_shift(n: int, strength: float, generator: torch.Generator) -> Tensor:
    """Return ``[n, F]``: one to three factors an image, each U(0, 1) × strength, at most 1.5."""
    drawn = torch.rand(n, len(FACTORS), generator=generator)
    rank = torch.rand(n, len(FACTORS), generator=generator).argsort(1).argsort(1)
    number = torch.tensor([1, 2, 2, 3])[(torch.rand(n, 1, generator=generator) * 4).long()]
    return torch.where(rank < number, (drawn * strength).clamp(max=1.5), 0.0)


def draw_look(scenes: Scenes, shift: Tensor, generator: torch.Generator) -> Look:
    """Draw what chance decides about pictures of scenes under a shift ``[B, F]``."""
    n, places = scenes.x.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator)

    factor = dict(zip(FACTORS, shift.unbind(1), strict=True))
    struck = (uniform(places) < 0.5).float()
    size = 3 + (2 + 4 * factor["clutter"][:, None]) * uniform(CLUTTER)
    shown = torch.arange(CLUTTER) < torch.where(factor["clutter"] > 0, 1 + 5 * factor["clutter"], 0.0)[:, None]
    clutter = Scenes(
        x=10 + (SIDE - 20) * uniform(CLUTTER),
        y=10 + (SIDE - 20) * uniform(CLUTTER),
        size=torch.zeros(n, CLUTTER, dtype=torch.long),
        radius=size,
        color=(uniform(CLUTTER) * len(COLORS)).long(),
        shape=(uniform(CLUTTER) * len(SHAPES)).long(),
        there=shown,
    )
    plain = torch.zeros(n, CLUTTER)
    hidden = factor["occlusion"][:, None] > torch.tensor([0.0, 0.5])
    strips = torch.stack([uniform(2).round(), 20 + (SIDE - 40) * uniform(2), 90 + 140 * uniform(2)], 2)
    strips[..., 1] = torch.where(hidden, strips[..., 1], -2.0 * SIDE)
    hue, saturation = struck * factor["hue"][:, None], struck * factor["saturation"][:, None]
    return Look(
        background=215 + 40 * uniform(),
        shift=shift,
        rgb=_rgb(scenes.color, hue, saturation, uniform(places, 3)),
        clutter=clutter,
        clutter_rgb=_rgb(clutter.color, plain, plain, uniform(CLUTTER, 3)),
        strips=strips,
        kept=(0.85 + 0.15 * uniform()) * (1 - 0.85 * factor["contrast"].clamp(max=1.0)),
        noise=6 * uniform() + 60 * factor["noise"],
        seed=(uniform() * 2**24).int(),
    )


def _rgb(color: Tensor, hue: Tensor, saturation: Tensor, drawn: Tensor) -> Tensor:
    """Return ``[B, O, 3]`` of named colours that drift towards their neighbours and fade."""
    own = torch.tensor(HUES)
    gap = (own.roll(-1) - own) % 360
    drift = (2 * drawn[..., 0] - 1) * (0.1 + 0.45 * hue)
    degrees = own[color] + drift * torch.where(drift > 0, gap[color], gap.roll(1)[color])
    vivid = (0.8 + 0.2 * drawn[..., 1]) * (1 - 0.8 * saturation).clamp(min=0.0)
    bright = 0.75 + 0.2 * drawn[..., 2]
    turn = (degrees[..., None] / 60 + torch.tensor([5.0, 3.0, 1.0])) % 6
    return bright[..., None] * (1 - vivid[..., None] * torch.minimum(turn, 4 - turn).clamp(0, 1))


def paint(scenes: Scenes, look: Look, shifted: bool = True) -> Tensor:
    """Return pictures ``[B, SIDE, SIDE, 3] uint8`` on the device of the scenes; unshifted ones are cheaper."""
    n = len(scenes)
    factor = dict(zip(FACTORS, look.shift.unbind(1), strict=True))
    edge = SIDE + 2 * REACH
    canvas = (look.background / 255)[:, None, None, None].expand(n, edge, edge, 3).contiguous()
    if shifted:
        _stamp(canvas, look.clutter, look.clutter_rgb, look.clutter.radius)
    _stamp(canvas, scenes, look.rgb, scenes.radius * (1 - 0.55 * factor["small"].clamp(max=1.2))[:, None])
    pixels = canvas[:, REACH:-REACH, REACH:-REACH]
    if shifted:
        pixels = _blurred(_hide(pixels, look.strips, factor["occlusion"]), factor["blur"])
    level = (look.background / 255)[:, None, None, None]
    pixels = level + (pixels - level) * look.kept[:, None, None, None]
    pixels = pixels * 255 + _noise(n, look.seed) * look.noise[:, None, None, None]
    return pixels.clamp(0, 255).to(torch.uint8)


def _stamp(canvas: Tensor, objects: Scenes, rgb: Tensor, radius: Tensor) -> None:
    """Paint one object of every image after another, each within its own tile."""
    n, device = len(canvas), canvas.device
    span = torch.arange(TILE, device=device)
    image = torch.arange(n, device=device)[:, None, None]
    for at in range(objects.x.shape[1]):
        left, top = (objects.x[:, at] - REACH).round().long(), (objects.y[:, at] - REACH).round().long()
        across = (left[:, None] + span + 0.5 - objects.x[:, at, None])[:, None, :]
        down = (top[:, None] + span + 0.5 - objects.y[:, at, None])[:, :, None]
        shown = _inside(objects.shape[:, at], across, down, radius[:, at, None, None])
        shown = (shown * objects.there[:, at, None, None])[..., None]
        where = image, (top[:, None] + span + REACH)[:, :, None], (left[:, None] + span + REACH)[:, None, :]
        canvas[where] = canvas[where] * (1 - shown) + rgb[:, at, None, None] * shown


def _inside(shape: Tensor, across: Tensor, down: Tensor, radius: Tensor) -> Tensor:
    """Return ``[B, TILE, TILE]``: the share of each pixel that a shape covers."""
    x, y = across.abs(), down.abs()
    arm = 0.35 * radius
    distance = torch.stack(
        [
            (x.square() + y.square()).sqrt() - radius,
            torch.maximum(x, y) - 0.88 * radius,
            torch.maximum(down - radius, (2 * x - down - radius) / 5**0.5),
            torch.minimum(torch.maximum(x - radius, y - arm), torch.maximum(x - arm, y - radius)),
        ]
    )
    return (0.5 - distance[shape, torch.arange(len(shape), device=shape.device)]).clamp(0, 1)


def _hide(pixels: Tensor, strips: Tensor, strength: Tensor) -> Tensor:
    """Put grey strips over the pictures."""
    line = torch.arange(SIDE, device=pixels.device) + 0.5
    for across, centre, grey in (strip.unbind(1) for strip in strips.unbind(1)):
        on = ((line - centre[:, None]).abs() < (6 + 30 * strength[:, None]) / 2).float()
        lying = across[:, None, None] > 0.5
        mask = torch.where(lying, on[:, :, None], on[:, None, :])[..., None]
        pixels = pixels * (1 - mask) + (grey / 255)[:, None, None, None] * mask
    return pixels


def _blurred(pixels: Tensor, strength: Tensor) -> Tensor:
    """Blur each picture with a Gaussian of its own: σ = 0.5 + 5 × strength pixels."""
    steps = torch.arange(-_KERNEL, _KERNEL + 1, device=pixels.device)
    kernel = (-0.5 * (steps / (0.5 + 5 * strength[:, None])).square()).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = pixels.permute(0, 3, 1, 2).reshape(1, -1, SIDE, SIDE)
    padded = F.pad(flat, (_KERNEL,) * 4, mode="replicate")
    padded = F.conv2d(padded, kernel[:, None, None, :], groups=len(kernel))
    padded = F.conv2d(padded, kernel[:, None, :, None], groups=len(kernel))
    blurred = padded.reshape(len(pixels), 3, SIDE, SIDE).permute(0, 2, 3, 1)
    return torch.where((strength > 0)[:, None, None, None], blurred, pixels)


def _noise(n: int, seed: Tensor) -> Tensor:
    """Return ``[n, SIDE, SIDE, 3]`` nearly normal numbers: the sum of the four bytes of a hash, standardised."""
    number = torch.arange(SIDE * SIDE * 3, dtype=torch.int32, device=seed.device)
    mixed = number * 747796405 + (seed * 277803737)[:, None]
    for _ in range(2):
        mixed = (mixed ^ ((mixed >> 15) & 0x1FFFF)) * 739982445
    mixed = mixed ^ ((mixed >> 13) & 0x7FFFF)
    total = (mixed & 255) + ((mixed >> 8) & 255) + ((mixed >> 16) & 255) + ((mixed >> 24) & 255)
    return ((total - 510).float() / 147.8).reshape(n, SIDE, SIDE, 3)


def pictures(scenes: Scenes, looks: Look, device: torch.device | str, at_once: int = 64) -> Tensor:
    """Paint many pictures in pieces; the result ``[B, SIDE, SIDE, 3] uint8`` lies on the device."""
    rows = torch.arange(len(scenes)).split(at_once)
    return torch.cat([paint(scenes.take(part).to(device), looks.take(part).to(device)) for part in rows])
