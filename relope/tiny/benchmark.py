"""The tiny benchmark: shifted images, several questions each, as samples of a data set."""

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from relope.errors import unknown
from relope.tiny.captions import caption
from relope.tiny.scenes.draw import FAMILIES, Scene, draw_scene, scene_rng
from relope.tiny.scenes.vocabulary import QUESTIONS
from relope.types import LazyImage, Sample

VERSION = "1"
"""Bumped whenever an image, a question or the shift changes: part of a store's identity."""

LICENSE = "apache-2.0"
"""Its images are drawn by this package, and have its licence."""

SIZES = {"train": 900, "validation": 200, "test": 600}
"""Split → number of questions of each family."""

ALL = FAMILIES
"""The families that the data set ``tiny`` asks about in turn."""

CHOICE_SHARE = 0.15
_LETTERS = "ABCD"


def samples(
    dataset: str, families: tuple[str, ...], split: str, limit: int | None, shifted: bool = True
) -> list[Sample]:
    """Return the questions of a split, the families taking turns.

    Args:
        dataset: the CLI name that the samples carry.
        families: the image families to ask about.
        split: ``train``, ``validation`` or ``test``.
        limit: at most so many questions, or None for all.
        shifted: False draws clean images (used to check the model, never by a data set).

    Raises:
        NotFoundError: there is no such split.
    """
    if split not in SIZES:
        raise unknown("split", split, SIZES)
    total = SIZES[split] * len(families)
    wanted = total if limit is None else min(limit, total)
    streams = [_questions(dataset, family, split, shifted) for family in families]
    return [next(streams[turn % len(streams)]) for turn in range(wanted)]


def _questions(dataset: str, family: str, split: str, shifted: bool) -> Iterator[Sample]:
    index = 0
    while True:
        scene = draw_scene(family, split, index, shifted=shifted)
        for kind in scene.facts.answers:
            yield _sample(dataset, scene, kind, split, index)
        index += 1


def _sample(dataset: str, scene: Scene, kind: str, split: str, index: int) -> Sample:
    name = f"{scene.family}-{split}-{index}-{kind}"
    rng = scene_rng(scene.family, f"{split}-{kind}", index)
    answer, choices = scene.facts.answers[kind], tuple[str, ...]()
    if rng.random() < CHOICE_SHARE:
        choices = _choices(kind, answer, rng.sample(QUESTIONS[kind][1], len(QUESTIONS[kind][1])))
        answer = _LETTERS[choices.index(answer)]
    image = _image(scene.pixels)
    return Sample(
        id=name,
        dataset=dataset,
        split=split,
        question=QUESTIONS[kind][0],
        answers=(answer,),
        choices=choices,
        images=(image,),
        caption=caption(scene.facts.caption, scene_rng(scene.family, f"{split}-caption", index)),
        group=scene.facts.source or image.digest,
        meta={"family": scene.family, "kind": kind},
    )


def _choices(kind: str, answer: str, shuffled: list[str]) -> tuple[str, ...]:
    """Keep up to four options in shuffled order, the right one among them."""
    kept = [option for option in shuffled if option != answer][:3]
    position = shuffled.index(answer) % (len(kept) + 1)
    return (*kept[:position], answer, *kept[position:])


def _image(pixels: npt.NDArray[np.uint8]) -> LazyImage:
    return LazyImage(hashlib.sha256(pixels.tobytes()).hexdigest(), lambda: Image.fromarray(pixels))
