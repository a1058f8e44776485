"""Token batches for a GPU: read ahead by a few threads, into pinned memory that it copies from while it computes."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from relope.store import RaggedBatch, RowReader, Rows

T = TypeVar("T")
Piece = npt.NDArray[np.int64]
"""Row numbers of one batch."""

_READERS = 4
"""Threads, and batches that are ready or being read: one thread's copies are slower than a GPU's steps."""


def token_batches(
    store: RowReader, layer: int, rows: Rows, *, size: int, device: str, rng: np.random.Generator | None = None
) -> Iterator[RaggedBatch]:
    """Yield what ``store.batches`` yields; for CUDA in pinned memory of each batch's own."""
    if not on_cuda(device):
        return store.batches(layer, rows, size=size, rng=rng)
    return made_ahead(functools.partial(pinned, store, layer), store.plan(layer, rows, size=size, rng=rng))


def on_cuda(device: str) -> bool:
    """Return whether a device is a GPU."""
    return torch.device(device).type == "cuda"


def pinned(store: RowReader, layer: int, rows: Piece) -> RaggedBatch:
    """Read a batch into pinned memory."""
    shape = int(store.index.n_tokens[rows].sum()), store.manifest.hidden_size
    stored = torch.uint16 if store.manifest.dtype == "bfloat16" else torch.float32
    return store.read(layer, rows, out=torch.empty(shape, dtype=stored, pin_memory=True).numpy())


def made_ahead(make: Callable[[Piece], T], pieces: Sequence[Piece]) -> Iterator[T]:
    """Yield what is made of each piece, in order; threads make the next ones meanwhile."""
    if len(pieces) == 1:  # as for a served query: no thread is worth its start
        yield make(pieces[0])
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(_READERS, "relope-read") as pool:
        try:
            for piece in pieces:
                waiting.append(pool.submit(make, piece))
                if len(waiting) > _READERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
