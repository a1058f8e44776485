"""LoRA on one decoder block, as a sidecar: the block that serves answers is never touched.

The ``peft`` package does the same and our tests hold the two equal; its import alone takes
longer than a fit from the cache, so a router that is trained or loaded does not need it.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from relope.errors import UnsupportedError

TARGETS = frozenset(
    ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj", "down_proj", "gate_up_proj")
)


class Adapter(nn.Module):
    """The low-rank update of one linear layer: ``x ↦ (α/r) · B A dropout(x)``, in float32.

    Source: Hu et al. 2021; B starts at 0, so an untrained adapter changes nothing.
    """

    def __init__(
        self, width_in: int, width_out: int, rank: int, alpha: float, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        bound = 1 / math.sqrt(width_in)
        self.down = nn.Parameter(torch.rand(rank, width_in, generator=generator) * 2 * bound - bound)
        self.up = nn.Parameter(torch.zeros(width_out, rank))

    def forward(self, x: Tensor) -> Tensor:
        down = nn.functional.linear(self.dropout(x.float()), self.down)
        update: Tensor = nn.functional.linear(down, self.up) * self.scale
        return update


class Adapted(nn.Module):
    """A frozen linear layer with an adapter beside it."""

    def __init__(self, base: nn.Linear, adapter: Adapter) -> None:
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        update: Tensor = self.adapter(x)
        return out + update.to(out.dtype)


def target_shapes(block: nn.Module) -> dict[str, tuple[int, int]]:
    """Return dotted name → (in, out) of every attention and MLP projection of a decoder block.

    Raises:
        UnsupportedError: the block has none of the projections that LoRA is put on.
    """
    shapes = {
        name: (layer.in_features, layer.out_features)
        for name, layer in block.named_modules()
        if isinstance(layer, nn.Linear) and name.rsplit(".", 1)[-1] in TARGETS
    }
    if not shapes:
        raise UnsupportedError(f"{type(block).__name__} has none of {', '.join(sorted(TARGETS))} to put LoRA on")
    return shapes


def attach(block: nn.Module, adapters: Mapping[str, Adapter]) -> nn.Module:
    """Return a copy of a block that shares every weight with it and carries the adapters."""
    twin = share(block).requires_grad_(False)
    for name, adapter in adapters.items():
        parent, _, leaf = name.rpartition(".")
        base = twin.get_submodule(name)
        assert isinstance(base, nn.Linear)
        setattr(twin.get_submodule(parent), leaf, Adapted(base, adapter))
    return twin


def share(module: nn.Module) -> nn.Module:
    """Copy a module tree but neither its parameters, its buffers nor its configuration."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    for part in module.modules():
        config = part.__dict__.get("config")
        if config is not None:
            memo[id(config)] = config
    return copy.deepcopy(module, memo)


def module_name(model: Any, layer: int) -> str:
    """Return the dotted name of decoder block ``layer`` within its model, as adapters on disk spell it."""
    decoder = model.get_decoder()
    names = [name for name, part in model.named_modules() if part is decoder.layers]
    return f"{names[0]}.{layer - 1}"
