"""Hooks that read one ``generate()`` call: hidden states, log-probs, entropies, answer states.

``h^(k)`` is taken as what block k+1 consumes, and the deepest requested layer as its block's
output, on the prefill call only. Not ``output_hidden_states``: it breaks Phi-4 and misses what
Qwen3-VL adds between blocks.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import StoppingCriteria
from transformers.cache_utils import Cache

from relope.errors import UnsupportedError
from relope.extract.model.cache import cache_name, share
from relope.extract.model.continuation import Prefix
from relope.extract.model.interfaces import Model
from relope.extract.model.stops import Stops


class Stop(Exception):
    """Ends a forward pass after the block that was asked for."""


def _first(output: Any) -> Tensor:
    """Return the hidden states of a block's output, which some classes wrap in a tuple."""
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states


class Tap(StoppingCriteria):
    """Records one ``generate()`` call; pass it as a stopping criterion and use it as a context.

    Attributes:
        hidden: layer → ``[B, T, H]`` of the prefill, padded as the batch was.
        positions: ``[R, B, T]`` position ids that the decoder got (R = 4 on Qwen2.5-VL), or None
            where it derives them from the mask.
        token_ids, logprobs, entropies, kept: one ``[B]`` tensor a step; ``kept`` is False from
            the end token on. Log-probs and entropies are of the raw logits, in nats.
        stopped: row → its answer, where a stop text has ended it.
        cache: the prompt's keys and values, when they are to be kept.
    """

    def __init__(
        self,
        model: Model,
        layers: Sequence[int],
        end_ids: Sequence[int],
        *,
        stop: bool = False,
        keep: bool = False,
        stops: Stops | None = None,
    ) -> None:
        """Prepare to watch a model.

        Args:
            model: the transformers model.
            layers: blocks whose output is kept.
            end_ids: tokens that end an answer.
            stop: raise ``Stop`` once the deepest of them has run.
            keep: keep the prompt's cache.
            stops: texts that end a row's answer.
        """
        self.model, self.layers, self.stop, self.keep, self.stops = model, sorted(layers), stop, keep, stops
        self.cache: Cache | None = None
        self.end_ids = torch.tensor(list(end_ids), device=model.device)
        self.hidden: dict[int, Tensor] = {}
        self.positions: Tensor | None = None
        self.token_ids: list[Tensor] = []
        self.logprobs: list[Tensor] = []
        self.entropies: list[Tensor] = []
        self.kept: list[Tensor] = []
        self.stopped: dict[int, str] = {}
        self._finals: list[Tensor] = []
        self._stack = ExitStack()
        self._prefilled = False

    def __enter__(self) -> Self:
        decoder, deepest = self.model.get_decoder(), self.layers[-1]
        hooks = [
            decoder.register_forward_pre_hook(self._on_decoder, with_kwargs=True),
            decoder.layers[deepest - 1].register_forward_hook(self._on_output(deepest)),
            decoder.norm.register_forward_hook(self._on_norm),
            self.model.register_forward_hook(self._on_logits),
        ]
        for layer in self.layers[:-1]:
            hook = decoder.layers[layer].register_forward_pre_hook(self._on_input(layer), with_kwargs=True)
            hooks.append(hook)
        for hook in hooks:
            self._stack.callback(hook.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _on_decoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        positions = kwargs.get("position_ids")
        if not self._prefilled and positions is not None:
            self.positions = positions if positions.ndim == 3 else positions[None]

    def _on_input(self, layer: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not self._prefilled:
                self.hidden[layer] = args[0] if args else kwargs["hidden_states"]

        return hook

    def _on_output(self, layer: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not self._prefilled:
                self.hidden[layer] = _first(output)
                if self.stop:
                    raise Stop

        return hook

    def _on_norm(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self._final = output[:, -1].to(self.model.device)

    def _on_logits(self, module: nn.Module, args: Any, output: Any) -> None:
        self._logits = output.logits[:, -1].float().to(self.model.device)
        if self.keep and not self._prefilled:
            self.cache = share(getattr(output, cache_name(self.model)))
        self._prefilled = True

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Note the token that was just chosen; ask to stop the rows that a stop text has ended."""
        chosen = input_ids[:, -1]
        logprobs = self._logits.log_softmax(-1)
        if not self.kept:
            self._ended = torch.zeros_like(chosen, dtype=torch.bool)
        alive = ~self._ended & (self.kept[-1] if self.kept else ~self._ended)
        kept = alive & ~torch.isin(chosen, self.end_ids)
        if not self.token_ids:
            self._sum = torch.zeros_like(self._final, dtype=torch.float32)
        self._sum += torch.where(kept[:, None], self._final.float(), 0.0)
        self.token_ids.append(chosen)
        self.logprobs.append(logprobs.gather(1, chosen[:, None])[:, 0])
        self.entropies.append(-(logprobs.exp() * logprobs).nan_to_num().sum(-1))
        self.kept.append(kept)
        if self.stops is not None:
            self._finals.append(self._final.float())
            self._look_for(self.stops, alive)
        return self._ended.clone()

    def _look_for(self, stops: Stops, alive: Tensor) -> None:
        """End the rows whose answer holds a stop text now, and take its tokens and states off the answer."""
        said = torch.stack(self.token_ids, 1).tolist()
        for row in torch.nonzero(alive & self.kept[-1])[:, 0].tolist():
            end = stops.ended(said[row])
            if end is None:
                continue
            belongs, self.stopped[row] = end
            self._ended[row] = True
            for kept in self.kept[belongs:]:
                kept[row] = False
            states = self._finals[:belongs] or [torch.zeros_like(self._finals[0])]
            self._sum[row] = torch.stack([final[row] for final in states]).sum(0)

    def prefix(self, mask: Tensor) -> Prefix:
        """Return the prompt as the model has read it, where its cache was kept; ``mask`` is the batch's ``[B, T]``."""
        assert self.cache is not None, "made with keep=True"
        last = mask.sum(1)[None] - 1 if self.positions is None else self.positions[..., -1].expand(-1, len(mask))
        return Prefix(self.cache, mask, last)

    def check(self, shape: Sequence[int]) -> None:
        """Refuse states that are not ``[B, T, H]``.

        Raises:
            UnsupportedError: a block passes on something else.
        """
        for layer in self.layers:
            given = tuple(self.hidden[layer].shape) if layer in self.hidden else "nothing"
            if given != tuple(shape):
                raise UnsupportedError(
                    f"{type(self.model).__name__} is refused: layer {layer} gives states {given}, not {tuple(shape)} "
                    "(samples, tokens, hidden size)"
                )

    def answer_states(self) -> Tensor:
        """Return ``[B, H] float32``: the mean final-layer state over each row's answer tokens."""
        counts = torch.stack(self.kept).sum(0)
        return self._sum / counts.clamp(min=1)[:, None]
