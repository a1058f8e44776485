"""Arrays that another tool wrote, with other codecs or chunks: read by zarr-python."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from relope.errors import StoreError
from relope.store.layout import guard
from relope.store.manifest import ArraySpec

MEND = "delete the part's folder and extract again: only that part is made anew"
_MAX_RATIO = 1024
_SMALL_BYTES = 64 << 20
_ERRORS = (OSError, RuntimeError, ValueError, TypeError, LookupError)


def check_ratio(where: str, claimed: int, size: int) -> None:
    """Refuse what would unpack to far more than it takes on disk, unless that is little all the same.

    Raises:
        StoreError: more than 1024 times as much, and over 64 MiB.
    """
    if claimed > max(_MAX_RATIO * size, _SMALL_BYTES):
        raise StoreError(f"{where} claims {claimed:,} bytes but has {size:,} on disk; it is not read")


class ForeignArray:
    """An array that is read through zarr-python, whatever its codecs are."""

    def __init__(self, store: Path, folder: Path, spec: ArraySpec, n_rows: int) -> None:
        """Open the array after holding its claims against what is on disk.

        Raises:
            StoreError: it claims far more than it holds, has links in it, or zarr cannot read it.
        """
        self._where = f"{folder.relative_to(store)} in {store}"
        files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
        size = sum(guard(store, path).stat().st_size for path in files)
        check_ratio(self._where, n_rows * spec.columns * spec.stored.itemsize, size)
        import zarr

        try:
            array = zarr.open_array(str(folder), mode="r")
            chunk_bytes = math.prod(array.shards or array.chunks) * spec.stored.itemsize
        except _ERRORS as error:
            raise StoreError(f"{self._where} is not readable by zarr: {error}") from error
        check_ratio(f"a chunk of {self._where}", chunk_bytes, size)
        self._array: Any = array

    def read_into(self, start: int, out: npt.NDArray[Any]) -> None:
        """Copy rows ``start .. start + len(out)``."""
        try:
            out[:] = self._array[start : start + len(out)]
        except _ERRORS as error:
            raise StoreError(f"{self._where} is damaged: {error}; {MEND}") from error

    def take(self, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
        """Copy the given rows, in the given order."""
        try:
            out[:] = self._array.oindex[rows]
        except _ERRORS as error:
            raise StoreError(f"{self._where} is damaged: {error}; {MEND}") from error

    def release(self) -> None:
        """Do nothing: zarr-python opens files one read at a time."""
