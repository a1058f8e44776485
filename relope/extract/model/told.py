"""What a server tells of an answer that it has written: how much of its distributions, and what is made of that."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from relope.extract.model.backbone import Backbone

TOP = 20
"""Log-probs of a token's alternatives that are asked for where the vocabulary is larger than ``WHOLE``.

Choice: vLLM gives no more unless it is told to, and of the mass of an answer's token little is left beyond.
"""

WHOLE = 512
"""Largest vocabulary whose log-probs are all asked for: entropies are then of the whole distribution."""


def alternatives(backbone: Backbone) -> int:
    """Return how many log-probs of a token are asked for: those of the whole vocabulary, or ``TOP``."""
    vocabulary = int(backbone.model.config.get_text_config().vocab_size)
    return vocabulary if vocabulary <= WHOLE else TOP


def tells_all(backbone: Backbone) -> bool:
    """Return whether log-probs of the whole vocabulary are asked for."""
    return alternatives(backbone) == int(backbone.model.config.get_text_config().vocab_size)


def entropies_told(backbone: Backbone) -> str:
    """Return what entropies are of, as the identity of a store says it."""
    return "whole" if tells_all(backbone) else f"top {TOP} and the rest"


def final_mean(backbone: Backbone, final: Tensor, n_prompt: int, n_kept: int) -> Tensor:
    """Return ``[H] float32``, the mean of the normed states that predict an answer's tokens; zeros without any.

    Args:
        backbone: whose final norm is here.
        final: ``[T, H]`` the last block's output for the prompt and the answer but its last token.
        n_prompt: tokens of the prompt, the last of which predicts the first of the answer.
        n_kept: tokens of the answer.
    """
    if not n_kept:
        return torch.zeros(backbone.hidden_size)
    normed: Tensor = backbone.decoder.norm(final[n_prompt - 1 : n_prompt - 1 + n_kept])
    return normed.float().mean(0)


def entropy_of(logprobs: Iterable[float], *, whole: bool) -> tuple[float, float]:
    """Return the entropy of a distribution in nats, and what of it is not told: that counts as one outcome more."""
    values = torch.tensor(list(logprobs), dtype=torch.float64)
    shares = values.exp()
    rest = 0.0 if whole else max(0.0, 1.0 - float(shares.sum()))
    return float(-(shares * values).nan_to_num().sum()) - (rest * math.log(rest) if rest > 0 else 0.0), rest
