"""Find and remove what no reader needs: leftovers of dead processes, and catalogs that newer ones replace."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relope.locations import Location, as_location
from relope.partial import ENDING, holding, leftovers, remove_if_free
from relope.store.format.claims import sweep
from relope.store.format.layout import COMMIT, LOCK, TEMPORARY, disk_bytes, parts_folder, writing
from relope.store.format.manifest import read_manifest
from relope.store.share.schemes import open_remote
from relope.store.share.snapshot import RemoteSnapshot, snapshot_of


@dataclass(frozen=True)
class Garbage:
    """Something to remove: its name below the store, its bytes, and why nobody needs it."""

    name: str
    n_bytes: int
    why: str


def gc(ref: Path | str, *, delete: bool = False, hours: float = 24.0) -> list[Garbage]:
    """Return what can go from a store, and remove it if asked to.

    Sealed parts are never removed, listed or not: the next extraction or push lists them.

    Args:
        ref: a local store, or a URI.
        delete: remove it; otherwise nothing is touched.
        hours: of a remote store, parts that are not finished go after so many hours without a new file.

    Raises:
        NotFoundError: no store is there.
    """
    location = as_location(ref)
    garbage = list(_local(Path(location.key))) if location.scheme == "file" else []
    with snapshot_of(open_remote(location)) as snapshot:
        snapshot.manifest  # noqa: B018 (says that there is no store)
        snapshot.refresh()
        garbage += _shared(snapshot, time.time() - hours * 3600)
        if delete:
            _remove(location, snapshot, garbage)
    return sorted(garbage, key=lambda item: item.name)


def _shared(snapshot: RemoteSnapshot, before: float) -> Iterator[Garbage]:
    for file in snapshot.remote.files("catalog"):
        number = file.name.removeprefix("catalog/").removesuffix(".json")
        if number.isdecimal() and int(number) < snapshot.catalog.number:
            yield Garbage(file.name, file.n_bytes, "a newer catalog replaces it")
    for files in snapshot.files.values():
        if COMMIT in files:
            if LOCK in files and files[LOCK].n_bytes:
                yield Garbage(files[LOCK].name, files[LOCK].n_bytes, "claim of a push that is finished")
        elif max(file.modified for file in files.values()) < before:
            # The claim comes last: until then the part still belongs to who began it.
            names = sorted(files, key=lambda name: (name == LOCK, name))
            for name in names:
                yield Garbage(files[name].name, files[name].n_bytes, "of a part whose push was given up")


def _local(store: Path) -> Iterator[Garbage]:
    read_manifest(store)
    for path in (*store.glob(f"{TEMPORARY}*"), *parts_folder(store).glob(f"{TEMPORARY}*")):
        if not path.is_symlink() and _free(path / LOCK if path.is_dir() else path):
            yield Garbage(path.relative_to(store).as_posix(), disk_bytes(path), "left by a process that is gone")
    for path in (*store.glob(f".*{ENDING}"), *store.glob(f"*/.*{ENDING}"), *leftovers(store)):
        with holding(path) as free:
            if free:
                yield Garbage(os.path.relpath(path, store), disk_bytes(path), "left by a process that is gone")


def _free(path: Path) -> bool:
    """Return whether nobody holds the lock of a file; without the file nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return not path.exists()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _remove(location: Location, snapshot: RemoteSnapshot, garbage: list[Garbage]) -> None:
    names = [item.name for item in garbage]
    if location.scheme == "file":
        store = Path(location.key)
        sweep(store)  # takes the lock of each folder first
        for name in names:
            if name.endswith(ENDING):
                remove_if_free(store.parent / Path(name).name if name.startswith("..") else store / name)
            elif TEMPORARY in name:
                with writing(store / name), contextlib.suppress(IsADirectoryError):
                    (store / name).unlink(missing_ok=True)
        names = [name for name in names if not name.endswith(ENDING) and (store / name).exists()]
    by_part: dict[str, list[str]] = {}
    for name in names:
        folder = name.rpartition("/")[0] if name.startswith("parts/") else ""
        by_part.setdefault("/".join(folder.split("/")[:2]), []).append(name)
    for folder, inside in by_part.items():
        if not folder or _is_as_listed(snapshot, folder):
            snapshot.remote.delete(inside)


def _is_as_listed(snapshot: RemoteSnapshot, folder: str) -> bool:
    """Return whether a part is as it was: a push that was taken for given up may have gone on, and sealed it."""
    now = {file.name.removeprefix(f"{folder}/"): file for file in snapshot.remote.files(folder)}
    return now == snapshot.files.get(folder.rpartition("/")[2])
