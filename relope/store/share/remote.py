"""What stores are shared through: one small interface, and who implements it for a scheme."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relope.errors import NotFoundError, StoreError
from relope.places import Place

SMALL_BYTES = 256 << 20
"""Most that is read into memory at once: catalogs, tables, verdicts."""

Sent = Callable[[int], None]
"""Told the bytes sent or received since the last call."""


@dataclass(frozen=True)
class RemoteFile:
    """A file there: its name below the store, its size, and when it was written (Unix seconds, 0 if unknown)."""

    name: str
    n_bytes: int
    modified: float


@dataclass(frozen=True)
class Found:
    """A small file's bytes, and the tag of the version that was read."""

    content: bytes
    tag: str
    modified: float = 0.0


class Remote(Protocol):
    """Files of one store somewhere else. Names are relative, with ``/``; every file appears whole or not at all.

    Attributes:
        place: the store's URI.
        commits: whether `upload` makes all its files appear at one moment.
    """

    place: Place
    commits: bool

    def files(self, folder: str) -> list[RemoteFile]:
        """Return every file below a folder, in the order of their names; ``""`` is the store itself."""

    def folders(self) -> list[str]:
        """Return the names of the folders right below the place."""

    def read(self, name: str, limit: int = SMALL_BYTES) -> Found | None:
        """Return a small file, or None when there is none; a larger one than ``limit`` raises StoreError."""

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Return the bytes ``start … stop - 1`` of a file, all of them."""

    def swap(self, name: str, content: bytes, tag: str | None) -> bool:
        """Write a small file if it still is the version ``tag`` (None: if there is none), else return False."""

    def upload(self, files: Mapping[str, Path], sent: Sent) -> None:
        """Write files, over what is there."""

    def delete(self, names: Sequence[str]) -> None:
        """Remove files."""


def open_remote(place: Place) -> Remote:
    """Return the remote of a place; nothing is asked of it yet.

    Raises:
        NotFoundError: the scheme needs the extra ``cloud``, which is not installed.
    """
    if place.scheme == "file":
        from relope.store.share.remote_folder import FolderRemote

        return FolderRemote(place)
    if place.scheme == "hf":
        from relope.store.share.remote_hub import HubRemote

        return HubRemote(place)
    if importlib.util.find_spec("obstore") is None:
        raise NotFoundError(f"{place.uri} needs the extra `cloud`, which is not installed: pip install 'relope[cloud]'")
    from relope.store.share.remote_objects import ObjectRemote

    return ObjectRemote(place)


def too_large(place: Place, name: str, n_bytes: int, limit: int) -> StoreError:
    """Build the error for a small file that is none."""
    return StoreError(f"{name} at {place.uri} has {n_bytes:,} bytes, more than the {limit:,} that are allowed")


def cut_short(place: Place, name: str, got: int, wanted: int) -> StoreError:
    """Build the error for a file that ends before it should."""
    return StoreError(f"{name} at {place.uri} is damaged: it gave {got:,} bytes where {wanted:,} were asked")
