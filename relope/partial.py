"""Files and folders that are written beside their place and renamed; what killed processes left there is swept.

Whoever writes holds ``flock`` on the partial file, or on a file beside the partial folder. The kernel lets go of it
when the process ends, however it ends, so a free lock means that nobody will ever finish it.

Only files that are open for writing are locked: over NFS the lock of anything else holds on one machine alone, if at
all (flock(2), "NFS details").
"""

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

ENDING = ".partial"
_LOCK = ".lock"
_ATTEMPTS = 20


def beside(path: Path) -> Path:
    """Return an unused name in a path's own folder, for what is renamed to the path later."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{ENDING}")


def leftovers(path: Path) -> list[Path]:
    """Return what is left beside a path by whoever began to write it, dead or alive; a folder stands for its lock."""
    left = path.parent.glob(f".{_plain(path.name)}.*{ENDING}") if path.parent.is_dir() else ()
    return sorted(each for each in left if not _folder_of(each).is_dir())


def sweep(path: Path) -> int:
    """Remove what dead processes left beside a path; return how much it was."""
    return sum(remove_if_free(left) for left in leftovers(path))


def remove_if_free(left: Path) -> bool:
    """Remove a partial file or folder unless somebody is writing it; return whether it was removed."""
    with holding(left) as free:
        if free and left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
            _lock_of(left).unlink(missing_ok=True)
        elif free:
            left.unlink(missing_ok=True)
        return free


@contextlib.contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Hold the lock of a partial file or folder for the length of the block, and say whether nobody else had it.

    A folder without a lock is nobody's, since the lock is made first; a lock goes with its folder. A link or a pipe is
    nobody's work. Where a file system has no locks, nothing is taken for free.
    """
    is_folder = path.is_dir() and not path.is_symlink()
    lock = _lock_of(path) if is_folder else path
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield is_folder
        return
    except OSError:
        yield False
        return
    try:
        yield (is_folder or not _folder_of(path).is_dir()) and _locked(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def partial_file(path: Path) -> Iterator[tuple[int, Path]]:
    """Give a new file beside a path, open for writing and locked; what is not renamed in the block is removed.

    Raises:
        OSError: the system refuses.
    """
    sweep(path)
    with locked_file(lambda: beside(path)) as partial:
        yield partial


@contextlib.contextmanager
def locked_file(unused: Callable[[], Path]) -> Iterator[tuple[int, Path]]:
    """Give a new file of an unused name, open for writing and locked; what is not renamed in the block is removed.

    Raises:
        OSError: the system refuses.
    """
    for _ in range(_ATTEMPTS):
        partial = unused()
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        if _ours(descriptor):
            break
        os.close(descriptor)  # swept by another process before it was locked
    else:
        raise BlockingIOError(errno.EAGAIN, "others swept the file away before it was locked", str(partial))
    try:
        yield descriptor, partial
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside a path, locked; what is not renamed in the block is removed.

    Raises:
        OSError: the system refuses.
    """
    sweep(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(lambda: _lock_of(beside(path))) as (_, lock):
        partial = _folder_of(lock)
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time into the block, of all that name a folder there is; the others wait.

    Who may not write there does not wait: what it would write is refused by itself.
    """
    lock = folder / f".alone{ENDING}"
    try:
        descriptor = _waited_for(lock)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        yield
        return
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _waited_for(lock: Path) -> int:
    """Return the descriptor of a lock file, once nobody else holds it."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, 0o666)  # others of a team wait for it too
        with contextlib.suppress(OSError):  # a file system without locks: then nobody waits
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # whoever was here before has taken it along


def _lock_of(folder: Path) -> Path:
    """Return the file whose lock says that a partial folder is being written."""
    return folder.with_name(f"{folder.name.removesuffix(ENDING)}{_LOCK}{ENDING}")


def _folder_of(lock: Path) -> Path:
    """Return the partial folder that a file is the lock of; of any other file, a name that is no folder's."""
    return lock.with_name(f"{lock.name.removesuffix(f'{_LOCK}{ENDING}')}{ENDING}")


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _ours(descriptor: int) -> bool:
    """Lock what was just made; False when a sweep was faster. Without locks nobody sweeps."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return os.fstat(descriptor).st_nlink > 0


def _plain(name: str) -> str:
    """Return a name as a pattern that matches nothing else."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
