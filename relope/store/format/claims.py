"""Temporary part folders: taken by one process, swept once their owner is gone.

The owner holds ``flock`` on a file inside the folder. The kernel lets go of it when the process
ends, however it ends, so a free lock means that nobody will ever finish the folder.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from relope.errors import OutputError, StoreError
from relope.partial import ENDING, remove_if_free
from relope.provenance import cannot_write
from relope.store.format.layout import LOCK, TEMPORARY, check_way, part_folder, parts_folder, sealed_parts

_ATTEMPTS = 100


def claim(store: Path, part: str) -> tuple[Path, int]:
    """Make and lock a temporary folder for a part.

    Returns:
        The folder and the descriptor that holds its lock until it is closed.
    """
    for attempt in range(_ATTEMPTS):
        suffix = f"-{attempt}" if attempt else ""
        folder = parts_folder(store) / f"{TEMPORARY}{part}-{os.getpid()}{suffix}"
        # A sweep may remove the folder before it is locked, and another host may share our pid: try the next name.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir()
            if (descriptor := _lock(folder / LOCK)) is not None:
                return folder, descriptor
        if not parts_folder(store).is_dir():
            break
    raise OutputError(f"cannot make a temporary folder in {parts_folder(store)}", hint="is the store being deleted?")


def sweep(store: Path) -> int:
    """Remove what dead writers left behind and return the number of folders removed."""
    check_way(store, parts_folder(store))
    n_removed = 0
    for left in (*store.glob(f".*{ENDING}"), *store.glob(f"*/.*{ENDING}")):
        n_removed += remove_if_free(left)
    for folder in sorted(parts_folder(store).glob(f"{TEMPORARY}*")):
        if folder.is_symlink() or not folder.is_dir():
            continue
        with _if_free(folder / LOCK) as free:
            if free:
                shutil.rmtree(folder, ignore_errors=True)
                n_removed += not folder.exists()
    for part in sealed_parts(store):
        # A writer that died between the rename and its last step leaves its lock file in the part.
        lock = part_folder(store, part) / LOCK
        if lock.exists():
            with _if_free(lock) as free:
                if free:
                    lock.unlink(missing_ok=True)
    return n_removed


def adopt(folder: Path) -> int | None:
    """Lock a temporary folder, made if need be, to go on with what is in it.

    Returns:
        The descriptor that holds the lock until it is closed, or None while another process has it.
    """
    if folder.is_symlink():
        raise StoreError(f"{folder} is a symbolic link; a store holds plain files only", hint="delete it")
    folder.mkdir(exist_ok=True)
    return _lock(folder / LOCK)


@contextlib.contextmanager
def _if_free(path: Path) -> Iterator[bool]:
    """Hold a lock for the length of the block, and say whether nobody else had it."""
    descriptor = None
    # What is gone, or on a medium that is read-only, is nobody's to sweep.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError), _unless_read_only():
        descriptor = _lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def _unless_read_only() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    except OSError as error:
        os.close(descriptor)
        raise cannot_write(path, error) from error
    os.close(descriptor)
    return None
