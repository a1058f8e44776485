"""Where h̃_T comes from: layer l as it is stored, block l replayed from the cache, or samples streamed through it."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from relope.probes.ahead import made_ahead, on_cuda, pinned
from relope.probes.examples import Examples, Streams
from relope.probes.heads import to_device
from relope.probes.parallel import World
from relope.probes.replay import BlockReplay, PaddedBatch, read_batch
from relope.store import RaggedBatch

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
    for cut, padded in _padded(examples, rows, size, replay.dtype):
        states = functools.partial(replay.last_states, padded, block, fast=fast)
        yield Batch(cut, len(cut), np.arange(len(cut)), states)


def _padded(examples: Examples, rows: Rows, size: int, dtype: torch.dtype) -> Iterator[tuple[Rows, PaddedBatch]]:
    """Yield rows and layer l-1 of each batch on the device; a GPU's are put there while it computes others."""
    store, device, layer = examples.store, examples.device, examples.layer - 1

    def padded(ragged: RaggedBatch) -> tuple[Rows, PaddedBatch]:
        return ragged.rows, read_batch(store, ragged, device, dtype)

    if not on_cuda(device):
        return map(padded, store.batches(layer, rows, size=size))
    return made_ahead(lambda piece: padded(pinned(store, layer, piece)), store.plan(layer, rows, size=size))


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
