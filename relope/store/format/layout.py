"""Where everything is in a store, and the checks that keep every read inside its folder.

::

    runs/x.zarr/
      zarr.json                  Zarr v3 group; its attributes hold the manifest
      parts/<part-id>/           sealed and immutable; `.tmp-…` while it is being written
        hidden/<layer>/ last/<layer>/ answer/ tokens/ samples.parquet thumbnails.parquet COMMIT.json
      catalog/<n>.json           which parts count, in which order; the highest n wins
      grades/<grader>@<version>.parquet   plan.json   skipped.json   here.json   block_<layer>/
"""

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from relope.errors import OutputError, RelopeError, StoreError
from relope.provenance import cannot_write, digest
from relope.seals import opened_json, read_plain, write_sealed_json

META = "zarr.json"
COMMIT = "COMMIT.json"
SAMPLES = "samples.parquet"
THUMBNAILS = "thumbnails.parquet"
LOCK = ".lock"
TEMPORARY = ".tmp-"
README = "README.md"
"""The card of a shared store, which nothing hangs on."""

SWAP_LOCK = ".swap.lock"
"""Left by pushes to a shared folder; it holds nothing."""

SHARD = "c/0/0"
"""The one shard file of an array, below the array's folder."""

REMAKE = "delete the part's folder and extract again: only that part is made anew"
"""What to do about a damaged part: the hint of every error that finds one."""

GROUP: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {}}

_PART_ID = re.compile(r"[0-9a-f]{32}")
_BLOCK = re.compile(r"block_[0-9]{1,4}")
_GRADES = re.compile(r"\w[\w.+-]*@\w[\w.+-]*\.parquet")
_TOP = (META, "parts", "catalog", "grades", "plan.json", "made.json", "skipped.json", "here.json")
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


def is_sealed_part(store: Path, part: str) -> bool:
    """Tell whether one part is complete on disk; of many parts `sealed_parts` reads the whole folder."""
    folder = part_folder(store, part)
    return not folder.is_symlink() and (folder / COMMIT).is_file()


def catalog_folder(store: Path) -> Path:
    """Return the folder of the catalogs."""
    return store / "catalog"


def grades_folder(store: Path) -> Path:
    """Return the folder of all grades."""
    return store / "grades"


def here_path(store: Path) -> Path:
    """Return where paths of this machine are kept (data set, model, captions): never shared."""
    return store / "here.json"


def plan_path(store: Path) -> Path:
    """Return where the plan of a run (samples → parts → batches) is kept."""
    return store / "plan.json"


def block_folder(store: Path, layer: int) -> Path:
    """Return where the weights of block ``layer`` are kept."""
    return store / f"block_{layer}"


def is_block_name(name: str) -> bool:
    """Tell whether a name is that of a folder of a block's weights."""
    return _BLOCK.fullmatch(name) is not None


def is_grades_name(name: str) -> bool:
    """Tell whether a name below ``grades/`` is that of one grader's grades."""
    return _GRADES.fullmatch(name) is not None


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
    check_way(store, path)
    if not stat.S_ISREG(path.lstat().st_mode):
        raise StoreError(f"{path.relative_to(store)} in {store} is no plain file")


def check_way(store: Path, path: Path) -> None:
    """Refuse a path below a store, which need not exist, when a symbolic link stands on the way or is its end.

    No link is followed inside a store, to read or to write: it could lead anywhere.

    Raises:
        StoreError: there is a link, or a step that leads up.
    """
    relative, step = path.relative_to(store), store
    for name in relative.parts:
        step = step / name
        if name == ".." or step.is_symlink():
            raise StoreError(f"{relative} in {store} is or lies behind a symbolic link; a store holds plain files only")


def check_entries(store: Path) -> None:
    """Refuse a store in which something of ours is a symbolic link.

    Everything that opens a store asks this first; what lies deeper is asked when it is read.

    Raises:
        StoreError: there is one.
    """
    with os.scandir(store) as entries:
        links = sorted(entry.name for entry in entries if entry.is_symlink() and is_ours(entry.name))
    for name in links:
        check_way(store, store / name)


def is_ours(name: str) -> bool:
    """Tell whether a name at the top of a store is one that a writer gives."""
    return name in _TOP or is_block_name(name)


def check_ratio(where: str, claimed: int, size: int) -> None:
    """Refuse what would unpack to far more than it takes on disk, unless that is little all the same.

    Raises:
        StoreError: more than 1024 times as much, and over 64 MiB.
    """
    if claimed > max(_MAX_RATIO * size, _SMALL_BYTES):
        raise StoreError(f"{where} claims {claimed:,} bytes but has {size:,} on disk; it is not read")


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


def read_small(store: Path, path: Path) -> bytes:
    """Return the bytes of a small file below a store.

    Raises:
        StoreError: the file is missing, is no plain file, or is far too large to be ours.
    """
    relative = guard(store, path).relative_to(store)
    try:
        return read_plain(path, _JSON_LIMIT_BYTES)
    except RelopeError as error:
        raise StoreError(f"{relative} in {store}: {error}; it is not ours") from error


def read_json(store: Path, path: Path) -> Any:
    """Return the JSON value of a file below a store.

    Raises:
        StoreError: the file is missing, is no plain file, or is not JSON.
    """
    content = read_small(store, path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path.relative_to(store)} in {store} is damaged: not JSON ({error})") from error


def read_object(store: Path, path: Path) -> dict[str, Any]:
    """Return the object of a JSON file below a store that carries its own digest, or ``{}`` where there is none.

    Raises:
        StoreError: it is damaged, or no plain file.
    """
    check_way(store, path)
    if not path.exists():
        return {}
    value, _ = opened_json(read_small(store, path), f"{path.relative_to(store)} in {store}")
    return value


def write_object(store: Path, path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file below a store that carries its own digest."""
    check_way(store, path)
    write_sealed_json(path, value)
