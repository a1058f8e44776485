"""What travels beside the parts: grades, the plan, and block l's weights."""

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from relope.errors import StoreError
from relope.provenance import file_digest, pretty, write_json
from relope.store.format.commit import FileRecord
from relope.store.format.index import build_index
from relope.store.format.layout import COMMIT, block_folder, guard, plan_path
from relope.store.grade_files import (
    Grades,
    add_grades,
    grades_bytes,
    is_grades_file,
    parse_grades,
    read_grades_file,
)
from relope.store.made import MADE, made_bytes, note_made, parse_made, read_made
from relope.store.share.remote import rewrite
from relope.store.share.snapshot import RemoteSnapshot
from relope.store.share.transfer import fetch_to

_BLOCK = re.compile(r"block_([0-9]{1,4})")
_BLOCK_FILES = ("config.json", "block.safetensors", "replay.json")
"""The last one is what makes a block count."""


def push_sidecars(store: Path, snapshot: RemoteSnapshot) -> list[str]:
    """Add a store's grades to the shared ones; share plan and blocks where there are none yet.

    Returns:
        The names that were written.
    """
    written = [name for name in _grade_names(store) if _push_grades(store, name, snapshot)]
    plan = plan_path(store)
    if plan.is_file() and snapshot.remote.swap(plan.name, guard(store, plan).read_bytes(), None):
        written.append(plan.name)
    if _push_made(store, snapshot):
        written.append(MADE)
    for folder in sorted(store.glob("block_*")):
        if _BLOCK.fullmatch(folder.name) and (folder / _BLOCK_FILES[-1]).is_file():
            written += _push_block(store, folder, snapshot)
    return written


def _grade_names(store: Path) -> list[str]:
    return sorted(f"grades/{path.name}" for path in store.glob("grades/*") if is_grades_file(path.name))


def _push_grades(store: Path, name: str, snapshot: RemoteSnapshot) -> bool:
    """Add our grades of samples that the shared file has none of; the later of both orders stays."""
    with snapshot.named():
        known = set(build_index(snapshot.folder, snapshot.catalog.parts).samples["id"])
    ours = read_grades_file(store, store / name)

    def added(shared: bytes | None) -> bytes | None:
        theirs = Grades(ours.name, ours.table.clear())
        if shared is not None:
            theirs = parse_grades(ours.name, shared, f"{name} at {snapshot.uri}")
        both = theirs.joined(ours, known)
        same = len(both.table) == len(theirs.table) and both.order == theirs.order
        return None if shared is not None and same else grades_bytes(both)

    return rewrite(snapshot.remote, name, added)


def _push_made(store: Path, snapshot: RemoteSnapshot) -> bool:
    """Add the runs that made our store to those that made the shared one."""
    ours = read_made(store)

    def added(shared: bytes | None) -> bytes | None:
        theirs = [] if shared is None else parse_made(shared, f"{MADE} at {snapshot.uri}")
        return None if set(ours) <= set(theirs) else made_bytes([*theirs, *ours])

    return rewrite(snapshot.remote, MADE, added)


def pull_made(snapshot: RemoteSnapshot, out: Path) -> list[str]:
    """Add the runs that made the shared store to those that made the local one."""
    shared = snapshot.remote.read(MADE)
    if shared is None or not note_made(out, parse_made(shared.content, f"{MADE} at {snapshot.uri}")):
        return []
    return [MADE]


def _push_block(store: Path, folder: Path, snapshot: RemoteSnapshot) -> list[str]:
    name = folder.name
    if snapshot.remote.read(f"{name}/{COMMIT}") is not None:
        return []
    paths = {file: guard(store, folder / file) for file in _BLOCK_FILES}
    records = {file: {"bytes": path.stat().st_size, "sha256": file_digest(path)} for file, path in paths.items()}
    snapshot.remote.upload({f"{name}/{file}": path for file, path in paths.items()}, lambda n_bytes: None)
    snapshot.remote.swap(f"{name}/{COMMIT}", pretty({"files": records}), None)
    return [f"{name}/{file}" for file in _BLOCK_FILES]


def pull_grades(snapshot: RemoteSnapshot, out: Path, ids: Collection[str]) -> list[str]:
    """Add the shared grades of some samples to a local store; return the names that were written."""
    written = []
    for file in snapshot.remote.files("grades"):
        name = PurePosixPath(file.name)
        if len(name.parts) != 2 or not is_grades_file(name.name):
            continue
        shared = snapshot.remote.read(file.name)
        if shared is None:
            continue
        theirs = parse_grades(name.stem, shared.content, f"{file.name} at {snapshot.uri}")
        if add_grades(out, file.name, theirs, ids):
            written.append(file.name)
    return written


def pull_plan(snapshot: RemoteSnapshot, out: Path) -> list[str]:
    """Take the shared plan where there is none, so that two people cut the same samples into the same parts."""
    path = plan_path(out)
    shared = snapshot.remote.read(path.name) if not path.exists() else None
    if shared is None:
        return []
    where = f"{path.name} at {snapshot.uri}"
    try:
        plan = json.loads(shared.content)
        units = [(unit["batch_size"], unit["ids"]) for unit in plan["units"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: {error}") from error
    if not all(
        type(size) is int and size > 0 and isinstance(ids, list) and all(isinstance(name, str) for name in ids)
        for size, ids in units
    ):
        raise StoreError(f"{where} is damaged: a unit needs a batch_size and sample ids")
    write_json(path, plan)
    return [path.name]


def pull_blocks(snapshot: RemoteSnapshot, out: Path, layers: Sequence[int]) -> list[str]:
    """Fetch the weights of blocks l where both l and l - 1 are among the layers; each file's sha256 is checked."""
    written = []
    for layer in layers:
        folder = block_folder(out, layer)
        if layer - 1 not in layers or (folder / _BLOCK_FILES[-1]).exists():
            continue
        commit = snapshot.remote.read(f"{folder.name}/{COMMIT}")
        if commit is None:
            continue
        records = _block_records(commit.content, f"{folder.name}/{COMMIT} at {snapshot.uri}")
        for file in _BLOCK_FILES:
            fetch_to(snapshot.remote, f"{folder.name}/{file}", records[file], folder / file)
            written.append(f"{folder.name}/{file}")
    return written


def _block_records(content: bytes, where: str) -> dict[str, FileRecord]:
    try:
        files = json.loads(content)["files"]
        records = {name: FileRecord(files[name]["bytes"], files[name]["sha256"]) for name in _BLOCK_FILES}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: {error}") from error
    if not all(type(record.n_bytes) is int and record.n_bytes >= 0 for record in records.values()):
        raise StoreError(f"{where} is damaged: it must hold the size of each file")
    return records
