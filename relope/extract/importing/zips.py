"""Zip files of other tools, unpacked in memory with a bound: a small file may hold a bomb."""

import copy
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from relope.errors import InvalidInputError
from relope.extract.data.bounded import WHOLE_BYTES, check_plain_file

ENTRY_BYTES = 128 << 20
"""Bytes of one unpacked entry at most."""

TOTAL_BYTES = 4 << 30
"""Bytes of all unpacked entries at most."""

ENTRIES = 1_000_000
_ZIP_BYTES = 16 * WHOLE_BYTES

_ZSTANDARD = 93
"""How newer tools pack entries (APPNOTE.TXT 4.4.5); `zipfile` unpacks it from Python 3.14 on only."""


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file whose entries are within bounds, by what its directory says.

    Raises:
        InvalidInputError: it is none, is cut off, or holds more than it may.
    """
    check_plain_file(path, _ZIP_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            _check(path, archive)
            yield archive
    except zipfile.BadZipFile as error:
        raise InvalidInputError(f"{path} is no whole zip file: {error}") from error
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}") from error


def check_zip(path: Path) -> None:
    """Make sure that a file is a zip file within bounds; raise as `opened_zip`."""
    with opened_zip(path):
        pass


def entry_bytes(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    """Return the content of an entry; no more than its bound is unpacked, whatever the directory says.

    Raises:
        InvalidInputError: it is damaged, larger, encrypted, or packed in a way that is not read here.
    """
    try:
        content = _unpacked(archive, archive.getinfo(name))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InvalidInputError(f"{name} in {where} is damaged: {error}") from error
    except (NotImplementedError, RuntimeError) as error:
        raise InvalidInputError(f"{name} in {where} cannot be unpacked: {error}") from error
    if len(content) > ENTRY_BYTES:
        raise _bomb(where, f"{name} unpacks to more than {ENTRY_BYTES:,} bytes")
    return content


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.compress_type != _ZSTANDARD:
        with archive.open(entry) as file:
            return file.read(ENTRY_BYTES + 1)
    packed = copy.copy(entry)
    packed.compress_type, packed.file_size = zipfile.ZIP_STORED, entry.compress_size
    del packed.CRC  # of what is unpacked; zipfile would hold the packed bytes against it
    with archive.open(packed) as file:
        try:
            content: bytes = pa.CompressedInputStream(file, "zstd").read(ENTRY_BYTES + 1)
        except OSError as error:  # of Arrow: the frame is no whole one
            raise zipfile.BadZipFile(str(error).splitlines()[0]) from error
    if len(content) <= ENTRY_BYTES and zlib.crc32(content) != entry.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {entry.filename!r}")
    return content


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    if len(entries) > ENTRIES:
        raise _bomb(path.name, f"it has {len(entries):,} entries, more than {ENTRIES:,}")
    large = next((entry for entry in entries if entry.file_size > ENTRY_BYTES), None)
    if large is not None:
        raise _bomb(path.name, f"{large.filename} unpacks to {large.file_size:,} bytes, more than {ENTRY_BYTES:,}")
    if (total := sum(entry.file_size for entry in entries)) > TOTAL_BYTES:
        raise _bomb(path.name, f"its entries unpack to {total:,} bytes, more than {TOTAL_BYTES:,}")


def _bomb(where: str, what: str) -> InvalidInputError:
    return InvalidInputError(f"{where} is not unpacked: {what}")
