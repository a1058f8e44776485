"""A new model is tried on two short prompts first: padding must not change what is captured."""

import torch

from relope.errors import UnsupportedError
from relope.extract.model.backbone import Backbone
from relope.extract.model.generate import answer_batch, captures
from relope.types import Sample

ALLOWED = {"float32": 1e-3, "bfloat16": 0.1}
"""Compute dtype → largest relative difference ‖a − b‖ / ‖b‖ of a token's state, alone and padded."""


def check_padding(backbone: Backbone, layers: tuple[int, ...]) -> None:
    """Compare a short prompt alone with itself padded beside a longer one.

    Models that are unknown to us may read padding (recurrent blocks), or give states that mean
    something else; they are refused rather than captured wrongly.

    Raises:
        UnsupportedError: the states differ.
    """
    short, long = (Sample(name, "check", "test", text, ("x",)) for name, text in (("a", "Hi."), ("b", "Hello! " * 9)))
    padded, alone = (_states(backbone, batch, layers) for batch in ([short, long], [short]))
    allowed = ALLOWED[backbone.compute_dtype]
    for layer in layers:
        off = (padded[layer] - alone[layer]).norm(dim=-1) / alone[layer].norm(dim=-1).clamp(min=1e-6)
        if not bool((off <= allowed).all()):  # also true of values that are no numbers
            raise UnsupportedError(
                f"model {backbone.name} ({type(backbone.model).__name__}) is refused: padding changes the states of "
                f"layer {layer} by {float(off.max()):.2g} (allowed {allowed:g}); it has to be taught to relope first"
            )


def _states(backbone: Backbone, samples: list[Sample], layers: tuple[int, ...]) -> dict[int, torch.Tensor]:
    answered = answer_batch(backbone, backbone.inputs(samples), layers, 0, "float32")
    return {layer: torch.from_numpy(states) for layer, states in captures(answered, layers)[0].hidden.items()}
