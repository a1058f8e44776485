"""Files that a user's data set is made of, read with suspicion: plain files only, and no more than so many bytes."""

import os
import stat
from pathlib import Path

from relope.errors import InvalidInputError

IMAGE_BYTES = 100 << 20
"""Encoded bytes of an image at most."""

LINE_BYTES = 100 << 20
"""Length of a line, or of a cell of CSV, at most: an image may stand in it as text."""

WHOLE_BYTES = 256 << 20
"""Bytes of a file at most that must be read whole before its first row is known."""


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a plain file; nothing else is read, and nothing is waited for.

    Args:
        path: of the file; links are followed.
        most: bytes that it may have.

    Raises:
        OSError: it is missing or must not be read.
        InvalidInputError: it is a folder, a pipe or a device, or larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would block
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise InvalidInputError(f"{path} is no plain file")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(most + 1) if status.st_size <= most else b""
    if status.st_size > most or len(content) > most:
        raise InvalidInputError(f"{path} has {max(status.st_size, len(content)):,} bytes, more than {most:,}")
    return content


def check_plain_file(path: Path, most: int | None = None) -> None:
    """Refuse a path that is there and no plain file, or a larger one.

    Raises:
        InvalidInputError: it is a pipe, a device or a folder, or has more bytes than it may have.
    """
    if path.exists() and not path.is_file():
        raise InvalidInputError(f"{path} is no plain file")
    if most is not None and path.is_file() and (size := path.stat().st_size) > most:
        raise InvalidInputError(
            f"{path} has {size:,} bytes, more than {most:,} that are read whole", hint="write it as JSON Lines (.jsonl)"
        )
