"""Write one Zarr v3 array of rows as one shard file, while the rows arrive.

The shard holds inner chunks of up to 256 rows, each packed by the codec and followed by its CRC-32C,
then the index of (offset, size) pairs and the index's own CRC-32C. The last chunk is padded with
zeros, as Zarr wants.
"""

import contextlib
import hashlib
import os
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from relope.provenance import write_json
from relope.store.format.codec import CRC_BYTES, crc32c, encode, inner_codecs
from relope.store.format.layout import META, SHARD
from relope.store.format.manifest import ArraySpec

CHUNK_ROWS = 256
_WRITE_BACK_BYTES = 32 << 20
_ALONGSIDE_BYTES = 64 << 10
"""Smaller blocks are hashed at once: handing them to a thread would cost more."""


@dataclass(frozen=True)
class Encoding:
    """How rows lie on disk; what they are does not depend on it.

    Attributes:
        codec: ``none`` or ``zstd``.
        bfloat16: call bfloat16 by its name in ``zarr.json``, for tools that know it, and not uint16.
    """

    codec: str = "none"
    bfloat16: bool = False


PLAIN = Encoding()


def array_document(
    spec: ArraySpec, n_rows: int, chunk_rows: int, n_chunks: int, encoding: Encoding = PLAIN
) -> dict[str, Any]:
    """Return the ``zarr.json`` of an array that is one shard."""
    named = encoding.bfloat16 and spec.logical == "bfloat16"
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "chunk_shape": [chunk_rows, spec.columns],
        "codecs": inner_codecs(encoding.codec, spec.stored),
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    }
    grid = {"chunk_shape": [n_chunks * chunk_rows, spec.columns]}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [n_rows, spec.columns],
        "data_type": spec.logical if named else spec.stored.name,
        "fill_value": 0.0 if named or spec.stored.kind == "f" else 0,
        "chunk_grid": {"name": "regular", "configuration": grid},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": dict(spec.attributes),
        "storage_transformers": [],
    }


class ShardWriter:
    """Append rows to one array; memory stays at one chunk however many rows come."""

    def __init__(
        self, folder: Path, spec: ArraySpec, encoding: Encoding = PLAIN, threads: Executor | None = None
    ) -> None:
        """Create the shard file of an array in a folder that does not exist yet.

        Args:
            folder: of the array.
            spec: which array.
            encoding: how chunks are packed.
            threads: where blocks are hashed while they are written.
        """
        self.n_rows = 0
        self._threads = threads
        self._folder, self._spec, self._encoding = folder, spec, encoding
        self._pending = np.zeros((CHUNK_ROWS, spec.columns), spec.stored)
        self._n_pending = 0
        self._index: list[tuple[int, int]] = []
        self._size = self._written_back = 0
        self._sha256 = hashlib.sha256()
        (folder / SHARD).parent.mkdir(parents=True)
        self._file = (folder / SHARD).open("xb", buffering=0)

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Append ``[k, columns]`` rows in the stored dtype."""
        self.n_rows += len(rows)
        while len(rows):
            if self._n_pending == 0 and len(rows) >= CHUNK_ROWS:
                self._write_chunk(rows[:CHUNK_ROWS])
                rows = rows[CHUNK_ROWS:]
                continue
            taken = rows[: CHUNK_ROWS - self._n_pending]
            self._pending[self._n_pending : self._n_pending + len(taken)] = taken
            self._n_pending += len(taken)
            rows = rows[len(taken) :]
            if self._n_pending == CHUNK_ROWS:
                self._write_chunk(self._pending)
                self._n_pending = 0

    def seal(self) -> str:
        """Write the last chunk, the index and ``zarr.json``; return the sha256 (hex) of the shard."""
        chunk_rows = CHUNK_ROWS if self._index else max(self._n_pending, 1)
        if self._n_pending or not self._index:
            self._pending[self._n_pending :] = 0
            self._write_chunk(self._pending[:chunk_rows])
        index = np.array(self._index, "<u8").tobytes()
        self._write(np.frombuffer(index + crc32c(index), np.uint8))
        os.fsync(self._file.fileno())
        self._file.close()
        document = array_document(self._spec, self.n_rows, chunk_rows, len(self._index), self._encoding)
        write_json(self._folder / META, document)
        return self._sha256.hexdigest()

    def abort(self) -> None:
        """Close the file, whatever it holds and whether or not the disk takes it."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _write_chunk(self, rows: npt.NDArray[Any]) -> None:
        block = encode(self._encoding.codec, rows)
        self._index.append((self._size, len(block) + CRC_BYTES))
        self._write(block)
        self._write(np.frombuffer(crc32c(block), np.uint8))
        if self._size - self._written_back >= _WRITE_BACK_BYTES:
            self._write_back()

    def _write(self, block: npt.NDArray[np.uint8]) -> None:
        if self._threads is not None and len(block) >= _ALONGSIDE_BYTES:
            hashed = self._threads.submit(self._sha256.update, block.data)
            try:
                self._write_all(block)
            finally:
                hashed.result()  # the block is the caller's again once this returns
        else:
            self._write_all(block)
            self._sha256.update(block.data)
        self._size += len(block)

    def _write_all(self, block: npt.NDArray[np.uint8]) -> None:
        done = 0
        while done < len(block):
            done += self._file.write(block[done:].data)

    def _write_back(self) -> None:
        # Linux starts writing these pages out now, so that the fsync in `seal` has little left to do.
        if hasattr(os, "posix_fadvise"):
            length = self._size - self._written_back
            os.posix_fadvise(self._file.fileno(), self._written_back, length, os.POSIX_FADV_DONTNEED)
        self._written_back = self._size
