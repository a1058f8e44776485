"""Prompts that the model could not read: too long for its context, or pictures that it refuses."""

from collections.abc import Sequence
from dataclasses import dataclass

from relope.extract.data.flaws import Flaw, Sizes
from relope.extract.model.backbone import Backbone, prompt_text
from relope.types import Sample

MARGIN = 1.25
"""A picture is taken to need up to so many times the tokens of the largest one."""

NARROWEST, THINNEST = 28, 20.0
"""A picture with a shorter side (pixels), or a longer ratio of sides, is tried on its own."""


@dataclass(frozen=True)
class _Limit:
    context: int
    per_picture: int
    media_tokens: tuple[str, ...]


def unreadable_prompts(backbone: Backbone, samples: Sequence[Sample], sizes: Sizes, text_only: bool) -> list[Flaw]:
    """Return the samples whose prompt the model cannot take.

    Only what could be too long is tokenised: a token stands for a byte at least, and for a picture
    no more tokens are taken than the largest picture needs, with a margin.

    Args:
        backbone: the opened model.
        samples: what is about to be extracted.
        sizes: of the pictures, from `relope.extract.data.flaws`.
        text_only: captions take the place of pictures.
    """
    if not samples:
        return []
    limit = _limit(backbone, samples, sizes, text_only)
    found = []
    for sample in samples:
        text = prompt_text(sample, text_only)
        if token := next((token for token in limit.media_tokens if token in text), ""):
            reason = f"its text holds {token}, by which the model marks a picture, video or sound"
            found.append(Flaw(sample.id, sample.split, reason))
        elif _suspicious(sample, text, limit, sizes, text_only) and (reason := _refusal(backbone, sample, text_only)):
            found.append(Flaw(sample.id, sample.split, reason))
    return found


def _limit(backbone: Backbone, samples: Sequence[Sample], sizes: Sizes, text_only: bool) -> _Limit:
    def size(sample: Sample) -> tuple[int, int]:
        areas = [sizes[p.digest][0] * sizes[p.digest][1] for p in sample.pictures if p.digest in sizes]
        return -max(areas, default=0) if not text_only else 0, len(prompt_text(sample, text_only))

    context = getattr(backbone.model.config.get_text_config(), "max_position_embeddings", 0) or 0
    largest = min(samples, key=size)
    return _Limit(context, _n_tokens(backbone, largest, text_only) or context, _media_tokens(backbone))


def _media_tokens(backbone: Backbone) -> tuple[str, ...]:
    """Return the tokens that a processor takes for a picture, video or sound wherever they stand."""
    if not backbone.chat.sees:
        return ()
    named = [getattr(backbone.processor, name, None) for name in ("image_token", "video_token", "audio_token")]
    number = backbone.image_id
    own = backbone.tokenizer.convert_ids_to_tokens(number) if number is not None else None
    return tuple(dict.fromkeys(token for token in (*named, own) if isinstance(token, str) and token))


def _suspicious(sample: Sample, text: str, limit: _Limit, sizes: Sizes, text_only: bool) -> bool:
    pictures = () if text_only else sample.pictures
    bound = len(text.encode()) + max(1, len(pictures)) * limit.per_picture * MARGIN
    shapes = [sizes[picture.digest] for picture in pictures if picture.digest in sizes]
    odd = any(min(shape) < NARROWEST or max(shape) > THINNEST * min(shape) for shape in shapes)
    return odd or bool(limit.context and bound > limit.context)


def _n_tokens(backbone: Backbone, sample: Sample, text_only: bool) -> int:
    try:
        return int(backbone.inputs([sample], text_only)["input_ids"].shape[1])
    except ValueError:
        return 0  # it is too long or refused itself, and is told so below


def _refusal(backbone: Backbone, sample: Sample, text_only: bool) -> str:
    try:
        backbone.inputs([sample], text_only)
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        return str(error).splitlines()[0].removesuffix(f" (the batch begins with sample {sample.id!r})")
    return ""
