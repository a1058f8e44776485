"""How the rows of a chunk lie on disk: as they are, or as Blosc(zstd); either with its CRC-32C behind.

``zstd`` is Blosc with zstd at level 1, byte shuffle and blocks of 1 MiB: on hidden states close to
what their entropy allows, while the library's own block size loses a tenth of it.
"""

import threading
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError

CODECS = ("none", "zstd")
CRC_BYTES = 4
_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 16


def crc32c(block: Any) -> bytes:
    """Return the four little-endian bytes of the CRC-32C of a C-contiguous array or bytes."""
    return int(google_crc32c.value(block)).to_bytes(CRC_BYTES, "little")


def check_codec(codec: str) -> None:
    """Refuse a codec that we do not write.

    Raises:
        InvalidInputError: it is neither ``none`` nor ``zstd``.
    """
    if codec not in CODECS:
        raise InvalidInputError(f"codec {codec!r} is not allowed ({' or '.join(CODECS)})")


def inner_codecs(codec: str, stored: np.dtype[Any]) -> list[dict[str, Any]]:
    """Return what an array's ``zarr.json`` says of the chunks within its shard."""
    blosc = {
        "typesize": stored.itemsize,
        "cname": "zstd",
        "clevel": 1,
        "shuffle": "shuffle",
        "blocksize": _BLOCK_BYTES,
    }
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    packed = [{"name": "blosc", "configuration": blosc}] if codec == "zstd" else []
    return [little, *packed, {"name": "crc32c"}]


def encode(codec: str, rows: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the bytes of a chunk, without its CRC; a view of ``rows`` when nothing is packed."""
    rows = np.ascontiguousarray(rows)
    if codec == "none":
        return rows.view(np.uint8).reshape(-1)
    from numcodecs import blosc

    return np.frombuffer(blosc.compress(rows, b"zstd", 1, blosc.SHUFFLE, _BLOCK_BYTES), np.uint8)


def packed_bytes(chunk: npt.NDArray[np.uint8], stored: np.dtype[Any]) -> int:
    """Return how many bytes a Blosc chunk unpacks to, or -1 when its header is not one of ours.

    The decoder believes the header, so the header is held against the chunk's real length first.
    """
    if len(chunk) < _HEADER_BYTES or chunk[3] != stored.itemsize:
        return -1
    unpacked, block, packed = chunk[4:_HEADER_BYTES].view("<u4").tolist()
    return int(unpacked) if packed == len(chunk) and 0 < block <= max(unpacked, 1) else -1


def decode(chunk: npt.NDArray[np.uint8], out: npt.NDArray[Any]) -> None:
    """Unpack a Blosc chunk whose header was checked into a C-contiguous array of its size.

    Raises:
        RuntimeError: the chunk is damaged.
    """
    from numcodecs import blosc

    blosc.decompress(chunk, out)


class Scratch(threading.local):
    """The chunk that a thread unpacked last: neighbouring samples share one, and its memory is reused."""

    def __init__(self) -> None:
        """Start empty, in each thread."""
        self.key: tuple[object, int] | None = None
        self._memory = np.empty(0, np.uint8)

    def rows(self, shape: tuple[int, int], stored: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return the memory as rows; what it held is what it holds when the shape is the same."""
        size = shape[0] * shape[1] * stored.itemsize
        if len(self._memory) < size:
            self.key, self._memory = None, np.empty(size, np.uint8)
        return self._memory[:size].view(stored).reshape(shape)
