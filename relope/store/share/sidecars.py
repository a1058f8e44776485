"""What travels beside the parts: verdicts, the plan, and block l's weights."""

import io
import json
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import polars as pl

from relope.errors import OutputError, StoreError
from relope.provenance import file_digest, pretty, write_bytes, write_json
from relope.store.format.commit import FileRecord
from relope.store.format.index import build_index
from relope.store.format.layout import COMMIT, guard, plan_path
from relope.store.share.snapshot import Mirror
from relope.store.share.transfer import fetch_to

_GRADES = re.compile(r"grades/\w[\w.+-]*@\w[\w.+-]*\.parquet")
_BLOCK = re.compile(r"block_([0-9]{1,4})")
_BLOCK_FILES = ("config.json", "block.safetensors", "replay.json")
"""The last one is what makes a block count."""

_ATTEMPTS = 20


def push_besides(store: Path, mirror: Mirror) -> list[str]:
    """Add a store's verdicts to the shared ones; share plan and blocks where there are none yet.

    Returns:
        The names that were written.
    """
    written = [name for name in _grade_names(store) if _push_grades(store, name, mirror)]
    if plan_path(store).is_file() and mirror.remote.swap(
        "plan.json", guard(store, plan_path(store)).read_bytes(), None
    ):
        written.append("plan.json")
    for folder in sorted(store.glob("block_*")):
        if _BLOCK.fullmatch(folder.name) and (folder / _BLOCK_FILES[-1]).is_file():
            written += _push_block(store, folder, mirror)
    return written


def _grade_names(store: Path) -> list[str]:
    return sorted(name for path in store.glob("grades/*") if _GRADES.fullmatch(name := f"grades/{path.name}"))


def _push_grades(store: Path, name: str, mirror: Mirror) -> bool:
    """Add our verdicts on samples that the shared file has none of; retry when somebody else did so meanwhile."""
    with mirror.named():
        known = set(build_index(mirror.folder, mirror.catalog.parts).samples["id"])
    ours = read_verdicts(guard(store, store / name).read_bytes(), f"{name} in {store}")
    for _ in range(_ATTEMPTS):
        found = mirror.remote.read(name)
        theirs = read_verdicts(found.content, f"{name} at {mirror.uri}") if found else ours.clear()
        both = united(theirs, ours, known)
        if found and len(both) == len(theirs):
            return False
        if mirror.remote.swap(name, parquet(both), found.tag if found else None):
            return True
    raise OutputError(f"others wrote {name} at {mirror.uri} {_ATTEMPTS} times in a row; run the command again")


def united(first: pl.DataFrame, second: pl.DataFrame, known: Collection[str]) -> pl.DataFrame:
    """Return the verdicts of one table, then those of another on further samples; only of samples that are known."""
    further = second.filter(pl.col("id").is_in(list(known)) & ~pl.col("id").is_in(first["id"].to_list()))
    return pl.concat([first, further], how="diagonal_relaxed")


def read_verdicts(content: bytes, where: str) -> pl.DataFrame:
    """Return a table of verdicts.

    Raises:
        StoreError: it is none.
    """
    try:
        table = pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise StoreError(f"{where} is damaged: {error}") from error
    if table.schema.get("id") != pl.String or table.schema.get("correct") != pl.Boolean:
        raise StoreError(f"{where} is damaged: it must have the columns id (text) and correct (true or false)")
    return table


def parquet(table: pl.DataFrame) -> bytes:
    """Return a table as Parquet."""
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def _push_block(store: Path, folder: Path, mirror: Mirror) -> list[str]:
    name = folder.name
    if mirror.remote.read(f"{name}/{COMMIT}") is not None:
        return []
    paths = {file: guard(store, folder / file) for file in _BLOCK_FILES}
    records = {file: {"bytes": path.stat().st_size, "sha256": file_digest(path)} for file, path in paths.items()}
    mirror.remote.upload({f"{name}/{file}": path for file, path in paths.items()}, lambda n_bytes: None)
    mirror.remote.swap(f"{name}/{COMMIT}", pretty({"files": records}), None)
    return [f"{name}/{file}" for file in _BLOCK_FILES]


def pull_grades(mirror: Mirror, out: Path, ids: Collection[str]) -> list[str]:
    """Add the shared verdicts on some samples to a local store; return the names that were written."""
    written = []
    for file in sorted(mirror.remote.files("grades"), key=lambda file: file.modified):
        found = mirror.remote.read(file.name) if _GRADES.fullmatch(file.name) else None
        if found is None:
            continue
        theirs = read_verdicts(found.content, f"{file.name} at {mirror.uri}")
        path, there = out / file.name, (out / file.name).is_file()
        ours = read_verdicts(guard(out, path).read_bytes(), f"{file.name} in {out}") if there else theirs.clear()
        both = united(ours, theirs, ids)
        if len(both) > len(ours):
            write_bytes(path, parquet(both))
            if found.modified:
                os.utime(path, (found.modified, found.modified))  # the newest verdicts count unless others are named
            written.append(file.name)
    return written


def pull_plan(mirror: Mirror, out: Path) -> list[str]:
    """Take the shared plan where there is none, so that two people cut the same samples into the same parts."""
    found = mirror.remote.read("plan.json") if not plan_path(out).exists() else None
    if found is None:
        return []
    try:
        plan = json.loads(found.content)
        units = [(unit["batch_size"], unit["ids"]) for unit in plan["units"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise StoreError(f"plan.json at {mirror.uri} is damaged: {error}") from error
    if not all(
        type(size) is int and size > 0 and isinstance(ids, list) and all(isinstance(name, str) for name in ids)
        for size, ids in units
    ):
        raise StoreError(f"plan.json at {mirror.uri} is damaged: a unit needs a batch_size and sample ids")
    write_json(plan_path(out), plan)
    return ["plan.json"]


def pull_blocks(mirror: Mirror, out: Path, layers: Sequence[int]) -> list[str]:
    """Fetch the weights of blocks l where both l and l - 1 are among the layers; each file's sha256 is checked."""
    written = []
    for layer in layers:
        folder = out / f"block_{layer}"
        if layer - 1 not in layers or (folder / _BLOCK_FILES[-1]).exists():
            continue
        found = mirror.remote.read(f"{folder.name}/{COMMIT}")
        if found is None:
            continue
        records = _block_records(found.content, f"{folder.name}/{COMMIT} at {mirror.uri}")
        for file in _BLOCK_FILES:
            fetch_to(mirror.remote, f"{folder.name}/{file}", records[file], folder / file)
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
