"""What lies beside a store's parts, held against its digests: manifest, catalogs, grades, plan, blocks."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relope.errors import StoreError
from relope.provenance import pretty
from relope.seals import check_frame, opened_json
from relope.store.format.block import BLOCK_FILES, block_faults, is_sealed_block
from relope.store.format.layout import (
    COMMIT,
    GROUP,
    META,
    README,
    SWAP_LOCK,
    TEMPORARY,
    is_block_name,
    is_grades_name,
    read_small,
)
from relope.store.format.manifest import StoreManifest, manifest_document

_OBJECTS = ("made.json", "plan.json", "skipped.json", "here.json")


@dataclass(frozen=True)
class Finding:
    """One file beside the parts that is not as it was written, or of which nobody can say.

    Attributes:
        name: path below the store.
        what: what is wrong; ``""`` where the file carries no digest.
    """

    name: str
    what: str = ""


def look_beside(store: Path, manifest: StoreManifest) -> Iterator[Finding]:
    """Yield what is damaged beside the parts of a store, and what is not under a digest."""
    written = pretty(manifest_document(manifest))
    if read_small(store, store / META) != written:
        yield Finding(META, "is damaged: not what a writer writes")
    elif manifest.format_version == 1:
        yield Finding(META)
    for entry in sorted(os.scandir(store), key=lambda entry: entry.name):
        if entry.name.startswith(TEMPORARY) or entry.name.endswith(".partial") or entry.name in ("parts", META):
            continue
        kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            yield Finding(entry.name, "is a symbolic link or no plain file")
        elif kind == stat.S_IFDIR:
            yield from _folder(store, entry.name)
        elif entry.name not in (SWAP_LOCK, README):  # nothing hangs on a card, and people may mend it
            yield from _object(store, entry.name) if entry.name in _OBJECTS else (Finding(entry.name),)


def group_fault(store: Path) -> Iterator[Finding]:
    """Yield what is wrong with ``parts/zarr.json``, of which every byte is known beforehand."""
    name = f"parts/{META}"
    try:
        if read_small(store, store / name) != pretty(GROUP):
            yield Finding(name, "is damaged: not what a writer writes")
    except StoreError as error:
        yield Finding(name, str(error))


def _folder(store: Path, name: str) -> Iterator[Finding]:
    if is_block_name(name):
        yield from _block(store, name)
        return
    for path in sorted((store / name).iterdir()):
        below = f"{name}/{path.name}"
        if path.name.endswith(".partial") and not path.is_symlink():
            continue
        if not stat.S_ISREG(path.lstat().st_mode):
            yield Finding(below, "is a symbolic link or no plain file")
        elif name == "grades" and is_grades_name(path.name):
            yield from _table(store, below)
        elif name == "grades" and path.suffix == ".json":
            yield from _object(store, below)
        elif name != "catalog" or path.suffix != ".json":
            yield Finding(below)


def _object(store: Path, name: str) -> Iterator[Finding]:
    try:
        _, sealed = opened_json(read_small(store, store / name), name)
    except StoreError as error:
        yield Finding(name, str(error))
    else:
        yield from () if sealed else (Finding(name),)


def _table(store: Path, name: str) -> Iterator[Finding]:
    try:
        sealed = check_frame(read_small(store, store / name), name)
    except StoreError as error:
        yield Finding(name, str(error))
    else:
        yield from () if sealed else (Finding(name),)


def _block(store: Path, name: str) -> Iterator[Finding]:
    faults, folder = block_faults(store, name), store / name
    yield from (Finding(f"{name}/{file}", what) for file, what in faults.items())
    others = sorted(path.name for path in folder.iterdir() if path.name not in (*BLOCK_FILES, COMMIT))
    yield from (Finding(f"{name}/{file}", f"unexpected: not in {COMMIT}") for file in others)
    if not faults and not is_sealed_block(folder):
        yield from (Finding(f"{name}/{file}") for file in BLOCK_FILES)
