"""The weights of block l beside a store: three files, and COMMIT.json with the digest of each.

A block is written beside its place and renamed, so that nobody sees half of one. Blocks that a store of format 1 has
carry no COMMIT.json.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relope.errors import StoreError
from relope.partial import partial_folder
from relope.provenance import digest_of, file_digest, pretty, sync_folder, write_bytes
from relope.store.format.commit import FileRecord, read_record
from relope.store.format.layout import COMMIT, block_folder, check_way, guard, read_json, writing

BLOCK_FILES = ("config.json", "block.safetensors", "replay.json")
_HINT = "delete its folder and extract again: it is made anew from the checkpoint"


def without_origin(config: Any) -> Any:
    """Return a model's configuration without where its checkpoint lay: that is nobody else's business."""
    if isinstance(config, dict):
        return {key: without_origin(value) for key, value in config.items() if key != "_name_or_path"}
    return [without_origin(value) for value in config] if isinstance(config, list) else config


def shared_otherwise(store: Path, name: str) -> dict[str, bytes]:
    """Return the files of a block that are not shared as they lie here, since an older relope wrote paths into them.

    Args:
        store: the store's folder.
        name: ``block_<l>``, whose files were held against their digests.
    """
    folder = store / name
    content = guard(store, folder / BLOCK_FILES[0]).read_bytes()
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        return {}  # whoever replays it is told that it is damaged
    if (plain := without_origin(config)) == config:
        return {}
    files = {BLOCK_FILES[0]: pretty(plain)}
    if is_sealed_block(folder):
        commit = read_json(store, folder / COMMIT)
        record = {"bytes": len(files[BLOCK_FILES[0]]), "sha256": digest_of(files[BLOCK_FILES[0]])}
        files[COMMIT] = pretty({"files": {**commit["files"], BLOCK_FILES[0]: record}})
    return files


def has_block(store: Path, layer: int) -> bool:
    """Return whether a store has the weights of a block."""
    folder = block_folder(store, layer)
    check_way(store, folder)
    return (folder / BLOCK_FILES[-1]).exists()


def is_sealed_block(folder: Path) -> bool:
    """Return whether the files of a block are under a digest."""
    return (folder / COMMIT).exists()


def write_block(store: Path, layer: int, files: Mapping[str, bytes]) -> None:
    """Write the weights of a block; what another process has written meanwhile stays.

    Args:
        store: the store's folder.
        layer: l.
        files: content of each of ``BLOCK_FILES``.

    Raises:
        OutputError: the system refuses to write.
    """
    folder = block_folder(store, layer)
    check_way(store, folder)
    with writing(folder), partial_folder(folder) as partial:
        for name, content in files.items():
            write_bytes(partial / name, content)
        records = {name: {"bytes": len(content), "sha256": digest_of(content)} for name, content in files.items()}
        write_bytes(partial / COMMIT, pretty({"files": records}))
        place_block(partial, folder)


def place_block(partial: Path, folder: Path) -> None:
    """Give a finished block its name; a block without digests, of an older version, gives way."""
    with writing(folder):
        if folder.exists() and not is_sealed_block(folder):
            shutil.rmtree(folder)
        try:
            partial.rename(folder)
        except OSError:
            if not is_sealed_block(folder):  # unless another process was faster
                raise
        sync_folder(folder.parent)


def copy_block(source: Path, target: Path, layer: int) -> None:
    """Copy a block from one store to another, after holding it against its digests; it keeps those that it has.

    Raises:
        StoreError: a file is missing, is no plain file, or is not what was written.
    """
    old, folder = block_folder(source, layer), block_folder(target, layer)
    check_block(source, old.name)
    with writing(folder), partial_folder(folder) as partial:
        for name in (*BLOCK_FILES, *([COMMIT] if is_sealed_block(old) else [])):
            write_bytes(partial / name, guard(source, old / name).read_bytes())
        place_block(partial, folder)


def check_block(store: Path, name: str) -> None:
    """Refuse a block whose files are not those that were written; one without COMMIT.json must have them all.

    Args:
        store: the store's folder.
        name: ``block_<l>``.

    Raises:
        StoreError: a file is missing, is no plain file, or is not what was written.
    """
    for file, why in block_faults(store, name).items():
        raise StoreError(f"{name}/{file} in {store} {why}", hint=_HINT)


def block_faults(store: Path, name: str) -> dict[str, str]:
    """Return file → what is wrong with it, of a block's files."""
    folder, faults = store / name, dict[str, str]()
    records: dict[str, FileRecord] = {}
    if os.path.lexists(folder / COMMIT):
        try:
            records = block_records(read_json(store, folder / COMMIT), f"{name}/{COMMIT} in {store}")
            if guard(store, folder / COMMIT).read_bytes() != pretty(read_json(store, folder / COMMIT)):
                faults[COMMIT] = "is damaged: not what a writer writes"
        except StoreError as error:
            faults[COMMIT] = str(error)
    for file in BLOCK_FILES:
        try:
            path = guard(store, folder / file)
        except StoreError as error:
            faults[file] = f"cannot be read: {error}"
            continue
        record = records.get(file)
        if record and path.stat().st_size != record.n_bytes:
            faults[file] = f"has {path.stat().st_size:,} bytes, {COMMIT} says {record.n_bytes:,}"
        elif record and file_digest(path) != record.sha256:
            faults[file] = f"is damaged: its sha256 is not the one in {COMMIT}"
    return faults


def block_records(commit: object, where: str) -> dict[str, FileRecord]:
    """Return file → record, of a block's COMMIT.json.

    Raises:
        StoreError: it does not hold size and sha256 of each of ``BLOCK_FILES``, and of no other.
    """
    files = commit.get("files") if isinstance(commit, dict) else None
    if not isinstance(files, dict) or set(files) != set(BLOCK_FILES):
        raise StoreError(f"{where} is damaged: it must name {', '.join(BLOCK_FILES)}")
    return {name: read_record(name, files[name], where) for name in BLOCK_FILES}
