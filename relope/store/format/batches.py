"""Batches of tokens: which samples go together, and the memory that they are read into."""

import itertools
import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError
from relope.store.format.dtypes import to_float32

Piece = npt.NDArray[np.int64]
"""Row numbers of one batch."""

_KEPT_BUFFERS = 2


@dataclass(frozen=True)
class RaggedBatch:
    """Samples of different lengths, one after another.

    Attributes:
        rows: ``[B]`` row numbers.
        values: ``[ΣT, H]`` in the stored dtype; a view of a buffer that the next batch overwrites.
        offsets: ``[B + 1]``: sample ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
        dtype: logical dtype of ``values``: ``bfloat16``, whose bits are in ``uint16``, or ``float32``.
    """

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    dtype: str

    def float32(self) -> npt.NDArray[np.float32]:
        """Return ``[ΣT, H]`` values as float32; a copy for bfloat16."""
        return to_float32(self.values, self.dtype)


def offsets_of(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return ``[B + 1]`` where samples of these lengths start when laid one after another."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def cut(
    rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], size: int | None, max_tokens: int | None
) -> list[Piece]:
    """Return the rows of each batch: as many samples as fit, in the given order.

    Args:
        rows: ``[N]`` row numbers.
        lengths: ``[N]`` tokens of each.
        size: most samples in a batch.
        max_tokens: most tokens in a batch; a longer sample stands alone.

    Raises:
        InvalidInputError: neither limit is given, or one is below 1.
    """
    if size is None and max_tokens is None:
        raise InvalidInputError("batches need a limit: size (most samples) or max_tokens")
    if min(size or 1, 1 if size is None else size, 1 if max_tokens is None else max_tokens) < 1:
        raise InvalidInputError(f"size {size} and max_tokens {max_tokens} must be at least 1")
    most, room = size or sys.maxsize, max_tokens or sys.maxsize
    cuts, total = [0], 0
    for index, length in enumerate(lengths.tolist()):
        n = index - cuts[-1]
        if n and (n == most or total + length > room):
            cuts.append(index)
            total = 0
        total += length
    return [rows[start:stop] for start, stop in itertools.pairwise([*cuts, len(rows)])] if len(rows) else []


def _references(items: Sequence[object], index: int) -> int:
    return sys.getrefcount(items[index])


_UNUSED = _references([object()], 0)
"""References to what a list alone holds: no batch, slice or tensor views it."""


class Buffers:
    """Memory for batches, lent again once nothing views it any more.

    Fresh memory costs several times as much as the copy into it, so what an epoch has used the next
    one uses again; an array that somebody still holds is never written to.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._kept: list[npt.NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, int], stored: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return ``shape`` uninitialised values, at the start of a buffer that nobody else has."""
        size = math.prod(shape) * stored.itemsize
        with self._lock:
            for index in range(len(self._kept)):
                if len(self._kept[index]) >= size and _references(self._kept, index) == _UNUSED:
                    return self._kept[index][:size].view(stored).reshape(shape)
            buffer = np.empty(size, np.uint8)
            self._kept = sorted([*self._kept, buffer], key=len)[-_KEPT_BUFFERS:]
        return buffer.view(stored).reshape(shape)

    def clear(self) -> None:
        """Forget every buffer."""
        with self._lock:
            self._kept.clear()


def check_out(out: npt.NDArray[Any], n_rows: int, columns: int, stored: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the caller's buffer after making sure that every batch fits into it.

    Raises:
        InvalidInputError: it is too small, of another type, or not contiguous.
    """
    fits = out.ndim == 2 and out.shape[1] == columns and out.shape[0] >= n_rows
    if not fits or out.dtype != stored or not out.flags.c_contiguous or not out.flags.writeable:
        raise InvalidInputError(
            f"out is {out.dtype} {out.shape}, must be a writable, C-contiguous {stored} array of at least "
            f"[{n_rows}, {columns}], the largest batch"
        )
    return out
