"""One batch through the model: a single prefill, a greedy answer, and everything that was seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import StoppingCriteriaList

from relope.extract.backbone import Backbone
from relope.extract.capture import Tap
from relope.extract.transfer import HostCopy
from relope.types import Capture, Generation

STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16}
IMAGE, TEXT = 1, 0
"""Values of the ``kind`` column of a token."""


@dataclass
class Answered:
    """A batch's states on their way to the host, ragged: ΣT tokens of B samples.

    Attributes:
        lengths: ``[B]`` prompt tokens of each sample.
        hidden: layer → copy of ``[ΣT, H]`` in the stored dtype.
        answer: copy of ``[B, H]`` in the stored dtype.
        tokens: copy of ``[ΣT, C] int32``.
        generations: copy of the per-step token ids, log-probs, entropies and kept flags.
    """

    lengths: list[int]
    hidden: dict[int, HostCopy]
    answer: HostCopy
    tokens: HostCopy
    generations: list[HostCopy]


def token_columns(backbone: Backbone) -> tuple[str, ...]:
    """Return the names of the per-token columns that ``answer_batch`` fills."""
    rows = 4 if hasattr(backbone.model.config.get_text_config(), "rope_parameters") and _mrope(backbone) else 1
    return ("id", "kind", "type", *(f"position_{row}" for row in range(rows)))


def _mrope(backbone: Backbone) -> bool:
    rope = backbone.model.config.get_text_config().rope_parameters or {}
    return "mrope_section" in rope


@torch.inference_mode()
def answer_batch(
    backbone: Backbone, inputs: dict[str, Tensor], layers: Sequence[int], max_new_tokens: int, stored: str
) -> Answered:
    """Answer a batch greedily and start copying what its prefill left behind to the host.

    Args:
        backbone: the opened model.
        inputs: a left-padded batch from ``Backbone.inputs``.
        layers: the blocks whose output is kept; what is kept of all but the deepest is what the
            next block consumes.
        max_new_tokens: upper bound of the answer's length, at least 1.
        stored: dtype in which states leave the device.
    """
    on_device = {name: _place(tensor, backbone) for name, tensor in inputs.items()}
    with Tap(backbone.model, layers, end_ids(backbone)) as tap:
        backbone.model.generate(
            **on_device,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([tap]),
        )
    mask = on_device["attention_mask"].bool()
    dtype = STORED[stored]
    return Answered(
        lengths=mask.sum(1).tolist(),
        hidden={layer: HostCopy(states[mask].to(dtype)) for layer, states in tap.hidden.items()},
        answer=HostCopy(tap.answer_states().to(dtype)),
        tokens=HostCopy(_token_table(backbone, on_device, tap.positions, mask)),
        generations=[HostCopy(torch.stack(steps)) for steps in (tap.token_ids, tap.logprobs, tap.entropies, tap.kept)],
    )


def _place(tensor: Tensor, backbone: Backbone) -> Tensor:
    moved = tensor.to(backbone.device, non_blocking=True)
    return moved.to(backbone.dtype) if moved.is_floating_point() else moved


def end_ids(backbone: Backbone) -> list[int]:
    """Return the ids that end an answer."""
    ends = backbone.model.generation_config.eos_token_id
    return list(ends) if isinstance(ends, (list, tuple)) else [] if ends is None else [int(ends)]


def _token_table(backbone: Backbone, inputs: dict[str, Tensor], positions: Tensor | None, mask: Tensor) -> Tensor:
    """Return ``[ΣT, C] int32`` in the order of ``token_columns``."""
    ids = inputs["input_ids"]
    types = inputs.get("mm_token_type_ids", inputs.get("token_type_ids", torch.zeros_like(ids)))
    image_id = getattr(backbone.model.config, "image_token_id", None)
    kinds = (ids == image_id).long() if image_id is not None else torch.zeros_like(ids)
    if positions is None:
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[None]
    rows = positions.expand(-1, len(ids), -1)
    return torch.stack([ids, kinds, types, *rows], dim=-1)[mask].to(torch.int32)


def captures(answered: Answered, token_layers: Sequence[int]) -> list[Capture]:
    """Split a copied batch into one capture a sample; layers not in ``token_layers`` keep one token."""
    hidden = {layer: copy.numpy() for layer, copy in answered.hidden.items()}
    tokens, answer = answered.tokens.numpy(), answered.answer.numpy()
    ends = np.cumsum(answered.lengths)
    found = []
    for row, (end, length) in enumerate(zip(ends, answered.lengths, strict=True)):
        spans = {
            layer: states[end - (length if layer in token_layers else 1) : end] for layer, states in hidden.items()
        }
        found.append(Capture(spans, answer[row], tokens[end - length : end]))
    return found


def generations(answered: Answered, decode: Any) -> list[Generation]:
    """Turn a copied batch's steps into one generation a sample.

    Args:
        answered: the batch.
        decode: list of token ids → text.
    """
    ids, logprobs, entropies, kept = (copy.numpy() for copy in answered.generations)
    found = []
    for row in range(ids.shape[1]):
        used = kept[:, row]
        token_ids = tuple(int(token) for token in ids[used, row])
        found.append(
            Generation(
                text=decode(token_ids),
                token_ids=token_ids,
                logprobs=tuple(float(value) for value in logprobs[used, row]),
                entropies=tuple(float(value) for value in entropies[used, row]),
                finish_reason="length" if used.all() else "stop",
            )
        )
    return found
