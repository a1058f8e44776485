"""Sends a store's samples through the running backbone again, with a block of ours in place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from relope.extract.model.backbone import Backbone
from relope.extract.model.capture import Stop
from relope.types import Sample


@dataclass(frozen=True)
class Streams:
    """A backbone and the samples that may be sent through it.

    Attributes:
        backbone: the opened model; its own blocks are never changed.
        samples: id → sample.
        text_only: put captions in place of pictures, as the store was extracted.
    """

    backbone: Backbone
    samples: Mapping[str, Sample]
    text_only: bool = False

    @property
    def model(self) -> Any:
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
        backbone = self.backbone
        on_device = backbone.place(backbone.inputs([self.samples[name] for name in ids], self.text_only))
        if not _finds_positions(backbone):
            on_device["position_ids"] = (on_device["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        seen: list[Tensor] = []

        def watch(module: nn.Module, args: Any, output: Any) -> Any:
            seen.append(output[0] if isinstance(output, tuple) else output)
            if stop:
                raise Stop
            # Nothing after the block reaches the loss: the blocks behind it need keep nothing for a gradient.
            return (seen[0].detach(), *output[1:]) if isinstance(output, tuple) else seen[0].detach()

        with _in_place(backbone, block, layer, watch), suppress(Stop):
            backbone.model(**on_device, use_cache=False)
        return seen[0][:, -1]


def _finds_positions(backbone: Backbone) -> bool:
    """Return whether a plain forward derives the positions of a left-padded batch itself."""
    return hasattr(getattr(backbone.model, "model", None), "get_rope_index")


@contextmanager
def _in_place(backbone: Backbone, block: nn.Module, layer: int, watch: Callable[..., Any]) -> Iterator[None]:
    blocks, own = backbone.blocks, backbone.blocks[layer - 1]
    deltas = getattr(getattr(backbone.model, "model", None), "rope_deltas", None)
    hook = block.register_forward_hook(watch)
    blocks[layer - 1] = block
    try:
        yield
    finally:
        blocks[layer - 1] = own
        hook.remove()
        if hasattr(getattr(backbone.model, "model", None), "rope_deltas"):
            backbone.model.model.rope_deltas = deltas


def block_tensors(backbone: Backbone, layer: int) -> dict[str, Tensor]:
    """Return the weights of a decoder block on the CPU, as a store keeps them for ReLope."""
    state = backbone.blocks[layer - 1].state_dict()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
