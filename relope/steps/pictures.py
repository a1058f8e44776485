"""Images of a store's samples, read again from the data set that they came from."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from relope.steps.reopen import recorded_samples
from relope.store import ActivationStore
from relope.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

DataImage = Callable[[dict[str, Any], int], "Image | None"]
"""A sample's columns in the store and the number of an image → that image; None where it is not to be had."""


def data_images(store: ActivationStore, splits: Sequence[str]) -> DataImage:
    """Return what opens images as the model saw them; the data set is read when the first is asked for.

    An image that is gone, or another one by now, gives None, as does every image where the model saw none.
    """

    @functools.cache
    def samples() -> dict[str, Sample]:
        try:
            return {sample.id: sample for sample in recorded_samples(store, splits, changed=True)}
        except (LookupError, ValueError, OSError):
            return {}  # a store outlives its data set

    def image(row: dict[str, Any], which: int) -> "Image | None":
        if store.manifest.identity.text_only:
            return None
        sample, digests = samples().get(row["id"]), row.get("image_digests")
        if sample is None or which >= len(sample.images):
            return None
        if digests and sample.images[which].digest != digests[which]:
            return None
        try:
            return sample.images[which].open()
        except (OSError, ValueError):
            return None

    return image
