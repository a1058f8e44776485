"""Where h̃_T comes from: layer l as it is stored, block l replayed from the cache, or samples streamed through it."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from relope.probes.examples import Examples, Streams
from relope.probes.heads import to_device
from relope.probes.parallel import World
from relope.probes.replay import BlockReplay, read_batch

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Rows of the store and what block l gives for them.

    Attributes:
        rows: ``[b]`` this process's rows.
        of: B, the rows of the whole batch over all processes.
        mine: ``[b]`` which of the B they are.
        states: gives h̃_T ``[b, H]``, computed anew at each call.
    """

    rows: Rows
    of: int
    mine: Rows
    states: Callable[[], Tensor]


def stored(examples: Examples, rows: Rows, size: int, together: World) -> Iterator[Batch]:
    """Yield this process's share of each batch, with layer l as it is stored: nothing is put in block l."""
    for whole in _cut(rows, size):
        mine = together.share(len(whole))
        last = torch.from_numpy(examples.store.last(examples.layer, whole[mine]))
        yield Batch(whole[mine], len(whole), mine, functools.partial(to_device, last, examples.device))


def replayed(
    examples: Examples, rows: Rows, size: int, replay: BlockReplay, block: nn.Module, fast: bool
) -> Iterator[Batch]:
    """Yield batches that ``block`` computes from the cached layer l-1."""
    for ragged in examples.store.batches(examples.layer - 1, rows, size=size):
        padded = read_batch(examples.store, ragged, examples.device, replay.dtype)
        states = functools.partial(replay.last_states, padded, block, fast=fast)
        yield Batch(ragged.rows, len(ragged.rows), np.arange(len(ragged.rows)), states)


def streamed(
    examples: Examples, rows: Rows, size: int, together: World, streams: Streams, block: nn.Module, stop: bool
) -> Iterator[Batch]:
    """Yield this process's share of each batch, which the backbone computes with ``block`` in it."""
    for whole in _cut(rows, size):
        mine = together.share(len(whole))
        ids = examples.store.samples["id"].gather(whole[mine]).to_list()
        states = functools.partial(streams.last_states, ids, block, examples.layer, stop=stop)
        yield Batch(whole[mine], len(whole), mine, states)


def _cut(rows: Rows, size: int) -> Iterator[Rows]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
