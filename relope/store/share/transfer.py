"""Move parts: up under a claim, COMMIT.json last; down into a ``.tmp-`` folder that is renamed."""

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from relope.errors import OutputError, StoreError
from relope.partial import partial_file
from relope.provenance import file_digest, sync_folder, write_bytes
from relope.store.format.claims import adopt
from relope.store.format.commit import Commit, FileRecord, read_commit
from relope.store.format.layout import (
    COMMIT,
    LOCK,
    META,
    REMAKE,
    TEMPORARY,
    guard,
    part_folder,
    parts_folder,
    read_json,
    writing,
)
from relope.store.format.manifest import StoreManifest
from relope.store.share.remote import Remote, Sent
from relope.store.share.snapshot import RemoteSnapshot
from relope.store.share.threads import in_threads
from relope.store.verify import part_faults
from relope.types import Progress

_BLOCK_BYTES = 16 << 20
MIB = 1 << 20


class Meter:
    """Adds up bytes from many threads and reports MiB; once halted, it ends the threads that report to it."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.done = 0
        self._progress, self._total, self._lock = progress, total, threading.Lock()
        self._halted = False

    def halt(self) -> None:
        """End every transfer at its next block."""
        self._halted = True

    def __call__(self, n_bytes: int) -> None:
        if self._halted:
            raise OutputError("another transfer failed; this one was ended")
        with self._lock:
            self.done += n_bytes
            self._progress(self.done // MIB, -(-self._total // MIB))


def push_part(store: Path, part: str, snapshot: RemoteSnapshot, meter: Meter) -> bool:
    """Upload a part; False when a teammate shared one of this id in the meantime.

    Two people whose machines computed the same part may differ in the last bit. So nobody writes
    into a part before its claim, a small file made only where none is, says that all of it will be
    theirs: files of two origins are never mixed.

    Raises:
        StoreError: the part is damaged here, or somebody else's is half there.
        OutputError: the claim or a file was removed while it went up.
    """
    remote = snapshot.remote
    commit = checked(store, snapshot.manifest, part)
    folder = part_folder(store, part)
    names = {f"parts/{part}/{name}": folder / name for name in commit.files}
    commit_name, claim_name = f"parts/{part}/{COMMIT}", f"parts/{part}/{LOCK}"
    if remote.commit_all is not None:
        return remote.commit_all({**names, commit_name: folder / COMMIT}, commit_name, None, meter)
    mine = file_digest(folder / COMMIT).encode()
    if not _claim(snapshot, part, mine):
        return False
    if remote.read(commit_name) is not None:
        remote.delete([claim_name])
        return False
    _upload_missing(remote, part, names, meter)
    sealing = (folder / COMMIT).read_bytes()
    if not _arrived(remote, claim_name, names, mine):
        # Who pushed the very same part beside us may have sealed it and given our common claim back.
        sealed = remote.read(commit_name)
        if sealed is None or sealed.content != sealing:
            raise OutputError(
                f"somebody removed what was pushed of part {part} to {snapshot.uri}", hint="run the command again"
            )
        return False
    created = remote.swap(commit_name, sealing, None)
    remote.delete([claim_name])
    return created


def _upload_missing(remote: Remote, part: str, names: Mapping[str, Path], meter: Meter) -> None:
    """Upload the files that an interrupted push left out: whatever has come up under this claim is ours, and whole."""
    sizes = {file.name: file.n_bytes for file in remote.files(f"parts/{part}")}
    missing = [name for name, path in names.items() if sizes.get(name) != path.stat().st_size]
    meter(sum(names[name].stat().st_size for name in names.keys() - set(missing)))
    in_threads(lambda name: remote.upload({name: names[name]}, meter), missing, meter.halt)


def _claim(snapshot: RemoteSnapshot, part: str, mine: bytes) -> bool:
    """Claim a part, or find our claim of a push that was interrupted; False when another version is complete there.

    Raises:
        StoreError: another version is half there.
    """
    remote, name = snapshot.remote, f"parts/{part}/{LOCK}"
    while not remote.swap(name, mine, None):
        held = remote.read(name)
        if held is None:
            continue  # given back a moment ago
        if held.content == mine:
            return True
        if remote.read(f"parts/{part}/{COMMIT}") is not None:
            return False
        raise StoreError(
            f"somebody began to push another part {part} to {snapshot.uri} and has not finished",
            hint=f"try again when they have, or, if nobody is pushing: relope store gc {snapshot.uri} --delete",
        )
    return True


def _arrived(remote: Remote, claim_name: str, names: Mapping[str, Path], mine: bytes) -> bool:
    """Return whether the claim is still ours and every file is there: gc may take a slow push for one given up."""
    held = remote.read(claim_name)
    if held is None or held.content != mine:
        return False
    sizes = {file.name: file.n_bytes for file in remote.files(claim_name.rpartition("/")[0])}
    return all(sizes.get(name) == path.stat().st_size for name, path in names.items())


def checked(store: Path, manifest: StoreManifest, part: str) -> Commit:
    """Return the commit of a local part after holding every file against it, and the files against one another.

    A digest says that a file is what COMMIT.json names; only the samples' own digests say that the rows are theirs.

    Raises:
        StoreError: a file is missing, is not what was written or belongs to other samples: it is not shared.
    """
    commit = read_commit(store, part)
    for name, record in commit.files.items():
        path = guard(store, part_folder(store, part) / name)
        if path.stat().st_size != record.n_bytes or file_digest(path) != record.sha256:
            raise StoreError(
                f"{name} of part {part} in {store} is damaged, so it is not shared",
                hint=REMAKE,
            )
    check_meaning(store, manifest, part, store, "it is not shared")
    return commit


def check_meaning(store: Path, manifest: StoreManifest, part: str, label: object, then: str) -> None:
    """Refuse a part whose files, each intact, do not belong together.

    Args:
        store: the folder that has the part.
        manifest: which arrays the part has there.
        part: part id.
        label: what a message calls the store.
        then: what follows from it.

    Raises:
        StoreError: samples of another part, arrays of other rows than the samples say, or rows of other samples.
    """
    commit = read_json(store, part_folder(store, part) / COMMIT)
    for name, what in part_faults(store, manifest, part, commit, True):
        raise StoreError(f"{name} of part {part} in {label} is damaged ({what}), so {then}", hint=REMAKE)


@contextlib.contextmanager
def staging(out: Path, part: str) -> Iterator[Path]:
    """Give the ``.tmp-`` folder of a part that is being pulled, with what an interrupted pull left in it.

    It is laid out as a store of its own, which has the part under ``parts/``; it stays when the block fails.

    Raises:
        OutputError: another process is pulling the same part.
    """
    folder = parts_folder(out) / f"{TEMPORARY}{part}-pull"
    with writing(folder):
        lock = adopt(folder)
    if lock is None:
        raise OutputError(f"another process is pulling part {part} into {out}", hint="wait for it")
    try:
        with writing(folder):
            parts_folder(folder).mkdir(exist_ok=True)
            yield folder
            shutil.rmtree(folder)
    finally:
        os.close(lock)


def download(
    snapshot: RemoteSnapshot, commit: Commit, names: Collection[str], staged: Path, verify: bool, meter: Meter
) -> None:
    """Download files of a part; what is there already is kept and counted.

    Raises:
        StoreError: a file is missing, has another size than it was pushed with, or another sha256.
    """
    listed = snapshot.files.get(commit.part, {})
    for name in names:
        pushed, size = commit.files[name].n_bytes, listed[name].n_bytes if name in listed else None
        if size != pushed:
            has = "is missing" if size is None else f"has {size:,} bytes, was pushed with {pushed:,}"
            raise StoreError(f"{name} of part {commit.part} {has} at {snapshot.uri}; nothing of it was read")
    in_threads(lambda name: _download(snapshot.remote, commit, name, staged, verify, meter), sorted(names), meter.halt)
    record = (part_folder(snapshot.folder, commit.part) / COMMIT).read_bytes()
    write_bytes(part_folder(staged, commit.part) / COMMIT, record)


def _download(remote: Remote, commit: Commit, name: str, staged: Path, verify: bool, meter: Meter) -> None:
    path = part_folder(staged, commit.part) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.resolve() != staged.resolve() / path.parent.relative_to(staged):
        raise StoreError(f"{path.parent} lies behind a symbolic link", hint=f"delete {staged} and pull again")
    _fill(remote, f"parts/{commit.part}/{name}", commit.files[name], path, verify, meter)


def fetch_to(remote: Remote, name: str, record: FileRecord, path: Path) -> None:
    """Download one file under a temporary name, check its sha256 and rename it.

    Raises:
        StoreError: it is not what was pushed.
        OutputError: the system refuses to write.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path) as (_, partial):
            _fill(remote, name, record, partial, True, lambda n_bytes: None)
            partial.replace(path)
        sync_folder(path.parent)


def _fill(remote: Remote, name: str, record: FileRecord, path: Path, verify: bool, received: Sent) -> None:
    """Download a file from where an earlier attempt stopped."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+b") as file:
        file.truncate(min(os.fstat(descriptor).st_size, record.n_bytes))
        total = hashlib.sha256()
        while block := file.read(_BLOCK_BYTES):
            total.update(block)
            received(len(block))
        while (start := file.tell()) < record.n_bytes:
            block = remote.read_range(name, start, min(start + _BLOCK_BYTES, record.n_bytes))
            file.write(block)
            total.update(block)
            received(len(block))
        file.flush()
        os.fsync(descriptor)
    if verify and total.hexdigest() != record.sha256:
        path.unlink()
        raise StoreError(f"{name} at {remote.location.uri} is not what was pushed: its sha256 differs; it was not kept")


def seal_whole(out: Path, staged: Path, commit: Commit) -> None:
    """Rename a downloaded part to where a store has its parts."""
    folder = part_folder(staged, commit.part)
    wanted = {*commit.files, COMMIT}
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name not in wanted:
            path.unlink()  # left by a pull of an earlier version of the part
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(inner)
    with contextlib.suppress(FileExistsError):
        if not part_folder(out, commit.part).exists():
            folder.rename(part_folder(out, commit.part))
    sync_folder(parts_folder(out))


def files_of(commit: Commit, arrays: Sequence[str]) -> dict[str, FileRecord]:
    """Return the files that make up some arrays of a part, and everything that is in no array."""
    kept = {}
    for name, record in commit.files.items():
        head, _, rest = name.partition("/")
        array = f"{head}/{rest.partition('/')[0]}" if head in ("hidden", "last") else head
        if "/" not in name or array == f"{head}/{META}" or array in arrays:
            kept[name] = record
    return kept
