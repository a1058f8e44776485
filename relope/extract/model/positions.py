"""The positions that a model gives a prompt's tokens, without running it."""

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor

from relope.extract.model.backbone import Backbone


def prompt_positions(backbone: Backbone, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return ``[R, B, T]`` position ids of a left-padded batch, as a store has them; padding counts as 0.

    Classes with multimodal rotary embeddings derive theirs from images (``get_rope_index``, which reads no weights);
    the text's own go first.

    Args:
        backbone: the model, or its skeleton.
        inputs: of the model, on the CPU.
    """
    mask = inputs["attention_mask"]
    text = (mask.long().cumsum(-1) - 1).clamp(min=0)[None]
    rows = backbone.traits.position_rows
    shown = any(given.shape != mask.shape for given in inputs.values())
    if not backbone.traits.derives_positions or not shown:
        return text.expand(rows, -1, -1)
    derive = backbone.model.model.get_rope_index
    taken = inspect.signature(derive).parameters
    positions: Tensor = derive(**{name: given for name, given in inputs.items() if name in taken})[0]
    return positions if len(positions) == rows else torch.cat([text, positions])
