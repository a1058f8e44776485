"""What stores are shared through: one small interface for files of a store somewhere else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relope.errors import OutputError, StoreError
from relope.locations import Location

SMALL_BYTES = 256 << 20
"""Most that is read into memory at once: catalogs, tables, grades."""

_ATTEMPTS = 20

Sent = Callable[[int], None]
"""Told the bytes sent or received since the last call."""

CommitAll = Callable[[Mapping[str, Path], str, str | None, Sent], bool]
"""Writes files at one moment if one of them still is the version of a tag (None: if there is none)."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at a remote: its name below the store, its size, and when it was written (Unix seconds, 0 if unknown)."""

    name: str
    n_bytes: int
    modified: float


@dataclass(frozen=True)
class FileVersion:
    """A small file's bytes, the tag of the version that was read, and when it was written."""

    content: bytes
    tag: str
    modified: float = 0.0


class Remote(Protocol):
    """Files of one store somewhere else. Names are relative, with ``/``; every file appears whole or not at all.

    Attributes:
        location: the store's URI.
    """

    location: Location

    @property
    def commit_all(self) -> CommitAll | None:
        """What writes many files at one moment; None where each appears alone."""

    def files(self, folder: str) -> list[RemoteFile]:
        """Return every file below a folder, in the order of their names; ``""`` is the store itself."""

    def folders(self) -> list[str]:
        """Return the names of the folders right below the location."""

    def read(self, name: str, limit: int = SMALL_BYTES) -> FileVersion | None:
        """Return a small file, or None when there is none; a larger one than ``limit`` raises StoreError."""

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return the bytes ``start … stop - 1`` of a file, all of them."""

    def swap(self, name: str, content: bytes, tag: str | None) -> bool:
        """Write a small file if it still is the version ``tag`` (None: if there is none), else return False."""

    def upload(self, files: Mapping[str, Path], sent: Sent) -> None:
        """Write files, over what is there."""

    def delete(self, names: Sequence[str]) -> None:
        """Remove files."""


def rewrite(remote: Remote, name: str, change: Callable[[bytes | None], bytes | None]) -> bool:
    """Replace a small file by what a function makes of its newest version; start over when somebody else was faster.

    Args:
        remote: where the file is.
        name: of the file, which need not exist yet.
        change: given the content, or None where there is no file; None says that nothing is to be written.

    Returns:
        Whether something was written.

    Raises:
        OutputError: others were faster again and again.
    """
    for _ in range(_ATTEMPTS):
        version = remote.read(name)
        content = change(version.content if version else None)
        if content is None:
            return False
        if remote.swap(name, content, version.tag if version else None):
            return True
    raise OutputError(
        f"others wrote {name} at {remote.location.uri} {_ATTEMPTS} times in a row", hint="run the command again"
    )


def too_large(location: Location, name: str, n_bytes: int, limit: int) -> StoreError:
    """Build the error for a small file that is none."""
    return StoreError(f"{name} at {location.uri} has {n_bytes:,} bytes, more than the {limit:,} that are allowed")


def cut_short(location: Location, name: str, got: int, wanted: int) -> StoreError:
    """Build the error for a file that ends before it should."""
    return StoreError(f"{name} at {location.uri} is damaged: it gave {got:,} bytes where {wanted:,} were asked")
