"""Captions from a model on this machine, through the same path as extraction."""

from collections.abc import Sequence

import torch

from relope.errors import InvalidInputError
from relope.extract.model.backbone import Backbone
from relope.types import LazyImage, Sample


@torch.inference_mode()
def describe(backbone: Backbone, images: Sequence[LazyImage], prompt: str, max_new_tokens: int) -> list[str]:
    """Return one greedy caption an image, computed as one batch.

    Raises:
        InvalidInputError: the batch does not fit into the device's memory, or the prompt cannot be put to the model.
    """
    asked = [Sample(image.digest, "caption", "", prompt, (), images=(image,)) for image in images]
    if fault := next(backbone.faults(asked[:1]), ""):
        raise InvalidInputError(f"the prompt {prompt[:60]!r} cannot be used: {fault}", hint="give another --prompt")
    inputs = backbone.inputs(asked)
    try:
        said = backbone.model.generate(**backbone.to_device(inputs), max_new_tokens=max_new_tokens, do_sample=False)
    except torch.cuda.OutOfMemoryError as error:
        raise InvalidInputError(
            f"{len(images)} images at a time do not fit into the memory of {backbone.device}; "
            "what was captioned is kept",
            hint="use fewer --workers",
        ) from error
    n_prompt = inputs["input_ids"].shape[1]
    return [backbone.tokenizer.decode(row[n_prompt:], skip_special_tokens=True).strip() for row in said]
