"""Key-value caches: one with room for an answer, and copies that grow apart.

transformers' ``DynamicLayer`` copies every key and value it holds for each new token.
"""

import copy
import functools
import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from relope.extract.model.interfaces import Model

SHARED = (DynamicLayer, DynamicSlidingWindowLayer)
"""Cache layers that never write into a tensor they hold."""

MOST_ROOM = 128
"""Tokens: of a longer answer all states move once every so many, and no memory is taken for what is never said."""


class RoomyLayer(DynamicLayer):
    """Keys and values with room behind them, so that a step writes its own token and copies none of the others.

    ``keys`` and ``values`` are ``[B, heads, T, D]``, views of buffers for up to ``room`` tokens more (``MOST_ROOM`` at
    most).
    """

    def __init__(self, room: int) -> None:
        """Start empty, with room for ``room`` tokens behind the first that are written."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = min(room, MOST_ROOM)
        self._buffers: dict[str, Tensor] = {}

    def hold(self, keys: Tensor, values: Tensor, width: int) -> None:
        """Take over buffers ``[B, heads, width + room, D]`` whose first ``width`` tokens are there already."""
        self.lazy_initialization(keys, values)
        self._buffers = {"keys": keys, "values": values}
        self.keys, self.values = keys[..., :width, :], values[..., :width, :]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the states of further tokens and return those of all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys = self.keys = self._appended("keys", key_states)
        values = self.values = self._appended("values", value_states)
        return keys, values

    def _appended(self, name: str, new: Tensor) -> Tensor:
        held: Tensor = getattr(self, name)
        length = held.shape[-2] if held.numel() else 0
        end = length + new.shape[-2]
        buffer = self._buffers.get(name)
        if buffer is None or not _begins_with(buffer, held) or end > buffer.shape[-2]:
            buffer = self._buffers[name] = new.new_empty(*new.shape[:2], end + self.room, new.shape[-1])
            if length:
                buffer[..., :length, :] = held
        buffer[..., length:end, :] = new
        return buffer[..., :end, :]

    def __copy__(self) -> DynamicLayer:
        """Return a layer that shows the same states and never writes into the buffers."""
        twin: DynamicLayer = DynamicLayer.__new__(DynamicLayer)
        twin.__dict__.update({name: value for name, value in vars(self).items() if name not in ("room", "_buffers")})
        return twin


def _begins_with(buffer: Tensor, held: Tensor) -> bool:
    """Return whether a buffer still holds these states: a reordering or a repetition puts others in their place."""
    return held.data_ptr() == buffer.data_ptr() and len(held) == len(buffer)


def cache_name(model: Model) -> str:
    """Return what a model's class calls its cache, as an argument and in its output: transformers 5.24 renamed it."""
    kind: Any = type(model)
    return _cache_name(kind)


@functools.cache
def _cache_name(kind: Any) -> str:
    return "cache" if "cache" in inspect.signature(kind.forward).parameters else "past_key_values"


def roomy_cache(model: Model, room: int) -> DynamicCache | None:
    """Return an empty cache for ``generate()`` with room for an answer; None for a class that makes its own kind.

    Args:
        model: the transformers model.
        room: tokens of the longest answer.
    """
    if not model._supports_default_dynamic_cache():
        return None
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def share(cache: Cache) -> Cache:
    """Return a copy of a cache that grows apart from it; tensors are shared where that is safe."""
    if not all(type(layer) in (*SHARED, RoomyLayer) for layer in cache.layers):
        return copy.deepcopy(cache)
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin


def repeated(cache: Cache, times: int, room: int) -> Cache:
    """Return a copy of a cache with every row ``times`` times, side by side, and room for ``room`` tokens more."""
    twin = share(cache)
    twin.batch_repeat_interleave(times)
    twin.layers = [_with_room(layer, room) if type(layer) is DynamicLayer else layer for layer in twin.layers]
    return twin


def _with_room(layer: DynamicLayer, room: int) -> DynamicLayer:
    roomy = RoomyLayer(room)
    roomy.__dict__.update(vars(layer))
    return roomy


def side_by_side(parts: Sequence[tuple[Cache, Tensor | None]], width: int, room: int) -> DynamicCache:
    """Return a cache with the rows of several, aligned at their last token, and room for ``room`` tokens more.

    Every layer holds all of its tokens, also those of a sliding window: which of them are seen is the mask's to say.

    Args:
        parts: caches, and which rows of each; None = all.
        width: tokens of the cache that is made: a longer one loses its first, a shorter one gets zeros before them,
            which the mask hides.
        room: tokens.
    """
    made = DynamicCache()
    chosen = [rows for _, rows in parts]
    for layers in zip(*(cache.layers for cache, _ in parts), strict=True):
        roomy = RoomyLayer(room)
        roomy.hold(
            _aligned([layer.keys for layer in layers], chosen, width, roomy.room),
            _aligned([layer.values for layer in layers], chosen, width, roomy.room),
            width,
        )
        made.layers.append(roomy)
    return made


def _aligned(states: Sequence[Tensor], chosen: Sequence[Tensor | None], width: int, room: int) -> Tensor:
    """Return ``[ΣB, heads, width + room, D]``: states of several caches, each of which ends at ``width``."""
    of = [len(held) if rows is None else len(rows) for held, rows in zip(states, chosen, strict=True)]
    first = states[0]
    buffer = first.new_empty(sum(of), first.shape[1], width + room, first.shape[-1])
    start = 0
    for held, rows, n in zip(states, chosen, of, strict=True):
        kept = held[:, :, max(0, held.shape[2] - width) :]
        buffer[start : start + n, :, : width - kept.shape[2]] = 0
        buffer[start : start + n, :, width - kept.shape[2] : width] = kept if rows is None else kept[rows]
        start += n
    return buffer
