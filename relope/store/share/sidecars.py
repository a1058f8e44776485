"""What travels beside the parts: grades, the plan, and block l's weights."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import polars as pl

from relope.errors import StoreError
from relope.partial import partial_folder
from relope.provenance import write_bytes
from relope.seals import opened_json, sealed_json
from relope.store.format.block import (
    BLOCK_FILES,
    block_records,
    check_block,
    has_block,
    is_sealed_block,
    place_block,
    shared_otherwise,
)
from relope.store.format.index import build_index
from relope.store.format.layout import (
    COMMIT,
    block_folder,
    guard,
    is_block_name,
    is_grades_name,
    plan_path,
    read_object,
    read_small,
    write_object,
    writing,
)
from relope.store.grade_files import (
    Grades,
    add_grades,
    grades_bytes,
    parse_grades,
    read_grades_file,
    write_grades_file,
)
from relope.store.grade_names import grades_name
from relope.store.made import MADE, made_bytes, note_made, parse_made, read_made
from relope.store.share.remote import rewrite
from relope.store.share.snapshot import RemoteSnapshot
from relope.store.share.transfer import fetch_to


def push_sidecars(store: Path, snapshot: RemoteSnapshot) -> list[str]:
    """Add a store's grades to the shared ones; share plan and blocks where there are none yet.

    Returns:
        The names that were written.
    """
    written = [name for name in _grade_names(store) if _push_grades(store, name, snapshot)]
    plan = read_object(store, plan_path(store))
    if plan and snapshot.remote.swap(plan_path(store).name, sealed_json(plan), None):
        written.append(plan_path(store).name)
    if _push_made(store, snapshot):
        written.append(MADE)
    for folder in sorted(store.glob("block_*")):
        # Of a block without digests, in a store of an older format, nobody can say whether it is what was written.
        if is_block_name(folder.name) and is_sealed_block(folder):
            written += _push_block(store, folder.name, snapshot)
    return written


def undigested_blocks(store: Path) -> list[str]:
    """Return the blocks of a store that are not shared, since an older relope wrote them without digests."""
    return [
        path.name for path in sorted(store.glob("block_*")) if is_block_name(path.name) and not is_sealed_block(path)
    ]


def _grade_names(store: Path) -> list[str]:
    return sorted(f"grades/{path.name}" for path in store.glob("grades/*") if is_grades_name(path.name))


def _push_grades(store: Path, name: str, snapshot: RemoteSnapshot) -> bool:
    """Add our grades of samples that the shared file has none of; the later of both orders stays."""
    with snapshot.named():
        known = set(build_index(snapshot.folder, snapshot.catalog.parts, snapshot.manifest.recipe_id).samples["id"])
    ours = read_grades_file(store, store / name)

    def added(shared: bytes | None) -> bytes | None:
        theirs = Grades(ours.name, ours.table.clear())
        if shared is not None:
            theirs = parse_grades(ours.name, shared, f"{name} at {snapshot.uri}")
        both = theirs.joined(ours, known)
        same = len(both.table) == len(theirs.table) and both.order == theirs.order
        return None if shared is not None and same else grades_bytes(both)

    return rewrite(snapshot.remote, name, added)


def save_grades(store: Path, name: str, base: Grades | None, ids: Collection[str], snapshot: RemoteSnapshot) -> Grades:
    """Share grades that were changed here, with what others have shared meanwhile; return what is here then.

    Args:
        store: the folder that has them, which takes up what others have changed.
        name: of their file.
        base: what they were when they were last the shared ones; None where there were none.
        ids: samples that are known here.
        snapshot: of the shared store.
    """
    ours = read_grades_file(store, store / name)
    before, both = base or Grades(ours.name, ours.table.clear()), ours

    def merged(shared: bytes | None) -> bytes:
        nonlocal both
        theirs = before if shared is None else parse_grades(ours.name, shared, f"{name} at {snapshot.uri}")
        both = ours.merged(before, theirs)
        return grades_bytes(both)

    rewrite(snapshot.remote, name, merged)
    known = replace(both, table=both.table.filter(pl.col("id").is_in(list(ids))))
    write_grades_file(store, store / name, known)
    return known


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


def _push_block(store: Path, name: str, snapshot: RemoteSnapshot) -> list[str]:
    """Share a block under the digests that it was written with: damage since then must not get new ones."""
    if snapshot.remote.read(f"{name}/{COMMIT}") is not None:
        return []
    check_block(store, name)
    paths, others = {file: guard(store, store / name / file) for file in BLOCK_FILES}, shared_otherwise(store, name)
    commit = others.pop(COMMIT, None) or read_small(store, store / name / COMMIT)
    with TemporaryDirectory(prefix="relope-push-") as folder:
        for file, content in others.items():
            paths[file] = Path(folder) / file
            paths[file].write_bytes(content)
        snapshot.remote.upload({f"{name}/{file}": path for file, path in paths.items()}, lambda n_bytes: None)
    snapshot.remote.swap(f"{name}/{COMMIT}", commit, None)
    return [f"{name}/{file}" for file in BLOCK_FILES]


def pull_grades(snapshot: RemoteSnapshot, out: Path, ids: Collection[str]) -> list[str]:
    """Add the shared grades of some samples to a local store; return the names that were written."""
    written = []
    for file in snapshot.remote.files("grades"):
        name = PurePosixPath(file.name)
        if len(name.parts) != 2 or not is_grades_name(name.name):
            continue
        shared = snapshot.remote.read(file.name)
        if shared is None:
            continue
        theirs = parse_grades(grades_name(name.stem), shared.content, f"{file.name} at {snapshot.uri}")
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
    plan, _ = opened_json(shared.content, where)
    try:
        units = [(unit["batch_size"], unit["ids"]) for unit in plan["units"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: {error}") from error
    if not all(
        type(size) is int and size > 0 and isinstance(ids, list) and all(isinstance(name, str) for name in ids)
        for size, ids in units
    ):
        raise StoreError(f"{where} is damaged: a unit needs a batch_size and sample ids")
    write_object(out, path, plan)
    return [path.name]


def pull_blocks(snapshot: RemoteSnapshot, out: Path, layers: Sequence[int]) -> list[str]:
    """Fetch the weights of blocks l where both l and l - 1 are among the layers; each file's sha256 is checked."""
    written = []
    for layer in layers:
        if layer - 1 in layers and not has_block(out, layer):
            written += _pull_block(snapshot, block_folder(out, layer))
    return written


def _pull_block(snapshot: RemoteSnapshot, folder: Path) -> list[str]:
    name = folder.name
    commit = snapshot.remote.read(f"{name}/{COMMIT}")
    if commit is None:
        return []
    where = f"{name}/{COMMIT} at {snapshot.uri}"
    try:
        records = block_records(json.loads(commit.content), where)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: not JSON ({error})") from error
    with writing(folder), partial_folder(folder) as partial:
        for file, record in records.items():
            fetch_to(snapshot.remote, f"{name}/{file}", record, partial / file)
        write_bytes(partial / COMMIT, commit.content)
        place_block(partial, folder)
    return [f"{name}/{file}" for file in records]
