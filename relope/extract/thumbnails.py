"""Small pictures of what a model saw, kept in a store so that a report needs no data set."""

import contextlib
import io
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING

from relope.store import THUMBNAIL_BYTES
from relope.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 160
"""Pixels of a thumbnail's longer side at most."""

_QUALITIES = (80, 60, 40, 20)


def thumbnails_of(
    samples: Sequence[Sample], known: set[str], before: MutableMapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Return digest → WebP of the images of samples, as the model saw them; an image that is known is left out.

    So is one that can no longer be read as it was: no picture is better than one that the model did not see.

    Args:
        samples: that were shown to a model.
        known: digests of images that need no thumbnail any more; those of these samples are added.
        before: thumbnails that were made before, which are taken out of it.
    """
    made, before = {}, {} if before is None else before
    for sample in samples:
        for image in sample.images:
            if image.digest not in known:
                known.add(image.digest)
                with contextlib.suppress(OSError, ValueError):
                    made[image.digest] = before.pop(image.digest, b"") or thumbnail(image.open())
    return made


def thumbnail(image: "Image") -> bytes:
    """Return an image as WebP of `THUMBNAIL_BYTES` at most: less sharp, then smaller, until it fits."""
    side = min(SIDE, max(image.size))
    while True:
        scale = side / max(image.size)
        small = image.resize([max(1, round(length * scale)) for length in image.size], reducing_gap=2.0)
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            small.save(buffer, "WEBP", quality=quality, method=1)
            if buffer.tell() <= THUMBNAIL_BYTES:
                return buffer.getvalue()
        side //= 2
