"""A store as a PyTorch data set, for people with their own training loops.

::

    data = TokenBatches("runs/aokvqa.zarr", layer=23, max_tokens=32_768, seed=0)
    for epoch in range(3):
        data.set_epoch(epoch)
        for batch in DataLoader(data, batch_size=None, num_workers=2):
            loss = train(batch["values"], batch["offsets"], batch["rows"])

Imports torch; nothing else in ``relope.store`` does.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import IterableDataset, get_worker_info

from relope.errors import InvalidInputError
from relope.store.reader import ActivationStore
from relope.store.rows import RowReader
from relope.store.union import StoreUnion


def as_torch(values: npt.NDArray[Any], dtype: str) -> torch.Tensor:
    """Return stored values as a tensor of their logical type that shares their memory.

    Args:
        values: of a batch, or of `ActivationStore.read`.
        dtype: logical dtype, ``bfloat16`` or ``float32``.
    """
    tensor = torch.from_numpy(values)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


class TokenBatches(IterableDataset[dict[str, torch.Tensor]]):
    """Ragged batches of every token of some samples.

    Each batch is ``{"rows": [B], "values": [ΣT, H], "offsets": [B + 1]}``, in memory of its own: it can
    be kept, pinned or sent on. Give it to a ``DataLoader`` with ``batch_size=None``; workers share the
    batches out among them. Of several stores, rows are those of
    `StoreUnion`.
    """

    def __init__(
        self,
        stores: Path | str | Sequence[Path | str],
        layer: int,
        rows: Sequence[int] | npt.NDArray[np.int64] | None = None,
        *,
        size: int | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        shard: tuple[int, int] = (0, 1),
        verify: bool = True,
    ) -> None:
        """Plan the batches.

        Args:
            stores: one store, or several that go together.
            layer: which hidden states.
            rows: which samples; all when None.
            size: most samples in a batch.
            max_tokens: most tokens in a batch.
            seed: shuffles the rows anew each epoch; None keeps their order.
            shard: ``(i, n)`` takes every n-th batch from the i-th on, as ``(rank, world size)`` would.
            verify: check the CRC of a chunk when it is first touched.

        Raises:
            NotFoundError: a store or the layer is not there.
            InvalidInputError: a value that is not allowed.
        """
        self._paths = [Path(stores)] if isinstance(stores, str | Path) else [Path(path) for path in stores]
        self._layer, self._size, self._max_tokens = layer, size, max_tokens
        self._rows = None if rows is None else np.asarray(rows)
        self._seed, self._shard, self._verify = seed, shard, verify
        if not 0 <= shard[0] < shard[1]:
            raise InvalidInputError(f"shard {shard} must be (i, n) with 0 <= i < n")
        # In shared memory, so that workers that live on from epoch to epoch see it too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._reader: RowReader | None = None
        self._plan()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, as with PyTorch's ``DistributedSampler``: each has its own order."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Yield this worker's batches of this shard."""
        pieces = self._plan()[self._shard[0] :: self._shard[1]]
        if (worker := get_worker_info()) is not None:
            pieces = pieces[worker.id :: worker.num_workers]
        reader = self._open()
        for piece in pieces:
            batch = reader.read(self._layer, piece)
            yield {
                "rows": torch.from_numpy(batch.rows.copy()),
                "values": as_torch(batch.values, batch.dtype),
                "offsets": torch.from_numpy(batch.offsets),
            }

    def __len__(self) -> int:
        """Return the number of batches of this shard in the epoch that comes next."""
        return len(self._plan()[self._shard[0] :: self._shard[1]])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the opened store behind: a spawned worker opens it anew."""
        return {**self.__dict__, "_reader": None}

    def _plan(self) -> list[npt.NDArray[np.int64]]:
        rng = None if self._seed is None else np.random.default_rng([self._seed, int(self._epoch)])
        return self._open().plan(self._layer, self._rows, size=self._size, max_tokens=self._max_tokens, rng=rng)

    def _open(self) -> RowReader:
        """Return the opened stores.

        A forked worker goes on with its parent's: the samples are read already, and polars, whose threads
        a fork does not copy, would wait for them for ever.
        """
        if self._reader is None:
            opened = [ActivationStore.open(path, verify=self._verify) for path in self._paths]
            self._reader = opened[0] if len(opened) == 1 else StoreUnion(opened)
        return self._reader
