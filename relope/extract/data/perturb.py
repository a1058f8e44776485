"""Images made worse, to test how routers hold up: noise, JPEG artefacts, blur.

The result is a function of the kind, the strength, the sample's id and the image's number alone.
A perturbed image keeps the digest of the clean one, and so its group.

Source: ReLope §5.5 (kinds). Choice: the strengths, where the paper is silent.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError, unknown
from relope.types import LazyImage, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULTS = {"noise": 0.12, "jpeg": 15.0, "blur": 2.0}
"""Kind → strength: σ of the noise (1 = the whole range), JPEG quality, σ of the blur in pixels."""

_RANGES = {"noise": (0.0, 1.0), "jpeg": (1.0, 95.0), "blur": (0.0, 100.0)}


@dataclass(frozen=True)
class Perturbation:
    """What is done to every image."""

    kind: str
    strength: float

    @property
    def identity(self) -> dict[str, Any]:
        """What it adds to a store's recipe."""
        return {"kind": self.kind, "strength": self.strength}


def parse(text: str) -> Perturbation:
    """Read ``kind`` or ``kind:strength``.

    Raises:
        NotFoundError: the kind is none of ours.
        InvalidInputError: the strength is no number, or out of range.
    """
    kind, colon, given = text.partition(":")
    if kind not in DEFAULTS:
        raise unknown("perturbation", kind, DEFAULTS, "--perturb takes one with or without a strength, e.g. noise:0.12")
    low, high = _RANGES[kind]
    try:
        strength = float(given) if colon else DEFAULTS[kind]
    except ValueError as error:
        hint = f"e.g. --perturb {kind}:{DEFAULTS[kind]:g}"
        raise InvalidInputError(f"perturbation {text}: strength {given!r} is no number", hint=hint) from error
    whole = kind != "jpeg" or strength == int(strength)
    if not low <= strength <= high or not whole:
        what = "whole numbers" if kind == "jpeg" else "numbers"
        raise InvalidInputError(f"perturbation {text}: {kind} takes {what} from {low:g} to {high:g}")
    return Perturbation(kind, strength)


def perturbed(sample: Sample, perturbation: Perturbation) -> Sample:
    """Return a sample whose images are perturbed when they are opened."""
    images = tuple(
        LazyImage(image.digest, _opener(image, perturbation, f"{sample.id}/{index}"))
        for index, image in enumerate(sample.images)
    )
    return replace(sample, images=images)


def _opener(image: LazyImage, perturbation: Perturbation, where: str) -> "Callable[[], Image]":
    return lambda: apply(image.open().convert("RGB"), perturbation, where)


def apply(image: "Image", perturbation: Perturbation, where: str) -> "Image":
    """Return a perturbed RGB image; ``where`` seeds the noise."""
    from PIL import Image, ImageFilter

    if perturbation.kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(perturbation.strength))
    if perturbation.kind == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(perturbation.strength))
        return Image.open(buffer).convert("RGB")
    return _noisy(image, perturbation.strength, where)


def _noisy(image: "Image", sigma: float, where: str) -> "Image":
    import numpy as np
    from PIL import Image

    seed = int.from_bytes(hashlib.sha256(where.encode()).digest()[:8], "big")
    clean = np.asarray(image, np.float32)
    noise = np.random.default_rng(seed).standard_normal(clean.shape, np.float32)
    return Image.fromarray(np.clip(np.rint(clean + noise * (255.0 * sigma)), 0, 255).astype(np.uint8))
