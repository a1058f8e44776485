"""Arrays that another tool wrote, with other codecs or chunks: read by zarr-python.

Its decoders allocate what a chunk claims to unpack to. So only codecs whose claim can be read
beforehand are let through, and each claim is held against the chunk's shape when the array is opened.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from relope.errors import StoreError
from relope.store.format.layout import META, REMAKE, check_ratio, guard, read_json
from relope.store.format.manifest import ArraySpec

_ERRORS = (OSError, RuntimeError, ValueError, TypeError, LookupError)
_PACKERS = ("blosc", "zstd")
_EMPTY = (1 << 64) - 1


class ForeignArray:
    """An array that is read through zarr-python, whatever its chunks are."""

    def __init__(self, store: Path, folder: Path, spec: ArraySpec, n_rows: int) -> None:
        """Open the array after holding its claims against what is on disk.

        Raises:
            StoreError: it claims far more than it holds, has links in it, uses a codec that is not let
                through, or zarr cannot read it.
        """
        self._where = f"{folder.relative_to(store)} in {store}"
        files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
        size = sum(guard(store, path).stat().st_size for path in files)
        check_ratio(self._where, n_rows * spec.columns * spec.stored.itemsize, size)
        try:
            layout = _Layout(read_json(store, folder / META), spec.stored.itemsize)
            check_ratio(f"a chunk of {self._where}", layout.outer_bytes, size)
            for path in files:
                if path.name != META:
                    layout.check(path)
            import zarr

            self._array: Any = zarr.open_array(str(folder), mode="r", zarr_format=3)
        except StoreError:
            raise
        except _ERRORS as error:
            raise StoreError(f"{self._where} is not readable by zarr: {error}") from error

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        """Copy rows ``start .. start + len(out)``."""
        try:
            out[:] = self._array[start : start + len(out)]
        except _ERRORS as error:
            raise StoreError(f"{self._where} is damaged: {error}", hint=REMAKE) from error

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy the given rows, in the given order."""
        try:
            out[:] = self._array.oindex[rows]
        except _ERRORS as error:
            raise StoreError(f"{self._where} is damaged: {error}", hint=REMAKE) from error

    def release(self) -> None:
        """Do nothing: zarr-python opens files one read at a time."""


class _Layout:
    """How the chunks of an array lie in its files, as far as their claims can be checked."""

    def __init__(self, document: dict[str, Any], itemsize: int) -> None:
        codecs = document["codecs"]
        self.outer_bytes = self.chunk_bytes = _bytes(document["chunk_grid"]["configuration"]["chunk_shape"], itemsize)
        self.n_chunks, self.index_first = 0, False
        if codecs[0]["name"] == "sharding_indexed":
            sharding = codecs[0]["configuration"]
            self.chunk_bytes = _bytes(sharding["chunk_shape"], itemsize)
            self.n_chunks = self.outer_bytes // self.chunk_bytes
            self.index_first = sharding.get("index_location", "end") == "start"
            index = [codec["name"] for codec in sharding["index_codecs"]]
            if index not in (["bytes"], ["bytes", "crc32c"]) or len(codecs) > 1:
                raise ValueError(f"a shard index packed by {index} is not read")
            self.index_bytes = 16 * self.n_chunks + 4 * (len(index) - 1)
            codecs = sharding["codecs"]
        names = [codec["name"] for codec in codecs if codec["name"] not in ("bytes", "transpose")]
        self.packer = names.pop(0) if names and names[0] in _PACKERS else ""
        if names not in ([], ["crc32c"]):
            allowed = ", ".join(("bytes", "transpose", *_PACKERS, "crc32c", "sharding_indexed"))
            raise ValueError(f"codecs {[codec['name'] for codec in codecs]} are not read (at most {allowed}, in order)")

    def check(self, path: Path) -> None:
        """Check the claims of every chunk in a file.

        Raises:
            ValueError: a chunk would unpack to something else than its shape, or does not say to what.
        """
        if not self.packer or not path.stat().st_size:
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            for offset, size in self._spans(mapped):
                head = mapped[offset : offset + min(size, 32)]
                claimed = _blosc_claim(head, size) if self.packer == "blosc" else _zstd_claim(head)
                if claimed != self.chunk_bytes:
                    said = "does not say" if claimed < 0 else f"says {claimed:,}"
                    raise ValueError(f"a chunk of {path.name} must unpack to {self.chunk_bytes:,} bytes, it {said}")

    def _spans(self, mapped: mmap.mmap) -> Iterator[tuple[int, int]]:
        if not self.n_chunks:
            yield 0, len(mapped)
            return
        start = 0 if self.index_first else len(mapped) - self.index_bytes
        if start < 0 or self.index_bytes > len(mapped):
            raise ValueError(f"its index takes {self.index_bytes:,} bytes of {len(mapped):,}")
        table = np.frombuffer(mapped[start : start + 16 * self.n_chunks], "<u8").reshape(-1, 2)
        for offset, size in table.tolist():
            if (offset, size) != (_EMPTY, _EMPTY):
                if offset + size > len(mapped):
                    raise ValueError("its index points outside the file")
                yield offset, size


def _bytes(shape: Any, itemsize: int) -> int:
    if not all(type(length) is int and length > 0 for length in shape):
        raise ValueError(f"chunk shape {shape!s:.80} must be whole numbers above 0")
    total = itemsize
    for length in shape:
        total *= length
    return int(total)


def _blosc_claim(head: bytes, size: int) -> int:
    """Return the unpacked size in a Blosc header, -1 when the header claims more packed bytes than there are."""
    enough = len(head) >= 16 and int.from_bytes(head[12:16], "little") <= size
    return int.from_bytes(head[4:8], "little") if enough else -1


def _zstd_claim(head: bytes) -> int:
    """Return the content size of a Zstandard frame header (RFC 8878 §3.1.1), -1 when it has none."""
    if len(head) < 6 or head[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    flag, single = head[4] >> 6, bool(head[4] & 0x20)
    width = (1 if single else 0, 2, 4, 8)[flag]
    start = 5 + (0 if single else 1) + (0, 1, 2, 4)[head[4] & 3]
    if not width or len(head) < start + width:
        return -1
    return int.from_bytes(head[start : start + width], "little") + (256 if width == 2 else 0)
