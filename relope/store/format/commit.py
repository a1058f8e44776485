"""``COMMIT.json`` of a part, read with suspicion: its names and sizes decide what is copied where."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relope.errors import StoreError
from relope.store.format.layout import COMMIT, META, SAMPLES, THUMBNAILS, part_folder, read_json

_STEP = re.compile(r"[\w][\w.-]*")
_TOP = ("hidden", "last", "answer", "tokens", META, SAMPLES, THUMBNAILS)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """Size and sha256 (hex) of one file of a part."""

    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Commit:
    """What a part consists of.

    Attributes:
        part: part id.
        n_samples: rows of ``samples.parquet``.
        n_tokens: rows of the arrays with one row a token; 0 where there are none.
        files: name below the part → record.
    """

    part: str
    n_samples: int
    n_tokens: int
    files: dict[str, FileRecord]

    @property
    def n_bytes(self) -> int:
        """Bytes of all files."""
        return sum(record.n_bytes for record in self.files.values())


def read_commit(store: Path, part: str) -> Commit:
    """Return a part's commit.

    Raises:
        StoreError: it is missing or damaged, or names a file that no writer would make.
    """
    value = read_json(store, part_folder(store, part) / COMMIT)
    where = f"parts/{part}/{COMMIT} in {store}"
    if not isinstance(value, dict) or value.get("part") != part or not isinstance(value.get("files"), dict):
        raise StoreError(f"{where} is damaged: it must hold the part's id and its files")
    counts: tuple[Any, Any] = (value.get("n_samples"), value.get("n_tokens"))
    files = {name: _record_of_part(name, record, where) for name, record in value["files"].items()}
    if SAMPLES not in files:
        raise StoreError(f"{where} is damaged: it lists no {SAMPLES}")
    fewest = (1, 1 if any("/" in name for name in files) else 0)  # answers alone have no arrays, so no tokens
    if any(type(count) is not int or count < least for count, least in zip(counts, fewest, strict=True)):
        raise StoreError(f"{where} is damaged: n_samples and n_tokens are {counts}")
    return Commit(part, counts[0], counts[1], files)


def _record_of_part(name: str, record: Any, where: str) -> FileRecord:
    steps = name.split("/")
    if not all(_STEP.fullmatch(step) for step in steps) or steps[0] not in _TOP:
        raise StoreError(f"{where} names the file {name!r:.80}, which is none of a part's; nothing was read or written")
    return read_record(name, record, where)


def read_record(name: str, record: Any, where: str) -> FileRecord:
    """Return what a COMMIT.json says of one file.

    Raises:
        StoreError: it is not its size and sha256.
    """
    fields = (record.get("bytes"), record.get("sha256")) if isinstance(record, dict) else (None, None)
    if (
        type(fields[0]) is not int
        or fields[0] < 0
        or not isinstance(fields[1], str)
        or not _SHA256.fullmatch(fields[1])
    ):
        raise StoreError(f"{where} is damaged: bytes and sha256 of {name} are {record!s:.80}")
    return FileRecord(fields[0], fields[1])
