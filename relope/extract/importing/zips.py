"""Zip files of other tools, unpacked in memory with a bound: a small file may hold a bomb."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relope.errors import InvalidInputError
from relope.extract.data.bounded import WHOLE_BYTES, check_plain_file

ENTRY_BYTES = 128 << 20
"""Bytes of one unpacked entry at most."""

TOTAL_BYTES = 4 << 30
"""Bytes of all unpacked entries at most."""

ENTRIES = 1_000_000
_ZIP_BYTES = 16 * WHOLE_BYTES


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
        with archive.open(name) as entry:
            content = entry.read(ENTRY_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InvalidInputError(f"{name} in {where} is damaged: {error}") from error
    except (NotImplementedError, RuntimeError) as error:
        raise InvalidInputError(f"{name} in {where} cannot be unpacked: {error}") from error
    if len(content) > ENTRY_BYTES:
        raise _bomb(where, f"{name} unpacks to more than {ENTRY_BYTES:,} bytes")
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
