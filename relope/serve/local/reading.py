"""One batch of prompts through the small model: read up to block l, decided there, and read on for those that are kept.

The router sees what block l takes and gives. Rows that it escalates leave the batch at block l: the blocks behind it
never see them. The rows that stay go on in the same forward pass, on the same cache.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from relope.extract.model.backbone import Backbone
from relope.extract.model.cache import cache_name
from relope.extract.model.capture import Stop
from relope.extract.model.continuation import Prefix


@dataclass
class AtBlock:
    """What a batch of B prompts is at block l.

    Attributes:
        earlier: layer n below l → ``[B, T, H]`` what block n+1 takes; n = l-1 is always there.
        output: ``[B, T, H]`` what block l gives.
        arguments: what it is called with besides, without the cache.
        inputs: of the model, on its device.
        positions: ``[R, B, T]`` position ids that the decoder got, or None where it counts tokens.
    """

    inputs: dict[str, Tensor]
    earlier: dict[int, Tensor] = field(default_factory=dict)
    output: Tensor = field(default_factory=lambda: torch.empty(0))
    arguments: dict[str, Any] = field(default_factory=dict)
    positions: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """``[B, T]`` one for a token, zero for padding."""
        return self.inputs["attention_mask"]


@dataclass(frozen=True)
class Kept:
    """The K rows of a batch that are answered.

    Attributes:
        rows: their numbers in the batch.
        read: their prompts, as the model has read them.
        logits: ``[K, V] float32`` of their first token.
        final: ``[K, H]`` final-layer states of the last token.
    """

    rows: list[int]
    read: Prefix
    logits: Tensor
    final: Tensor


Decide = Callable[[AtBlock], Sequence[int]]
"""What the batch is at block l → numbers of the rows that are answered."""


def read_prompts(
    backbone: Backbone, inputs: dict[str, Tensor], layer: int, decide: Decide, earlier: Sequence[int] = ()
) -> Kept | None:
    """Read a batch; return what is kept of it, None where nothing is.

    Args:
        backbone: the opened model.
        inputs: a left-padded batch, on the CPU.
        layer: l; no block behind it runs for a row that is not kept.
        decide: called once, when block l has run.
        earlier: layers below l-1 that it looks at.
    """
    on_device = backbone.to_device(inputs)
    if (positions := _positions(backbone, on_device)) is not None:
        on_device["position_ids"] = positions
    cache: Any = DynamicCache()
    seen = _Watch(AtBlock(on_device), layer, decide, earlier)
    with seen.hooks(backbone), _own_state(backbone), suppress(Stop):
        out = backbone.model(**on_device, use_cache=True, logits_to_keep=1, **{cache_name(backbone.model): cache})
    if not seen.rows:
        return None
    mask, at = on_device["attention_mask"], seen.at.positions
    last = mask.sum(1)[None] - 1 if at is None else at[..., -1].expand(-1, len(mask))
    if len(seen.rows) < len(mask):
        chosen = torch.tensor(seen.rows, device=mask.device)
        for held in cache.layers[:layer]:
            held.batch_select_indices(chosen)
        mask, last = mask[chosen], last[:, chosen]
    return Kept(seen.rows, Prefix(cache, mask, last), out.logits[:, -1].float().to(mask.device), seen.final)


def _positions(backbone: Backbone, inputs: dict[str, Tensor]) -> Tensor | None:
    """Return ``[B, T]`` or, with multimodal rotary embeddings, ``[3, B, T]`` position ids; None where images decide.

    A class that derives them does so from images alone: without any it would count the padding too.
    """
    text = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    if not backbone.traits.derives_positions:
        return text
    if any(given.shape != text.shape for given in inputs.values()):
        return None
    return text.expand(3, -1, -1) if backbone.traits.position_rows == 4 else text


class _Watch:
    """The hooks of one batch."""

    def __init__(self, at: AtBlock, layer: int, decide: Decide, earlier: Sequence[int]) -> None:
        self.at, self.layer, self.decide, self.earlier = at, layer, decide, earlier
        self.rows: list[int] = []
        self._chosen: Tensor | None = None

    @contextmanager
    def hooks(self, backbone: Backbone) -> Iterator[None]:
        decoder, blocks = backbone.decoder, backbone.blocks
        with ExitStack() as stack:
            module: Any = decoder
            for hook in (
                module.register_forward_pre_hook(self._on_decoder, with_kwargs=True),
                *(blocks[n].register_forward_pre_hook(self._keeping(n), with_kwargs=True) for n in self.earlier),
                blocks[self.layer - 1].register_forward_pre_hook(self._on_input, with_kwargs=True),
                blocks[self.layer - 1].register_forward_hook(self._on_output),
                *(block.register_forward_pre_hook(self._on_later, with_kwargs=True) for block in blocks[self.layer :]),
                decoder.norm.register_forward_hook(self._on_norm),
            ):
                stack.callback(hook.remove)
            yield

    def _on_decoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        positions = kwargs.get("position_ids")
        if positions is not None:
            self.at.positions = positions if positions.ndim == 3 else positions[None]

    def _keeping(self, layer: int) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.at.earlier[layer] = args[0] if args else kwargs["hidden_states"]

        return hook

    def _on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._keeping(self.layer - 1)(module, args, kwargs)
        left_out = ("hidden_states", "cache", "past_key_values", "use_cache")
        self.at.arguments = {name: value for name, value in kwargs.items() if name not in left_out}

    def _on_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        states: Tensor = output[0] if isinstance(output, tuple) else output
        self.at.output = states
        self.rows = sorted(self.decide(self.at))
        self.at = AtBlock(self.at.inputs, positions=self.at.positions)  # what only the router needed is let go
        if not self.rows:
            raise Stop
        if len(self.rows) == len(states):
            return None
        self._chosen = torch.tensor(self.rows, device=states.device)
        kept = states[self._chosen]
        return (kept, *output[1:]) if isinstance(output, tuple) else kept

    def _on_later(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._chosen is None:
            return None
        of, chosen = len(self.at.mask), self._chosen
        return args, {
            name: value if name == "hidden_states" else rows_of(value, of, chosen) for name, value in kwargs.items()
        }

    def _on_norm(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.final = output[:, -1]


def rows_of(value: Any, of: int, chosen: Tensor) -> Any:
    """Return some rows of what a block is called with; what is the same for all rows stays.

    Args:
        value: a mask ``[B, …]``, positions, or rotary embeddings: a pair of ``[B, T, D]``, in older releases of
            transformers ``[3, B, T, D]``.
        of: B.
        chosen: numbers of the rows.
    """
    if isinstance(value, tuple):
        return tuple(_of_rotary(part, of, chosen) for part in value)
    if isinstance(value, Tensor) and value.ndim > 1 and len(value) == of:
        return value[chosen]
    return value


def _of_rotary(part: Any, of: int, chosen: Tensor) -> Any:
    if isinstance(part, Tensor) and part.ndim == 4 and part.shape[1] == of:
        return part[:, chosen]
    return part[chosen] if isinstance(part, Tensor) and part.ndim == 3 and len(part) == of else part


@contextmanager
def _own_state(backbone: Backbone) -> Iterator[None]:
    """Leave a model as it was: Qwen's remembers how far a prompt's images moved the positions of its answer."""
    if not backbone.traits.keeps_rope_deltas:
        yield
        return
    inner = backbone.model.model
    before = inner.rope_deltas
    try:
        yield
    finally:
        inner.rope_deltas = before


def splits(backbone: Backbone, layer: int) -> bool:
    """Return whether a batch may split at block l: not where image features are added behind it by row and token.

    Qwen3-VL adds them (DeepStack) to the first few blocks' outputs, for all rows of a batch at once.
    """
    vision = getattr(backbone.model.config, "vision_config", None)
    return layer > len(getattr(vision, "deepstack_visual_indexes", None) or ())
