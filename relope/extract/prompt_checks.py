"""Prompts that the model could not read: too long for its context, or images that it refuses."""

from collections.abc import Sequence

from relope.extract.data.flaws import Flaw, Sizes
from relope.extract.data.turns import prompt_text
from relope.extract.model.backbone import Backbone
from relope.types import Sample

MARGIN = 1.25
"""An image is taken to need up to so many times the tokens of the largest one."""

NARROWEST, THINNEST = 28, 20.0
"""An image with a shorter side (pixels), or a longer ratio of sides, is tried on its own."""


def unreadable_prompts(
    backbone: Backbone, samples: Sequence[Sample], sizes: Sizes, text_only: bool, room: int = 0
) -> list[Flaw]:
    """Return the samples whose prompt the model cannot take.

    Only what could be too long is tokenised: a token stands for a byte at least, and for an image
    no more tokens are taken than the largest image needs, with a margin.

    Args:
        backbone: the opened model.
        samples: what is about to be extracted.
        sizes: of the images, from `relope.extract.data.flaws`.
        text_only: captions stand in for images.
        room: most tokens that may follow a prompt.
    """
    faults = dict(zip((sample.id for sample in samples), backbone.faults(samples, text_only), strict=True))
    sound = [sample for sample in samples if not faults[sample.id]]
    if sound:
        per_image = _most_image_tokens(backbone, sound, sizes, text_only)
        faults |= {sample.id: _reason(backbone, sample, sizes, per_image, text_only, room) for sample in sound}
    return [Flaw(sample.id, sample.split, faults[sample.id]) for sample in samples if faults[sample.id]]


def _reason(backbone: Backbone, sample: Sample, sizes: Sizes, per_image: int, text_only: bool, room: int) -> str:
    """Return why the model cannot take a sample's prompt, or ``""``."""
    images = () if text_only else sample.images
    bound = _text_bytes(sample, text_only) + max(1, len(images)) * per_image * MARGIN
    is_odd = any(_is_odd(sizes[image.digest]) for image in images if image.digest in sizes)
    context, rope = backbone.traits.context, backbone.traits.rope_bound
    may_be_long = context is not None and bound > context
    may_cross = rope is not None and room > 0 and bound + room > rope
    return _refusal(backbone, sample, text_only, room) if is_odd or may_be_long or may_cross else ""


def _most_image_tokens(backbone: Backbone, samples: Sequence[Sample], sizes: Sizes, text_only: bool) -> int:
    """Return the tokens of the sample with the largest image, or the shortest text where there is none."""

    def size(sample: Sample) -> tuple[int, int]:
        areas = [sizes[image.digest][0] * sizes[image.digest][1] for image in sample.images if image.digest in sizes]
        return -max(areas, default=0) if not text_only else 0, _text_bytes(sample, text_only)

    return _n_tokens(backbone, min(samples, key=size), text_only) or backbone.traits.context or 0


def _text_bytes(sample: Sample, text_only: bool) -> int:
    """Return the bytes of everything that a sample's turns say."""
    before = sum(len(text.encode()) for _, text in sample.said_before)
    return before + len(prompt_text(sample, text_only).encode())


def _is_odd(shape: tuple[int, int]) -> bool:
    return min(shape) < NARROWEST or max(shape) > THINNEST * min(shape)


def _n_tokens(backbone: Backbone, sample: Sample, text_only: bool) -> int:
    try:
        return int(backbone.inputs([sample], text_only)["input_ids"].shape[1])
    except ValueError:
        return 0  # it is too long or refused itself, and is told so below


def _refusal(backbone: Backbone, sample: Sample, text_only: bool, room: int) -> str:
    try:
        n = int(backbone.inputs([sample], text_only)["input_ids"].shape[1])
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        return str(error).splitlines()[0].removesuffix(f" (the batch begins with sample {sample.id!r})")
    rope = backbone.traits.rope_bound
    if rope is not None and n <= rope < n + room:  # what was read would have to be read again, and is not
        crossed = f"where {backbone.name} turns to its long context"
        return f"the prompt of {n:,} tokens and the {room:,} that may follow cross the {rope:,} {crossed}"
    return ""
