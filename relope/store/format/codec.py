"""How the rows of a chunk lie on disk: as they are, or as Blosc(zstd); either with its CRC-32C behind.

``zstd`` is Blosc with zstd at level 1, byte shuffle and blocks of 1 MiB: on hidden states close to
what their entropy allows, while the library's own block size loses a tenth of it.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError

CODECS = ("none", "zstd")
CRC_BYTES = 4
_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 16
"""Of a Blosc chunk: version, codec version, flags, bytes of a value; then bytes unpacked, of a block and packed."""

_STORED_PLAIN, _NEVER_SPLIT = 2, 16
"""Flags of a chunk: its bytes are not packed; its blocks are not cut into byte planes that are packed one by one."""


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

    packed: list[bytes] = []

    def pack() -> None:
        packed.append(blosc.compress(rows, b"zstd", 1, blosc.SHUFFLE, _BLOCK_BYTES))

    if threading.current_thread() is threading.main_thread():
        # There numcodecs packs blocks on several threads and lays them down as they get ready: the same rows
        # would not always give the same bytes.
        thread = threading.Thread(target=pack, name="relope-pack")
        thread.start()
        thread.join()
    else:
        pack()
    return np.frombuffer(packed[0], np.uint8)


class Blocks:
    """A Blosc chunk taken apart, so that what is not wanted need not be unpacked.

    The header is followed by a table of where each block starts, and by the blocks. Each was packed
    for itself: rows of one sample lie in one or two of them.

    Attributes:
        size: unpacked bytes of a block; the last one may have fewer.
        n: number of blocks.
    """

    def __init__(self, chunk: npt.NDArray[np.uint8], stored: np.dtype[Any], n_bytes: int) -> None:
        """Read the header of a chunk and hold it against what the chunk is and must unpack to.

        Raises:
            ValueError: it does not agree; the decoder would believe it.
        """
        head = chunk[:_HEADER_BYTES]
        unpacked, size, packed = head[4:].view("<u4").tolist() if len(head) == _HEADER_BYTES else (0, 0, 0)
        if packed != len(chunk) or unpacked != n_bytes or not 0 < size <= n_bytes or head[3] != stored.itemsize:
            raise ValueError("its header does not agree with its shape")
        self.size, self.n = size, -(-n_bytes // size)
        self._chunk, self._n_bytes = chunk, n_bytes
        self._stored_plain = bool(head[2] & _STORED_PLAIN)
        table = chunk[_HEADER_BYTES : _HEADER_BYTES + 4 * self.n].tobytes()
        self._starts = [] if self._stored_plain else [*np.frombuffer(table, "<u4").tolist(), packed]
        ordered = all(start < stop for start, stop in itertools.pairwise(self._starts))
        if not self._stored_plain and not (len(self._starts) == self.n + 1 and ordered):
            raise ValueError("its blocks are not in order")

    def unpack_all(self, out: npt.NDArray[Any]) -> None:
        """Unpack the whole chunk into a C-contiguous array of its size.

        Raises:
            RuntimeError: the chunk is damaged.
        """
        from numcodecs import blosc

        blosc.decompress(self._chunk, out)

    def unpack(self, number: int, out: npt.NDArray[np.uint8]) -> None:
        """Unpack one block to where it belongs in ``out``, the bytes of the whole chunk.

        The decoder takes whole chunks only. So the block is handed to it as a chunk of its own that has
        no other block: the header of the chunk with other sizes, a table of one start, the packed bytes.

        Raises:
            RuntimeError: the block is damaged.
        """
        from numcodecs import blosc

        start, stop = number * self.size, min((number + 1) * self.size, self._n_bytes)
        if self._stored_plain:  # without a table, each block where it would lie unpacked
            out[start:stop] = self._chunk[_HEADER_BYTES + start : _HEADER_BYTES + stop]
            return
        block = self._chunk[self._starts[number] : self._starts[number + 1]]
        header, unpacked, first = self._chunk[:_HEADER_BYTES].copy(), stop - start, _HEADER_BYTES + 4
        if unpacked < self.size:
            # The encoder cuts each block into byte planes but never a last one that is shorter, and the decoder
            # knows that one by its length. As the only block of a chunk it is as long as all: the flag must say it.
            header[2] |= _NEVER_SPLIT
        header[4:] = np.array([unpacked, unpacked, first + len(block)], "<u4").view(np.uint8)
        table = np.array([first], "<u4").view(np.uint8)
        blosc.decompress(np.concatenate([header, table, block]), out[start:stop])


class Scratch(threading.local):
    """The chunk that a thread unpacked last: neighbouring samples share one, and its memory is reused."""

    def __init__(self) -> None:
        """Start empty, in each thread."""
        self.key: tuple[object, int] | None = None
        self._done: set[int] = set()
        self._memory = np.empty(0, np.uint8)
        self._blocks: Blocks | None = None

    def rows(
        self,
        key: tuple[object, int],
        blocks: Callable[[], Blocks],
        shape: tuple[int, int],
        stored: np.dtype[Any],
        first: int,
        stop: int,
    ) -> npt.NDArray[Any]:
        """Return a chunk's rows ``[rows, columns]``, of which ``first … stop - 1`` are unpacked.

        Args:
            key: which chunk.
            blocks: takes the chunk apart; called only when something is still to be unpacked.
            shape: of the chunk.
            stored: number type.
            first: first row wanted.
            stop: one behind the last row wanted.

        Raises:
            ValueError: the chunk is not what it must be.
            RuntimeError: it is damaged.
        """
        row_bytes = shape[1] * stored.itemsize
        size = shape[0] * row_bytes
        if len(self._memory) < size:
            self.key, self._memory = None, np.empty(size, np.uint8)
        if self.key != key:
            self.key, self._done, self._blocks = key, set(), None
        if self._blocks is None:
            self._blocks = blocks()
        step = self._blocks.size
        for number in range(first * row_bytes // step, -(-stop * row_bytes // step)):
            if number not in self._done:
                self._blocks.unpack(number, self._memory[:size])
                self._done.add(number)
        return self._memory[:size].view(stored).reshape(shape)
