"""The next token of each row, as `generate()` would choose it for that row alone."""

from typing import Any

import torch
from torch import Tensor

from relope.extract.model.continuation import pick
from relope.extract.model.interfaces import Model
from relope.serve.engine import Query


class Chooser:
    """How one row's tokens are chosen: the checkpoint's own processing of logits, then the query's sampling.

    A row draws from a generator of its own, one number a token, so that its text hangs on nothing but its seed. Of
    the checkpoint's generation settings all count but ``temperature`` and ``top_p``, which are the query's; ``top_k``
    where the checkpoint sets it, not transformers' default of 50.
    """

    def __init__(self, model: Model, query: Query, prompt: Tensor) -> None:
        """Prepare for a prompt's tokens ``[1, T]``, on the model's device."""
        sampled = query.temperature > 0
        self.generator = torch.Generator() if sampled else None
        if self.generator is not None:
            seed = self.generator.seed() if query.seed is None else query.seed % (1 << 63)
            self.generator.manual_seed(seed)
        self.processors = _processors(model, query, prompt)
        self.ids = prompt if self.processors else prompt[:, :0]

    @property
    def plain(self) -> bool:
        """Whether the likeliest token is taken, as the logits are."""
        return self.generator is None and not self.processors

    def choose(self, logits: Tensor) -> Tensor:
        """Return ``[1]``: the next token, of ``[1, V] float32`` logits."""
        scores: Tensor = self.processors(self.ids, logits.clone()) if self.processors else logits
        if self.generator is None:
            token = scores.argmax(-1)
        else:
            drawn = torch.rand(1, generator=self.generator).to(scores.device)
            token = pick(scores, drawn, 1.0)
        if self.processors:
            self.ids = torch.cat([self.ids, token[:, None]], 1)
        return token


def _processors(model: Model, query: Query, prompt: Tensor) -> Any:
    """Return what `generate()` would process the row's logits by."""
    sampling: dict[str, Any] = {"do_sample": False}
    if query.temperature > 0:
        own = getattr(model.generation_config, "top_k", None)
        sampling = {"do_sample": True, "temperature": query.temperature, "top_p": query.top_p, "top_k": own or 0}
    config, _ = model._prepare_generation_config(None, max_new_tokens=query.max_new_tokens, **sampling)
    model._prepare_special_tokens(config, False, device=prompt.device)
    return model._get_logits_processor(config, input_ids_seq_length=prompt.shape[1], device=prompt.device)


def choose(choosers: list[Chooser], logits: Tensor) -> Tensor:
    """Return ``[B]`` tokens of ``[B, V] float32`` logits, on their device."""
    tokens = logits.argmax(-1)
    for row, chooser in enumerate(choosers):
        if not chooser.plain:
            tokens[row] = chooser.choose(logits[row : row + 1])[0]
    return tokens
