"""Files that carry their own digest: a flipped bit anywhere in one is found by whoever reads it.

A JSON object has one more key, ``sha256``: the digest of the others. A Parquet table has it in its metadata: the sha256
of the file's bytes with 64 zeros in its place. One file is whole or not there; a digest beside it would not always be
of the version that one sees.
"""

import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relope.errors import InvalidInputError, NotFoundError, StoreError
from relope.provenance import canonical, digest, frame_bytes, pretty, write_bytes

if TYPE_CHECKING:
    import polars as pl

SEAL = "sha256"
_BLANK = b"0" * 64
_MARK = SEAL.encode() + b"\x18\x40"
"""How the footer of a Parquet file (Thrift, compact) spells the key, before a text of 64 bytes."""

_SEALED = re.compile(_MARK + rb"([0-9a-f]{64})")
SMALL_BYTES = 256 << 20
"""Most that is read into memory of a file that somebody else may have made."""

_MAX_RATIO = 1024
_LITTLE_BYTES = 64 << 20
_CELL_BYTES = 16
"""What a cell takes in memory at least, to hold the claimed number of rows against the file's size."""


def read_plain(path: Path, limit: int = SMALL_BYTES) -> bytes:
    """Return the bytes of a regular file: a pipe or a device would be waited for, or never end.

    Raises:
        NotFoundError: nothing is there.
        InvalidInputError: it is no regular file, is larger than ``limit`` bytes, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInputError(f"{path} is no plain file")
        if status.st_size > limit:
            raise InvalidInputError(f"{path} has {status.st_size:,} bytes, more than the {limit:,} that are read")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(status.st_size)  # not `limit`: memory for all of that would be taken first
    finally:
        os.close(descriptor)


def sealed_json(value: Mapping[str, Any]) -> bytes:
    """Return a JSON object with its digest, as our files spell it."""
    plain = json.loads(canonical(value))  # as it will be read: tuples are lists, keys are text
    return pretty({**plain, SEAL: digest(plain)})


def sealed_frame(frame: "pl.DataFrame", metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a table as the bytes of a Parquet file that holds its own digest."""
    content = frame_bytes(frame, {**(metadata or {}), SEAL: _BLANK.decode()})
    start = content.rindex(_MARK + _BLANK) + len(_MARK)
    return content[:start] + hashlib.sha256(content).hexdigest().encode() + content[start + len(_BLANK) :]


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its digest atomically."""
    write_bytes(path, sealed_json(value))


def write_sealed_frame(path: Path, frame: "pl.DataFrame", metadata: Mapping[str, str] | None = None) -> None:
    """Write a table with its digest atomically."""
    write_bytes(path, sealed_frame(frame, metadata))


def opened_json(content: bytes, where: str) -> tuple[dict[str, Any], bool]:
    """Return the object that bytes hold, without its digest, and whether it had one.

    Args:
        content: of a file; one without a digest is of an older version.
        where: how a message names it.

    Raises:
        StoreError: it is no JSON object, or not the one that was written.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: not JSON ({error})") from error
    if not isinstance(value, dict):
        raise StoreError(f"{where} is damaged: it must hold an object")
    if not isinstance(value.get(SEAL), str):
        return value, False
    seal = value.pop(SEAL)
    if digest(value) != seal or sealed_json(value) != content:
        raise StoreError(f"{where} is damaged: it does not agree with its digest")
    return value, True


def check_frame(content: bytes, where: str, hint: str = "") -> bool:
    """Return whether a Parquet file holds a digest.

    Raises:
        StoreError: it holds another one than its own.
    """
    digests = list(_SEALED.finditer(content))
    if not digests:
        return False
    start, stop = digests[-1].span(1)
    if hashlib.sha256(content[:start] + _BLANK + content[stop:]).hexdigest().encode() != digests[-1][1]:
        raise StoreError(f"{where} is damaged: it does not agree with its digest", hint=hint)
    return True


def opened_frame(content: bytes, where: str, hint: str = "") -> "pl.DataFrame":
    """Return the table that the bytes of a Parquet file hold, held against its digest where it has one.

    Raises:
        StoreError: it is damaged, is no Parquet, or claims far more rows than it can hold.
    """
    import polars as pl

    check_frame(content, where, hint)
    check_rows(content, where, hint)
    try:
        return pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise StoreError(f"{where} is damaged: {first_line(error)}", hint=hint) from error


def check_rows(source: bytes | Path, where: str, hint: str = "") -> None:
    """Refuse a Parquet file that claims far more rows than it can hold, before memory is taken for them.

    Raises:
        StoreError: it does, or its footer cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    try:
        footer = pq.read_metadata(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise StoreError(f"{where} is damaged: {first_line(error)}", hint=hint) from error
    claimed = footer.num_rows * max(footer.num_columns, 1) * _CELL_BYTES
    if footer.num_rows < 0 or claimed > max(_MAX_RATIO * size, _LITTLE_BYTES):
        raise StoreError(f"{where} claims {footer.num_rows:,} rows in {size:,} bytes; it is not read")


def first_line(error: BaseException) -> str:
    """Return the first line of what another library says, at most 200 letters of it."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
