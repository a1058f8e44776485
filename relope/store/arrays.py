"""Read one array of a part: straight from the mapped shard, or through zarr-python.

Every size that a file claims is held against the file's own size, and against what the samples
say, before anything of that size is allocated.
"""

import dataclasses
import math
import mmap
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from relope.errors import StoreError
from relope.store.layout import META, SHARD, guard, part_folder, read_json
from relope.store.manifest import ArraySpec
from relope.store.shard import array_document, crc32c

_MAX_RATIO = 1024
"""Refuse arrays that claim to unpack to more than this times the bytes on disk."""


class ArrayReader(Protocol):
    """Rows of one array of one part."""

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        """Copy rows ``start .. start + len(out)`` into ``out`` ``[k, columns]``."""

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy the given rows, in the given order, into ``out`` ``[len(rows), columns]``."""


def open_array(store: Path, part: str, spec: ArraySpec, n_rows: int, *, verify: bool = True) -> ArrayReader:
    """Open an array without reading its rows.

    Args:
        store: the store's folder.
        part: part id.
        spec: which array, and what it must look like.
        n_rows: how many rows the part's samples say that it has.
        verify: check the CRC of a chunk when it is first touched.

    Raises:
        StoreError: a file is missing, truncated, or does not agree with the samples or the manifest.
    """
    folder = part_folder(store, part) / spec.name
    document = read_json(store, folder / META)
    where = f"{folder.relative_to(store)} in {store}"
    if not isinstance(document, dict) or document.get("shape") != [n_rows, spec.columns]:
        claimed = document.get("shape") if isinstance(document, dict) else document
        raise StoreError(f"{where} has shape {claimed!s:.80}, must be [{n_rows}, {spec.columns}] for its samples")
    if document.get("data_type") != spec.stored.name:
        raise StoreError(f"{where} has data type {document.get('data_type')!s:.80}, must be {spec.stored}")
    if chunking := _own_chunking(document, spec, n_rows):
        return _MappedShard(store, folder, spec, chunking, verify)
    return _ZarrArray(store, folder, spec, n_rows)


@dataclasses.dataclass(frozen=True)
class _Chunking:
    rows: int
    n_chunks: int


def _own_chunking(document: dict[str, Any], spec: ArraySpec, n_rows: int) -> _Chunking | None:
    """Return how the rows are cut when the array is laid out as our writer does it, else None."""
    try:
        inner = document["codecs"][0]["configuration"]["chunk_shape"][0]
        outer = document["chunk_grid"]["configuration"]["chunk_shape"][0]
    except (KeyError, IndexError, TypeError):
        return None
    if type(inner) is not int or type(outer) is not int or inner < 1 or outer < n_rows or outer % inner:
        return None
    ours = array_document(spec, n_rows, inner, outer // inner)
    same = all(document.get(key) == ours[key] for key in ("zarr_format", "chunk_grid", "chunk_key_encoding", "codecs"))
    return _Chunking(inner, outer // inner) if same and not document.get("storage_transformers") else None


class _MappedShard:
    """The shard file of an array, mapped: a read is one copy per chunk that it touches."""

    def __init__(self, store: Path, folder: Path, spec: ArraySpec, chunking: _Chunking, verify: bool) -> None:
        path = guard(store, folder / SHARD)
        self._where = f"{path.relative_to(store)} in {store}"
        self._shape = (chunking.rows, spec.columns)
        self._stored = spec.stored
        self._chunk_bytes = chunking.rows * spec.columns * spec.stored.itemsize
        index_bytes = 16 * chunking.n_chunks
        expected = chunking.n_chunks * (self._chunk_bytes + 4) + index_bytes + 4
        self._map = _map(path, expected, self._where)
        index = self._map[-index_bytes - 4 : -4]
        if crc32c(index) != self._map[-4:]:
            raise StoreError(f"{self._where} is damaged: the CRC of its index fails; {_MEND}")
        pairs = np.frombuffer(index, "<u8").reshape(-1, 2)
        last = expected - index_bytes - 4 - self._chunk_bytes - 4
        if (pairs[:, 1] != self._chunk_bytes + 4).any() or (pairs[:, 0] > last).any():
            raise StoreError(f"{self._where} is damaged: its index points outside the file; {_MEND}")
        self._offsets: list[int] = pairs[:, 0].tolist()
        self._unchecked = bytearray(b"\1" if verify else b"\0") * chunking.n_chunks

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        done = 0
        while done < len(out):
            number, first = divmod(start + done, self._shape[0])
            count = min(self._shape[0] - first, len(out) - done)
            np.copyto(out[done : done + count], self._chunk(number)[first : first + count])
            done += count

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        numbers, within = np.divmod(rows, self._shape[0])
        for number in np.unique(numbers).tolist():
            here = numbers == number
            out[here] = self._chunk(number)[within[here]]

    def _chunk(self, number: int) -> npt.NDArray[Any]:
        offset = self._offsets[number]
        if self._unchecked[number]:
            end = offset + self._chunk_bytes
            if crc32c(self._map[offset:end]) != self._map[end : end + 4]:
                raise StoreError(f"{self._where} is damaged: the CRC of chunk {number} fails; {_MEND}")
            self._unchecked[number] = 0
        return np.ndarray(self._shape, self._stored, buffer=self._map, offset=offset)


_MEND = "delete the part's folder and extract again: only that part is made anew"


def _map(path: Path, expected: int, where: str) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        if size != expected:
            raise StoreError(f"{where} is damaged: {size:,} bytes, must be {expected:,} for its shape; {_MEND}")
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


class _ZarrArray:
    """An array that another tool wrote, with other codecs or chunks: read by zarr-python."""

    def __init__(self, store: Path, folder: Path, spec: ArraySpec, n_rows: int) -> None:
        self._where = f"{folder.relative_to(store)} in {store}"
        files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
        size = sum(guard(store, path).stat().st_size for path in files)
        claimed = n_rows * spec.columns * spec.stored.itemsize
        if claimed > _MAX_RATIO * size:
            raise StoreError(f"{self._where} claims {claimed:,} bytes but has {size:,} on disk; it is not read")
        import zarr

        try:
            array = zarr.open_array(str(folder), mode="r")
            chunk_bytes = math.prod(array.shards or array.chunks) * spec.stored.itemsize
        except _ZARR_ERRORS as error:
            raise StoreError(f"{self._where} is not readable by zarr: {error}") from error
        if chunk_bytes > max(_MAX_RATIO * size, 1 << 20):
            raise StoreError(f"{self._where} claims chunks far above the {size:,} bytes on disk; it is not read")
        self._array: Any = array

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        try:
            out[:] = self._array[start : start + len(out)]
        except _ZARR_ERRORS as error:
            raise StoreError(f"{self._where} is damaged: {error}; {_MEND}") from error

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        try:
            out[:] = self._array.oindex[rows]
        except _ZARR_ERRORS as error:
            raise StoreError(f"{self._where} is damaged: {error}; {_MEND}") from error


_ZARR_ERRORS = (OSError, RuntimeError, ValueError, TypeError, LookupError)
