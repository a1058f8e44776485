"""Captions from a model on this machine, through the same path as extraction."""

from collections.abc import Sequence

import torch

from relope.extract.backbone import Backbone
from relope.types import Picture, Sample


@torch.inference_mode()
def describe(backbone: Backbone, pictures: Sequence[Picture], prompt: str, max_new_tokens: int) -> list[str]:
    """Return one greedy caption a picture, computed as one batch."""
    asked = [Sample(picture.digest, "caption", "", prompt, (), pictures=(picture,)) for picture in pictures]
    inputs = backbone.inputs(asked)
    placed = {}
    for name, tensor in inputs.items():
        moved = tensor.to(backbone.device)
        placed[name] = moved.to(backbone.dtype) if moved.is_floating_point() else moved
    said = backbone.model.generate(**placed, max_new_tokens=max_new_tokens, do_sample=False)
    tokenizer = getattr(backbone.processor, "tokenizer", backbone.processor)
    n_prompt = inputs["input_ids"].shape[1]
    return [tokenizer.decode(row[n_prompt:], skip_special_tokens=True).strip() for row in said]
