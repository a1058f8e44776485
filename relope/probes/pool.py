"""Attention pooling of ragged tokens: one softmax a sample, nothing padded.

Samples are taken one at a time: a sample's tokens fit in a core's cache, where they are widened
to float32, scored and pooled without another trip to memory. On one CPU thread this is several
times faster than the same in a few operations over the whole batch, and it needs no more memory
than one sample.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

_TINY = 1e-6


class Pool(torch.autograd.Function):
    """``z_i = Σ_t α_t r_t h_t`` with ``α = softmax(r_t q·h_t)`` over the tokens of sample i.

    ``r_t`` is 1, or 1/RMS(h_t) with ``rms``. Only the query gets a gradient: tokens are frozen.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, tokens: Tensor, bounds: Sequence[int], keep: Tensor | None, rms: bool
    ) -> Tensor:
        """Return ``[B, H]`` pooled states.

        Args:
            ctx: keeps what the backward pass needs.
            query: ``[H]``, already divided by √d; its dtype is the one that is computed in.
            tokens: ``[ΣT, H]``, any floating dtype.
            bounds: ``B + 1`` row numbers: sample i is ``tokens[bounds[i]:bounds[i + 1]]``.
            keep: ``[ΣT] bool`` tokens that may have weight, or None for all.
            rms: divide every token by its root mean square.
        """
        pooled = query.new_empty(len(bounds) - 1, len(query))
        ctx.save_for_backward(tokens)
        ctx.bounds, ctx.rms, ctx.weights = bounds, rms, []
        for row, (start, states) in enumerate(_samples(tokens, bounds, query.dtype)):
            kept = None if keep is None else keep[start : start + len(states)]
            weights, factors = sample_weights(query, states, kept, rms)
            torch.mv(states.t(), weights if factors is None else weights * factors, out=pooled[row])
            ctx.weights.append((weights, factors))
        return pooled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the query's gradient: ``Σ_t α_t (g_t − Σ α g) r_t h_t`` with ``g_t = r_t h_t·∂z``."""
        (tokens,) = ctx.saved_tensors
        moments = torch.zeros_like(gradient[0])
        for row, (_, states) in enumerate(_samples(tokens, ctx.bounds, gradient.dtype)):
            weights, factors = ctx.weights[row]
            moved = states @ gradient[row]
            if factors is not None:
                moved *= factors
            scores = weights * (moved - weights @ moved)
            moments.addmv_(states.t(), scores if factors is None else scores * factors)
        return moments, None, None, None, None


def sample_weights(query: Tensor, states: Tensor, keep: Tensor | None, rms: bool) -> tuple[Tensor, Tensor | None]:
    """Return the attention weights ``[T]`` of one sample, which sum to 1, and the tokens' ``1/RMS``."""
    scores, factors = states @ query, None
    if rms:
        norms = torch.linalg.vector_norm(states, dim=1)
        factors = len(query) ** 0.5 / norms.clamp(min=_TINY)
        scores *= factors
    if keep is not None:
        scores.masked_fill_(~keep, -torch.inf)
    return scores.softmax(0), factors


def _samples(tokens: Tensor, bounds: Sequence[int], dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Yield the start of each sample and its states ``[T, H]``, in a buffer that the next overwrites."""
    if tokens.dtype == dtype:
        yield from ((start, tokens[start:stop]) for start, stop in pairwise(bounds))
        return
    longest = max((stop - start for start, stop in pairwise(bounds)), default=0)
    buffer = tokens.new_empty(longest, tokens.shape[1], dtype=dtype)
    for start, stop in pairwise(bounds):
        yield start, buffer[: stop - start].copy_(tokens[start:stop])
