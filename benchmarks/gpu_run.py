"""Where gpu.py runs and how large, its clock, and the prompts that its sections share."""

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from figures import ROUNDS, Figure, rounds
from torch import Tensor

from relope.extract.data.open import open_dataset
from relope.extract.engines import local
from relope.extract.model.backbone import Backbone
from relope.extract.recipe import make_manifest
from relope.spec import ExtractSpec
from relope.steps.extraction import extraction_of
from relope.store import StoreManifest
from relope.types import Sample

Figures = dict[str, Figure]
ANSWER = 8
LETTERS = "bcdfghjkmpqvwxyz"


@dataclass(frozen=True)
class Sizes:
    """How much of everything.

    Attributes:
        prompts: that the first shape extracts, half of them with an image.
        prompts_of_others: that the others do.
        longest: tokens of the longest.
        length: T of a training step and of an early exit.
        batch: samples of a training step.
        sealed: samples of T tokens that go to sealed parts in a round.
        samples: that methods are fitted on.
        tokens: of each, on average.
    """

    prompts: int = 48
    prompts_of_others: int = 24
    longest: int = 400
    length: int = 512
    batch: int = 16
    sealed: int = 192
    samples: int = 20_000
    tokens: int = 64


MINIATURE = Sizes(prompts=6, prompts_of_others=6, longest=60, length=48, batch=4, sealed=6, samples=120, tokens=6)


@dataclass(frozen=True)
class Run:
    """Where and how large."""

    device: str
    small: bool
    sizes: Sizes
    folder: Path

    @property
    def n_rounds(self) -> int:
        """Rounds of what is compared."""
        return 1 if self.small else ROUNDS

    def synced(self, run: Callable[[], object]) -> Callable[[], None]:
        """Return a function that begins and ends with nothing left to do on the device."""

        def timed() -> None:
            run()
            if self.device == "cuda":
                torch.cuda.synchronize()

        return timed

    def compare(self, contenders: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Return the seconds of each contender, one a round, after one that is not counted."""
        turns = {name: self.synced(run) for name, run in contenders.items()}
        rounds(turns, 1)
        return rounds(turns, self.n_rounds)

    def new_folder(self) -> Path:
        """Return an empty folder on the disk that is measured."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def prompts(n: int, longest: int, images: bool) -> list[Sample]:
    """Return prompts of 50 to ``longest`` letters, log-uniform; a random letter is about a token."""
    draw = random.Random(0)
    seen = [sample.images for sample in open_dataset("tiny").load("test", n)]
    made = []
    for number in range(n):
        letters = "".join(draw.choices(LETTERS, k=round(50 * (longest / 50) ** draw.random())))
        shown_ = seen[number] if images and number % 2 else ()
        made.append(Sample(f"s{number}", "bench", "train", letters, ("x",), images=shown_))
    return made


def of_length(backbone: Backbone, n: int, length: int) -> list[Sample]:
    """Return prompts without images of exactly ``length`` tokens."""
    draw, made = random.Random(1), []
    for number in range(n):
        letters = "".join(draw.choices(LETTERS, k=2 * length))
        made.append(Sample(f"s{number}", "bench", "train", letters, ("x",)))
        while (over := backbone.inputs(made[-1:])["input_ids"].shape[1] - length) > 0:
            made[-1] = replace(made[-1], question=made[-1].question[: -max(1, over)])
    return made


def relative(measured: Tensor, wanted: Tensor) -> float:
    """Return the norm of a difference over that of what is wanted."""
    wanted = wanted.float()
    return float((measured.float() - wanted).norm() / wanted.norm())


def layers_of(backbone: Backbone) -> tuple[int, int]:
    return backbone.default_layer - 1, backbone.default_layer


def manifest_of(backbone: Backbone) -> StoreManifest:
    layers = tuple(str(layer) for layer in layers_of(backbone))
    extraction = replace(extraction_of(ExtractSpec(model="tiny-vl", dataset="tiny")), asked_layers=layers)
    return make_manifest(backbone, extraction, local.open_engine(extraction, {}))
