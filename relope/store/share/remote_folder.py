"""``file://``: a store on a shared mount, with the same guarantees as an object store."""

import contextlib
import fcntl
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from relope.errors import InvalidInputError, NotFoundError
from relope.locations import Location
from relope.partial import locked_file, remove_if_free
from relope.provenance import sync_folder
from relope.store.format.layout import SWAP_LOCK, TEMPORARY, check_plain, check_way, guard, link, writing
from relope.store.share.remote import SMALL_BYTES, FileVersion, RemoteFile, Sent, cut_short, too_large

_BLOCK_BYTES = 8 << 20
_ATTEMPTS = 20


class FolderRemote:
    """A folder that several people write to.

    New files are staged at the store's top as ``.tmp-…``, locked by their writer, and then linked or
    renamed to their names. Symbolic links are refused.
    """

    commit_all = None

    def __init__(self, location: Location) -> None:
        self.location = location
        self.root = Path(location.key)
        self._swept = False

    def files(self, folder: str) -> list[RemoteFile]:
        if not self.root.parent.is_dir():
            raise NotFoundError(
                f"there is no folder {self.root.parent} for {self.location.uri}", hint="is the share mounted?"
            )
        if self.root.is_file():
            raise InvalidInputError(
                f"{self.root} is a file, and what is shared is a folder",
                hint="name a folder, there or still to be made",
            )
        check_way(self.root, self.root / folder)
        return sorted(self._walk(self.root / folder), key=lambda file: file.name)

    def _walk(self, folder: Path) -> Iterator[RemoteFile]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    # Claims come and go while others list: a file that has just gone must not hide the next ones.
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        name = Path(entry.path).relative_to(self.root).as_posix()
                        yield RemoteFile(name, status.st_size, status.st_mtime)

    def folders(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and not path.is_symlink())

    def read(self, name: str, limit: int = SMALL_BYTES) -> FileVersion | None:
        try:
            file = self._open(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with file:
            status = os.fstat(file.fileno())
            if status.st_size > limit:
                raise too_large(self.location, name, status.st_size, limit)
            content = file.read()
        return FileVersion(content, hashlib.sha256(content).hexdigest(), status.st_mtime)

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        guard(self.root, self.root / name)
        with self._open(name) as file:
            file.seek(start)
            content = file.read(stop - start)
        if len(content) != stop - start:
            raise cut_short(self.location, name, len(content), stop - start)
        return content

    def swap(self, name: str, content: bytes, tag: str | None) -> bool:
        path = self.root / name
        with writing(path), self._staged(path) as (file, staged):
            file.write(content)
            _finish(file)
            if tag is None:
                try:
                    _move(staged, path, link)
                except FileExistsError:
                    return False
            else:
                with self._alone():
                    version = self.read(name)
                    if version is None or version.tag != tag:
                        return False
                    _move(staged, path, Path.replace)
            return True

    def upload(self, files: Mapping[str, Path], sent: Sent) -> None:
        for name, source in files.items():
            path = self.root / name
            with writing(path), self._staged(path) as (file, staged), source.open("rb") as given:
                while block := given.read(_BLOCK_BYTES):
                    file.write(block)
                    sent(len(block))
                _finish(file)
                _move(staged, path, Path.replace)

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            check_way(self.root, (self.root / name).parent)
            with writing(self.root / name):
                (self.root / name).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    for folder in (self.root / name).relative_to(self.root).parents[:-1]:
                        (self.root / folder).rmdir()  # as far as they are empty

    def _open(self, name: str) -> BinaryIO:
        path = self.root / name
        check_plain(self.root, path)
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")

    @contextlib.contextmanager
    def _staged(self, path: Path) -> Iterator[tuple[BinaryIO, Path]]:
        """Give a locked file at the store's top; a lock that is free says that its writer is gone."""
        check_way(self.root, path)
        self.root.mkdir(parents=True, exist_ok=True)
        self._sweep()
        with (
            locked_file(lambda: self.root / f"{TEMPORARY}{uuid.uuid4().hex}") as (descriptor, staged),
            os.fdopen(descriptor, "wb", closefd=False) as file,
        ):
            yield file, staged

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(self.root / SWAP_LOCK, flags, 0o666), "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _sweep(self) -> None:
        """Remove, once, what killed pushes have left staged."""
        if not self._swept:
            self._swept = True
            for left in self.root.glob(f"{TEMPORARY}*"):
                remove_if_free(left)


def _move(staged: Path, path: Path, move: Callable[[Path, Path], object]) -> None:
    """Give a staged file its name, in a folder that others may remove meanwhile: `delete` takes empty ones along."""
    for _ in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            move(staged, path)
            break
        except FileNotFoundError as error:
            gone = error
    else:
        raise gone
    with contextlib.suppress(FileNotFoundError):  # who has finished what it was for has removed it
        sync_folder(path.parent)


def _finish(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
