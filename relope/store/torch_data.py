"""A store as a PyTorch data set, for people with their own training loops.

::

    data = open_store("runs/aokvqa.zarr").to_torch(layer=23, max_tokens=32_768, seed=0)
    for epoch in range(3):
        data.set_epoch(epoch)
        for batch in DataLoader(data, batch_size=None, num_workers=2):
            loss = train(batch["values"], batch["offsets"], batch["rows"])

Imports torch; nothing else in ``relope.store`` does.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import IterableDataset, get_worker_info

from relope.errors import InvalidInputError
from relope.store.format.batches import Piece, RaggedBatch
from relope.store.format.index import Rows


def as_torch(values: npt.NDArray[Any], dtype: str) -> torch.Tensor:
    """Return stored values as a tensor of their logical type that shares their memory.

    Args:
        values: of a batch, or of `RowReader.read`.
        dtype: logical dtype, ``bfloat16`` or ``float32``.
    """
    tensor = torch.from_numpy(values)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


class TokenReader(Protocol):
    """What a data set needs of an opened store, or of several joined: see `RowReader`."""

    def plan(
        self,
        layer: int,
        rows: Rows = None,
        *,
        size: int | None = None,
        max_tokens: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> list[Piece]:
        """Return the row numbers of each batch."""

    def read(self, layer: int, rows: Rows = None) -> RaggedBatch:
        """Return every token of samples, in memory of its own."""


class TokenBatches(IterableDataset[dict[str, torch.Tensor]]):
    """Ragged batches of every token of some samples; made by `RowReader.to_torch`, where the arguments are explained.

    Each batch is in memory of its own: it can be kept, pinned or sent on. Workers share the batches out
    among them. A forked one goes on with its parent's opened store: the samples are read already, and
    polars, whose threads a fork does not copy, would wait for them for ever. A spawned one opens it anew.
    """

    def __init__(
        self,
        reader: TokenReader,
        layer: int,
        rows: Rows = None,
        *,
        size: int | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Plan the batches.

        Raises:
            NotFoundError: the store has no such layer, or only its last tokens.
            InvalidInputError: a value that is not allowed.
        """
        self._reader, self._layer, self._size, self._max_tokens = reader, layer, size, max_tokens
        self._rows = None if rows is None else np.asarray(rows)
        self._seed, self._shard = seed, shard
        if not 0 <= shard[0] < shard[1]:
            raise InvalidInputError(f"shard {shard} must be (i, n) with 0 <= i < n")
        # In shared memory, so that workers that live on from epoch to epoch see it too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._plan()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, as with PyTorch's ``DistributedSampler``: each has its own order."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield this worker's batches of this shard."""
        pieces = self._plan()
        if (worker := get_worker_info()) is not None:
            pieces = pieces[worker.id :: worker.num_workers]
        for piece in pieces:
            batch = self._reader.read(self._layer, piece)
            yield {
                "rows": torch.from_numpy(batch.rows.copy()),
                "values": as_torch(batch.values, batch.dtype),
                "offsets": torch.from_numpy(batch.offsets),
            }

    def __len__(self) -> int:
        """Return the number of batches of this shard in the epoch that comes next."""
        return len(self._plan())

    def _plan(self) -> list[Piece]:
        """Return the rows of each batch of this shard in the epoch that comes next."""
        rng = None if self._seed is None else np.random.default_rng([self._seed, int(self._epoch)])
        pieces = self._reader.plan(self._layer, self._rows, size=self._size, max_tokens=self._max_tokens, rng=rng)
        return pieces[self._shard[0] :: self._shard[1]]
