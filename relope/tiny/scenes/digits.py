"""One handwritten digit, from scikit-learn's copy of the UCI set.

Each use has its own scans, so that no handwriting that a model was trained on is asked about,
and none that a probe was fitted on is in the test split.
"""

import functools
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from relope.tiny.scenes.canvas import SIDE, Canvas
from relope.tiny.scenes.facts import Facts
from relope.tiny.scenes.shift import Shift, add_distractors

_SHARES = {"train": (12, 13), "validation": (14,), "test": (15,)}
"""Scan number modulo 16 → the split that owns it; everything below 12 is for pre-training."""


def draw(canvas: Canvas, shift: Shift, rng: random.Random, split: str) -> Facts:
    add_distractors(canvas, shift.get("distractors", 0.0), rng)
    digit = rng.randint(0, 9)
    scan = rng.choice(scans(split)[digit])
    side = int(rng.uniform(38, 54) * (1 - 0.65 * min(1.1, shift.get("small", 0.0))))
    tilt = rng.uniform(-8, 8) + rng.choice((-1, 1)) * 50 * shift.get("rotation", 0.0)
    ink = Image.fromarray((_images()[scan] * 15.9).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    ink = ink.rotate(tilt, Image.Resampling.BICUBIC)
    x, y, grey = rng.randint(0, SIDE - side), rng.randint(0, SIDE - side), rng.randint(0, 70)
    canvas.image.paste((grey, grey, grey), (x, y), ink)
    return Facts(
        answers={
            "digit": str(digit),
            "parity": "odd" if digit % 2 else "even",
            "big": "yes" if digit > 4 else "no",
        },
        attributes={"digits-digit": digit},
        caption=("digit", str(digit)),
        trace=("digit", str(digit)),
        source=f"digit-scan-{scan}",
    )


@functools.cache
def _load() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return what ``sklearn.datasets.load_digits`` does, from its file: the package alone takes 140 MB of memory."""
    package = find_spec("sklearn")
    assert package is not None and package.submodule_search_locations  # one of our dependencies
    table = np.loadtxt(Path(package.submodule_search_locations[0]) / "datasets/data/digits.csv.gz", delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def _images() -> npt.NDArray[np.float64]:
    return _load()[0]


@functools.cache
def scans(split: str) -> tuple[tuple[int, ...], ...]:
    """Return for each digit the scan numbers that a split may use."""
    labels = _load()[1]
    shares = _SHARES.get(split, tuple(range(12)))
    return tuple(tuple(int(n) for n in np.flatnonzero(labels == digit) if n % 16 in shares) for digit in range(10))
