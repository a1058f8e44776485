"""Where everything is in a store, and the checks that keep every read inside its folder.

::

    runs/x.zarr/
      zarr.json                  Zarr v3 group; its attributes hold the manifest
      parts/<part-id>/           sealed and immutable; `.tmp-…` while it is being written
        hidden/<layer>/ last/<layer>/ answer/ tokens/ samples.parquet COMMIT.json
      catalog/<n>.json           which parts count, in which order; the highest n wins
      grades/<grader>@<version>.parquet   plan.json   block_<layer>/
"""

import contextlib
import errno
import json
import os
import re
import stat
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, OutputError, StoreError
from relope.provenance import cannot_write, digest

META = "zarr.json"
COMMIT = "COMMIT.json"
SAMPLES = "samples.parquet"
LOCK = ".lock"
TEMPORARY = ".tmp-"
SHARD = "c/0/0"
"""The one shard file of an array, below the array's folder."""

REMAKE = "delete the part's folder and extract again: only that part is made anew"
"""What to do about a damaged part: the hint of every error that finds one."""

GROUP: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {}}

_PART_ID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"\w[\w.+-]*")
_JSON_LIMIT_BYTES = 256 << 20
_MAX_RATIO = 1024
_SMALL_BYTES = 64 << 20


def is_part_id(name: object) -> bool:
    """Tell whether a name can be a part's; every name read from a file is asked this first."""
    return isinstance(name, str) and _PART_ID.fullmatch(name) is not None


def part_id(recipe_id: str, sample_ids: Sequence[str]) -> str:
    """Return the id of the part that holds these samples of this recipe, in this order."""
    return digest([recipe_id, list(sample_ids)])[:32]


def parts_folder(store: Path) -> Path:
    """Return the folder of all parts."""
    return store / "parts"


def part_folder(store: Path, part: str) -> Path:
    """Return a part's folder.

    Raises:
        StoreError: the id is not 32 lower-case hex digits, so it could point elsewhere.
    """
    if not is_part_id(part):
        raise StoreError(f"{part!r} in {store} is no part id (32 hex digits); the store was tampered with")
    return parts_folder(store) / part


def sealed_parts(store: Path) -> list[str]:
    """Return the ids of the sealed parts on disk, sorted; symbolic links do not count."""
    if not parts_folder(store).is_dir():
        return []
    with os.scandir(parts_folder(store)) as entries:
        parts = [entry.name for entry in entries if is_part_id(entry.name) and entry.is_dir(follow_symlinks=False)]
    return sorted(part for part in parts if (part_folder(store, part) / COMMIT).is_file())


def catalog_folder(store: Path) -> Path:
    """Return the folder of the catalogs."""
    return store / "catalog"


def grades_folder(store: Path) -> Path:
    """Return the folder of all grades."""
    return store / "grades"


def grades_path(store: Path, grader: str, version: str) -> Path:
    """Return where one grader's grades are kept.

    Raises:
        InvalidInputError: the name or the version holds more than letters, digits and ``_ . + -``.
    """
    for name in (grader, str(version)):
        if not _NAME.fullmatch(name):
            raise InvalidInputError(f"grader name or version {name!r} must be letters, digits and _ . + - only")
    return grades_folder(store) / f"{grader}@{version}.parquet"


def plan_path(store: Path) -> Path:
    """Return where the plan of a run (samples → parts → batches) is kept."""
    return store / "plan.json"


def block_folder(store: Path, layer: int) -> Path:
    """Return where the weights of block ``layer`` are kept."""
    return store / f"block_{layer}"


def guard(store: Path, path: Path) -> Path:
    """Return a path below a store after making sure that it is a plain file there.

    Raises:
        StoreError: it is missing, no plain file, or reached through a symbolic link.
    """
    try:
        check_plain(store, path)
    except OSError as error:
        raise StoreError(f"{path.relative_to(store)} is missing in {store}: {error.strerror}") from error
    return path


def check_plain(store: Path, path: Path) -> None:
    """Refuse what is at a path below a store unless it is a plain file there.

    Raises:
        StoreError: it is no plain file, or reached through a symbolic link.
        OSError: it is missing.
    """
    relative = path.relative_to(store)
    if path.resolve() != store.resolve() / relative:
        raise StoreError(f"{relative} in {store} is or lies behind a symbolic link; a store holds plain files only")
    if not stat.S_ISREG(path.lstat().st_mode):
        raise StoreError(f"{relative} in {store} is no plain file")


def check_ratio(where: str, claimed: int, size: int) -> None:
    """Refuse what would unpack to far more than it takes on disk, unless that is little all the same.

    Raises:
        StoreError: more than 1024 times as much, and over 64 MiB.
    """
    if claimed > max(_MAX_RATIO * size, _SMALL_BYTES):
        raise StoreError(f"{where} claims {claimed:,} bytes but has {size:,} on disk; it is not read")


def temporary_beside(path: Path) -> Path:
    """Return an unused name in a path's own folder, for what is renamed or linked to the path later."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")


def disk_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; what others remove meanwhile counts for nothing."""
    total = 0
    for file in (path, *(Path(root) / name for root, _, names in os.walk(path) for name in names)):
        with contextlib.suppress(FileNotFoundError):
            status = file.lstat()
            total += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return total


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses inside the block into an error that says what to do.

    Raises:
        OutputError: the disk is full, read-only, or something stands in the way.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


def link(partial: Path, path: Path) -> None:
    """Give a finished file its name, unless another process has taken it: a rename would not notice."""
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        with path.open("xb") as file:  # a file system without hard links
            file.write(partial.read_bytes())
            file.flush()
            os.fsync(file.fileno())


def read_json(store: Path, path: Path) -> Any:
    """Return the JSON value of a file below a store.

    Raises:
        StoreError: the file is missing, is no plain file, or is not JSON.
    """
    relative = guard(store, path).relative_to(store)
    if path.stat().st_size > _JSON_LIMIT_BYTES:
        raise StoreError(f"{relative} in {store} is over {_JSON_LIMIT_BYTES >> 20} MiB; it is not ours")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise StoreError(f"{relative} in {store} is damaged: not JSON ({error})") from error
