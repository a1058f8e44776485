"""Sends a store's samples through the running backbone again, with a block of ours in place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from relope.extract.model.backbone import Backbone
from relope.extract.model.capture import Stop
from relope.extract.model.interfaces import Model
from relope.types import Sample


@dataclass(frozen=True)
class Streams:
    """A backbone and the samples that may be sent through it.

    Attributes:
        backbone: the opened model; its own blocks are never changed.
        samples: id → sample.
        text_only: put captions in place of images, as the store was extracted.
    """

    backbone: Backbone
    samples: Mapping[str, Sample]
    text_only: bool = False

    @property
    def model(self) -> Model:
        """The transformers model."""
        return self.backbone.model

    def last_states(self, ids: Sequence[str], block: nn.Module, layer: int, *, stop: bool) -> Tensor:
        """Return ``[B, H]``: what ``block`` gives at the last token in the place of block ``layer``.

        Args:
            ids: samples of the batch.
            block: runs instead of the model's block, which is put back afterwards.
            layer: 1-based number of the block.
            stop: end the forward pass after the block.
        """
        inputs, bound = self._inputs(ids), self.backbone.traits.rope_bound
        far = inputs["attention_mask"].sum(1) > bound if bound is not None else None
        if far is None or far.all() or not far.any():
            return self._last_states(inputs, block, layer, stop)
        # One long prompt would turn the rotary embedding of the whole batch: those go apart, as in extraction.
        sides = [torch.nonzero(far == side)[:, 0] for side in (False, True)]
        parts = [self._inputs([ids[row] for row in rows]) for rows in sides]
        states = torch.cat([self._last_states(part, block, layer, stop) for part in parts])
        return states[torch.cat(sides).argsort().to(states.device)]

    def _inputs(self, ids: Sequence[str]) -> dict[str, Tensor]:
        return self.backbone.inputs([self.samples[name] for name in ids], self.text_only)

    def _last_states(self, inputs: dict[str, Tensor], block: nn.Module, layer: int, stop: bool) -> Tensor:
        backbone = self.backbone
        on_device = backbone.to_device(inputs)
        if not backbone.traits.derives_positions:
            on_device["position_ids"] = (on_device["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        outputs: list[Tensor] = []

        def watch(module: nn.Module, args: Any, output: Any) -> Any:
            outputs.append(output[0] if isinstance(output, tuple) else output)
            if stop:
                raise Stop
            # Nothing after the block reaches the loss: the blocks behind it need keep nothing for a gradient.
            return (outputs[0].detach(), *output[1:]) if isinstance(output, tuple) else outputs[0].detach()

        with _in_place(backbone, block, layer, watch), suppress(Stop):
            backbone.model(**on_device, use_cache=False, logits_to_keep=1)
        return outputs[0][:, -1]


@contextmanager
def _in_place(backbone: Backbone, block: nn.Module, layer: int, watch: Callable[..., Any]) -> Iterator[None]:
    """Let a block of ours run in the place of block ``layer``; afterwards all is as it was."""
    blocks, own = backbone.blocks, backbone.blocks[layer - 1]
    deltas = backbone.model.model.rope_deltas if backbone.traits.keeps_rope_deltas else None
    hook = block.register_forward_hook(watch)
    blocks[layer - 1] = block
    try:
        yield
    finally:
        blocks[layer - 1] = own
        hook.remove()
        if backbone.traits.keeps_rope_deltas:
            backbone.model.model.rope_deltas = deltas


def block_tensors(backbone: Backbone, layer: int) -> dict[str, Tensor]:
    """Return the weights of a decoder block on the CPU, as a store keeps them for ReLope."""
    state = backbone.blocks[layer - 1].state_dict()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
