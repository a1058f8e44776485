"""Digests, versions and files that appear whole or not at all."""

import errno
import functools
import hashlib
import io
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relope.errors import OutputError
from relope.partial import partial_file
from relope.version import __version__

if TYPE_CHECKING:
    import polars as pl

PACKAGES = ("torch", "transformers", "peft", "zarr", "numpy", "polars", "scikit-learn")


def canonical(value: Any) -> bytes:
    """Return the one JSON spelling of a value that digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode()


def digest(value: Any) -> str:
    """Return the sha256 (hex) of a JSON value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_of(content: bytes) -> str:
    """Return the sha256 (hex) of bytes."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path, patterns: Iterable[str]) -> str:
    """Return one digest over the files of a folder that match, names included."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return digest([[path.relative_to(folder).as_posix(), file_digest(path)] for path in files])


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that a result was made with: recorded, never part of an identity."""
    recorded = {"relope": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            recorded[package] = version(package)
        except PackageNotFoundError:
            continue
    if sha := _git_sha():
        recorded["git"] = sha
    return recorded


def _git_sha() -> str:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def sync_folder(folder: Path) -> None:
    """Make a rename within a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name, fsync it and rename it into place.

    Raises:
        OutputError: the folder is read-only, the disk is full, or a file stands in the way.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path) as (descriptor, partial):
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def pretty(value: Any) -> bytes:
    """Return a JSON value as our files spell it: keys sorted, one value a line."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_bytes(path, pretty(value))


def frame_bytes(frame: "pl.DataFrame", metadata: dict[str, str] | None = None) -> bytes:
    """Return a table as the bytes of a Parquet file, with texts of its own in the file's metadata."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, metadata=metadata)
    return buffer.getvalue()


def write_frame(path: Path, frame: "pl.DataFrame", metadata: dict[str, str] | None = None) -> None:
    """Write a table as Parquet atomically."""
    write_bytes(path, frame_bytes(frame, metadata))


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Build the error for an output that the system refused, with what helps against that."""
    return OutputError(f"cannot write {path}: {error.strerror or error}", hint=_HELPS.get(error.errno or 0, _OTHER))


_KEPT = "what was finished before is kept and is reused"
_OTHER = f"choose another --out; {_KEPT}"
_HELPS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"free space or choose another --out; {_KEPT}"),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM), f"it is read-only to you: copy it, or choose another --out; {_KEPT}"
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EISDIR, errno.EEXIST), f"something else stands there: choose another --out; {_KEPT}"
    ),
    **dict.fromkeys(
        (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP),
        "its file system keeps no locks: choose an --out on a local disk, or mount it with locks",
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "too many files are open: raise `ulimit -n`"),
}
"""Error number → what to do about it."""
