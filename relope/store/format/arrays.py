"""Read one array of a part: straight from the mapped shard, or through zarr-python.

Every size that a file claims is held against the file's own size, and against what the samples
say, before anything of that size is allocated.
"""

import contextlib
import dataclasses
import itertools
import mmap
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from relope.errors import StoreError
from relope.store.format.codec import CODECS, CRC_BYTES, Blocks, Scratch, crc32c
from relope.store.format.foreign import ForeignArray
from relope.store.format.layout import META, REMAKE, SHARD, check_ratio, guard, part_folder, read_json
from relope.store.format.manifest import ArraySpec
from relope.store.format.shard import Encoding, array_document

_Bytes = npt.NDArray[np.uint8]


class ArrayReader(Protocol):
    """Rows of one array of one part."""

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        """Copy rows ``start .. start + len(out)`` into ``out`` ``[k, columns]``, C-contiguous."""

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy the given rows, in the given order, into ``out`` ``[len(rows), columns]``."""

    def release(self) -> None:
        """Let go of the open file; the next read opens it again."""


def open_array(
    store: Path, part: str, spec: ArraySpec, n_rows: int, *, verify: bool = True, scratch: Scratch | None = None
) -> ArrayReader:
    """Open an array without reading its rows.

    Args:
        store: the store's folder.
        part: part id.
        spec: which array, and what it must look like.
        n_rows: how many rows the part's samples say that it has.
        verify: check the CRC of a chunk when it is first touched.
        scratch: where chunks are unpacked; arrays that are read together share one.

    Raises:
        StoreError: a file is missing, truncated, or does not agree with the samples or the manifest.
    """
    folder = part_folder(store, part) / spec.name
    document = read_json(store, folder / META)
    where = f"{folder.relative_to(store)} in {store}"
    if not isinstance(document, dict) or document.get("shape") != [n_rows, spec.columns]:
        claimed = document.get("shape") if isinstance(document, dict) else document
        raise StoreError(f"{where} has shape {claimed!s:.80}, must be [{n_rows}, {spec.columns}] for its samples")
    allowed = {spec.stored.name, spec.logical}
    data_type = document.get("data_type")
    if not isinstance(data_type, str) or data_type not in allowed:
        raise StoreError(f"{where} has data type {data_type!s:.80}, must be {' or '.join(sorted(allowed))}")
    if chunking := own_chunking(document, spec, n_rows):
        return _MappedShard(store, folder, spec, chunking, verify, scratch or Scratch())
    return ForeignArray(store, folder, spec, n_rows)


def read_sample(array: ArrayReader, spec: ArraySpec, local: int, first_token: int, n_tokens: int) -> npt.NDArray[Any]:
    """Return the rows of one sample, ``[k, columns]`` in the stored dtype.

    Args:
        array: opened with ``spec``.
        spec: which array.
        local: the sample's row within its part.
        first_token: its first token row within the part.
        n_tokens: how many token rows it has.
    """
    rows = np.empty((n_tokens if spec.per_token else 1, spec.columns), spec.stored)
    array.read_into(first_token if spec.per_token else local, rows)
    return rows


@dataclasses.dataclass(frozen=True)
class Chunking:
    """How the rows of one of our own arrays are cut and packed."""

    rows: int
    n_chunks: int
    codec: str


def own_chunking(document: dict[str, Any], spec: ArraySpec, n_rows: int) -> Chunking | None:
    """Return how the rows are cut when the array is laid out as our writer does it, else None."""
    try:
        inner = document["codecs"][0]["configuration"]["chunk_shape"][0]
        outer = document["chunk_grid"]["configuration"]["chunk_shape"][0]
    except (KeyError, IndexError, TypeError):
        return None
    if type(inner) is not int or type(outer) is not int or inner < 1 or outer < n_rows or outer % inner:
        return None
    if document.get("storage_transformers"):
        return None
    for codec in CODECS:
        ours = array_document(spec, n_rows, inner, outer // inner, Encoding(codec))
        if all(document.get(key) == ours[key] for key in ("zarr_format", "chunk_grid", "chunk_key_encoding", "codecs")):
            return Chunking(inner, outer // inner, codec)
    return None


def part_codec(store: Path, part: str, specs: Mapping[str, ArraySpec]) -> str:
    """Return how the first array of a part is packed: ``none``, ``zstd``, or ``foreign`` when not by us.

    A part without arrays is ``none``.
    """
    if not specs:
        return "none"
    name, spec = next(iter(specs.items()))
    document = read_json(store, part_folder(store, part) / name / META)
    shape = document.get("shape") if isinstance(document, dict) else None
    n_rows = shape[0] if isinstance(shape, list) and shape and type(shape[0]) is int else 0
    chunking = own_chunking(document, spec, n_rows) if n_rows else None
    return chunking.codec if chunking else "foreign"


class _MappedShard:
    """The shard file of an array, mapped: a read is one copy, or one unpacking, per chunk that it touches."""

    def __init__(
        self, store: Path, folder: Path, spec: ArraySpec, chunking: Chunking, verify: bool, scratch: Scratch
    ) -> None:
        self._path = guard(store, folder / SHARD)
        self._where = f"{self._path.relative_to(store)} in {store}"
        self._shape = (chunking.rows, spec.columns)
        self._stored, self._chunking, self._scratch = spec.stored, chunking, scratch
        self._packed = chunking.codec != "none"
        self._chunk_bytes = chunking.rows * spec.columns * spec.stored.itemsize
        self._maps: tuple[_Bytes, npt.NDArray[Any]] | None = None
        self._spans = self._read_index(_map(self._path))
        self._unchecked = bytearray(b"\1" if verify else b"\0") * chunking.n_chunks

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        rows, done, end = self._shape[0], 0, len(out)
        mapped, plain = self._mapped()
        while done < end:
            number, first = divmod(start + done, rows)
            stop = min(rows, first + end - done)
            wanted = out[done : done + stop - first]
            if self._packed and stop - first == rows and self._scratch.key != (self._where, number):
                self._unpack(mapped, number, wanted)
            else:
                np.copyto(wanted, self._chunk(mapped, plain, number, first, stop)[first:stop])
            done += stop - first

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        mapped, plain = self._mapped()
        numbers, within = np.divmod(rows, self._shape[0])
        runs = [*np.flatnonzero(np.diff(numbers, prepend=-1)).tolist(), len(rows)]
        for start, stop in itertools.pairwise(runs):
            wanted = within[start:stop]
            chunk = self._chunk(mapped, plain, int(numbers[start]), int(wanted.min()), int(wanted.max()) + 1)
            np.take(chunk, wanted, axis=0, out=out[start:stop], mode="clip")

    def release(self) -> None:
        self._maps = None

    def _mapped(self) -> tuple[_Bytes, npt.NDArray[Any]]:
        """Return the file as bytes and, unless packed, as chunks ``[n, rows, columns]`` without their CRCs."""
        maps = self._maps
        if maps is None:
            mapped = _map(self._path)
            shape = (0 if self._packed else self._chunking.n_chunks, *self._shape)
            row_bytes = self._shape[1] * self._stored.itemsize
            strides = (self._chunk_bytes + CRC_BYTES, row_bytes, self._stored.itemsize)
            maps = self._maps = mapped, np.ndarray(shape, self._stored, mapped, strides=strides)
        return maps

    def _read_index(self, mapped: _Bytes) -> list[list[int]]:
        """Return (offset, size) of each chunk, all of which lie within the file."""
        n_chunks, stride = self._chunking.n_chunks, self._chunk_bytes + CRC_BYTES
        end = len(mapped) - 16 * n_chunks - CRC_BYTES
        if end < 0 or (not self._packed and end != n_chunks * stride):
            total = n_chunks * (stride + 16) + CRC_BYTES
            must = f"too few for its {n_chunks:,} chunks" if self._packed else f"must be {total:,} for its shape"
            raise self._damaged(f"{len(mapped):,} bytes, {must}")
        check_ratio(self._where, n_chunks * self._chunk_bytes, len(mapped))
        index = mapped[end:-CRC_BYTES]
        if crc32c(index) != mapped[-CRC_BYTES:].tobytes():
            raise self._damaged("the CRC of its index fails")
        pairs = np.frombuffer(index.tobytes(), "<u8").reshape(-1, 2)
        offsets, sizes = pairs[:, 0], pairs[:, 1]
        if self._packed:
            # Sizes first: an offset is only subtracted from what is known to be within the file.
            bad = (sizes > end) | (sizes < CRC_BYTES) | (offsets > end - np.minimum(sizes, end))
        else:
            bad = (sizes != stride) | (offsets != np.arange(n_chunks, dtype="<u8") * np.uint64(stride))
        if bad.any():
            raise self._damaged("its index points outside the file")
        return [list(pair) for pair in pairs.tolist()]

    def _chunk(self, mapped: _Bytes, plain: npt.NDArray[Any], number: int, first: int, stop: int) -> npt.NDArray[Any]:
        """Return a chunk whose rows ``first … stop - 1`` are good.

        It is a view of the file, or of memory that the next chunk overwrites.
        """
        if not self._packed:
            if self._unchecked[number]:
                self._payload(mapped, number)
            chunk: npt.NDArray[Any] = plain[number]
            return chunk
        with self._unpacking(number):
            key = (self._where, number)
            return self._scratch.rows(key, lambda: self._blocks(mapped, number), self._shape, self._stored, first, stop)

    def _unpack(self, mapped: _Bytes, number: int, out: npt.NDArray[Any]) -> None:
        with self._unpacking(number):
            self._blocks(mapped, number).unpack_all(out)

    def _blocks(self, mapped: _Bytes, number: int) -> Blocks:
        return Blocks(self._payload(mapped, number), self._stored, self._chunk_bytes)

    @contextlib.contextmanager
    def _unpacking(self, number: int) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except (RuntimeError, ValueError) as error:
            raise self._damaged(f"chunk {number}: {error}") from error

    def _payload(self, mapped: _Bytes, number: int) -> _Bytes:
        """Return the bytes of a chunk, their CRC checked when they are first touched."""
        offset, size = self._spans[number]
        payload = mapped[offset : offset + size - CRC_BYTES]
        if self._unchecked[number]:
            stored = mapped[offset + size - CRC_BYTES : offset + size]
            if crc32c(payload) != stored.tobytes():
                raise self._damaged(f"the CRC of chunk {number} fails")
            self._unchecked[number] = 0
        return payload

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"{self._where} is damaged: {what}", hint=REMAKE)


def _map(path: Path) -> _Bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            return np.empty(0, np.uint8)
        if sys.version_info >= (3, 13):  # the map needs no descriptor of its own
            return np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ, trackfd=False), np.uint8)
        return np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ), np.uint8)
    finally:
        os.close(descriptor)
