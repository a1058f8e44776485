"""The methods' networks with one signature, so that fits of several seeds run side by side as one.

They are made of relope's own parts and compute what `relope.probes.methods` computes; only pooling
and block l take whole padded batches, where the package takes ragged ones from a store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from premise_model import rms_norm, rotated
from torch import Tensor, nn

from relope.probes.bottleneck import Bottleneck, Learned
from relope.probes.heads import Standardize, initialize, mlp, seeded
from relope.probes.lora import Adapter, target_shapes


@dataclass(frozen=True)
class Shown:
    """What N samples show at block l; all on one device.

    Attributes:
        last: ``[N, H]`` output of block l at the last prompt token.
        tokens: ``[N, T, H] float16`` output of block l-1 at every token, padded on the left.
        seen: ``[N, T] bool`` False on padding.
        image: ``[N, T] bool`` True on image tokens.
        answer: ``[N, A]`` final state and log-prob features of the answer.
        correct: ``[N] bool``.
        block: the frozen block l.
        rotary: cosine and sine ``[T, D]``.
    """

    last: Tensor
    tokens: Tensor
    seen: Tensor
    image: Tensor
    answer: Tensor
    correct: Tensor
    block: Any
    rotary: tuple[Tensor, Tensor]


class OnVector(nn.Module):
    """``probe`` and ``posthoc``: an MLP on one vector a sample."""

    def __init__(self, width: int, seed: int, hidden: Sequence[int] | None) -> None:
        super().__init__()
        self.standardize = Standardize(width)
        self.head = mlp(width) if hidden is None else mlp(width, hidden)
        initialize(self.head, seeded(seed))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[B]``, and no penalty."""
        logits = self.head(self.standardize(vectors))[:, 0]
        return logits, torch.zeros_like(logits)


class OnTokens(nn.Module):
    """``attention-probe``: a learned query pools the tokens of block l-1."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.standardize = Standardize(width)
        self.head = mlp(width)
        initialize(self.head, seeded(seed))

    def pooled(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Return ``[B, H]``: the weighted mean of the kept tokens."""
        states = tokens.float()
        query = self.query * self.standardize.scale / len(self.query) ** 0.5
        weights = (states @ query).masked_fill(~keep, -torch.inf).softmax(-1)
        return (weights[:, None] @ states)[:, 0]

    def forward(self, tokens: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[B]``, and no penalty."""
        logits = self.head(self.standardize(self.pooled(tokens, keep)))[:, 0]
        return logits, torch.zeros_like(logits)


class OnBlock(nn.Module):
    """``relope``: LoRA in block l, and a bottleneck on its last-token output; without LoRA on what is stored."""

    def __init__(self, shown: Shown, seed: int, lora: bool, z: int = 256) -> None:
        super().__init__()
        generator = seeded(seed)
        bottleneck = Bottleneck(shown.last.shape[1], z)
        bottleneck.start(generator)
        shapes = target_shapes(shown.block) if lora else {}
        self.learned = Learned(
            bottleneck, {name: Adapter(*shape, 16, 32.0, 0.05, generator) for name, shape in shapes.items()}
        )
        self.block = shown.block.requires_grad_(False)
        self.rotary = shown.rotary

    @property
    def standardize(self) -> Standardize:
        """Of the bottleneck."""
        return self.learned.bottleneck.standardize

    def forward(self, states: Tensor, noise: Tensor | None, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits and KL divergences ``[B]``.

        Args:
            states: ``[B, T, H]`` input of block l, or ``[B, H]`` its output where there is no LoRA.
            noise: ``[B, Z]``, or None to take the mean.
            seen: ``[B, T]``.
        """
        last = states if seen is None else self._last(states.float(), seen)
        logits, divergence = self.learned.bottleneck(last, noise)
        return logits, divergence

    def _last(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """Return ``[B, H]``: block l with its adapters at the last token."""
        block, adapters = self.block, self.learned.named_adapters()
        heads = block.self_attn.config.num_attention_heads

        def through(name: str, states: Tensor) -> Tensor:
            return block.get_submodule(name)(states) + adapters[name](states)

        states = rms_norm(hidden, block.input_layernorm)
        query = through("self_attn.q_proj", states[:, -1:]).unflatten(-1, (heads, -1)).transpose(1, 2)
        key = through("self_attn.k_proj", states).unflatten(-1, (heads, -1)).transpose(1, 2)
        cosine, sine = self.rotary
        query, key = rotated(query, cosine[-1:], sine[-1:]), rotated(key, cosine, sine)
        scores = (query @ key.transpose(2, 3)) * key.shape[-1] ** -0.5
        weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)[:, :, 0]
        mixed = self._values(weights, states)[:, None]
        last = hidden[:, -1:] + through("self_attn.o_proj", mixed)
        states = rms_norm(last, block.post_attention_layernorm)
        inner = F.silu(through("mlp.gate_proj", states)) * through("mlp.up_proj", states)
        return (last + through("mlp.down_proj", inner))[:, 0]

    def _values(self, weights: Tensor, states: Tensor) -> Tensor:
        """Return ``[B, H]``: the values of all heads at the last token, tokens weighted ``[B, heads, T]``.

        Tokens are mixed before they are projected: a projection is linear, and one token a head costs less than all.
        """
        base, adapter = self.block.self_attn.v_proj, self.learned.named_adapters()["self_attn.v_proj"]
        down = (weights @ adapter.dropout(states)) @ adapter.down.T
        heads = weights.shape[1]
        weight, up = (part.unflatten(0, (heads, -1)) for part in (base.weight, adapter.up))
        values = torch.einsum("bhi,hdi->bhd", weights @ states, weight)
        return (values + adapter.scale * torch.einsum("bhr,hdr->bhd", down, up)).flatten(1)
