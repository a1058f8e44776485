"""Captions from a model on this machine, through the same path as extraction."""

from collections.abc import Sequence

import torch

from relope.errors import InvalidInputError
from relope.extract.model.backbone import Backbone
from relope.types import Picture, Sample


@torch.inference_mode()
def describe(backbone: Backbone, pictures: Sequence[Picture], prompt: str, max_new_tokens: int) -> list[str]:
    """Return one greedy caption a picture, computed as one batch.

    Raises:
        InvalidInputError: the batch does not fit into the device's memory.
    """
    asked = [Sample(picture.digest, "caption", "", prompt, (), pictures=(picture,)) for picture in pictures]
    inputs = backbone.inputs(asked)
    try:
        said = backbone.model.generate(**backbone.place(inputs), max_new_tokens=max_new_tokens, do_sample=False)
    except torch.cuda.OutOfMemoryError as error:
        raise InvalidInputError(
            f"{len(pictures)} pictures at a time do not fit into the memory of {backbone.device}; use fewer --workers. "
            "What was captioned is kept"
        ) from error
    n_prompt = inputs["input_ids"].shape[1]
    return [backbone.tokenizer.decode(row[n_prompt:], skip_special_tokens=True).strip() for row in said]
