"""``samples.parquet``: one row a sample, as the caller gave it, plus three columns of ours.

``first_token`` and ``n_tokens`` (first token row within the part, number of rows) and ``content``
(sha256 of the sample's rows, see `relope.store.format.content`).
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from relope.errors import InvalidInputError, StoreError
from relope.provenance import file_digest
from relope.seals import check_rows, first_line
from relope.store.format.commit import read_commit
from relope.store.format.layout import COMMIT, REMAKE, SAMPLES, guard, part_folder, part_id

OURS = {"first_token": pl.Int64, "n_tokens": pl.Int64, "content": pl.String}
"""Columns that the writer adds."""

RESERVED = frozenset({*OURS, "row", "part"})
_ADVICE = "keep the rest as JSON text"
_MAX_TOKENS = 1 << 40


def samples_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return a part's rows as the table that is saved.

    Raises:
        InvalidInputError: a column mixes types or is nested: keep such values as JSON text.
    """
    allowed = "a column holds text, numbers, booleans or lists of one of them"
    try:
        frame = pl.DataFrame(rows, infer_schema_length=None, schema_overrides=OURS)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise InvalidInputError(f"sample rows do not fit a table: {error}; {allowed}", hint=_ADVICE) from error
    for name, dtype in frame.schema.items():
        innermost: Any = dtype
        while isinstance(innermost, pl.List):
            innermost = innermost.inner
        if innermost in (pl.Struct, pl.Object):
            raise InvalidInputError(f"sample column {name!r} holds {dtype}; {allowed}", hint=_ADVICE)
    return frame


def write_samples(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a part's samples; the same rows give the same bytes."""
    samples_frame(rows).write_parquet(
        folder / SAMPLES, compression="zstd", compression_level=3, statistics=True, row_group_size=65_536
    )


def read_samples(store: Path, part: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return a part's samples, after checking the columns that say where the rows lie.

    Raises:
        StoreError: the file is missing or damaged, or its offsets are not what a writer would write.
    """
    path = guard(store, part_folder(store, part) / SAMPLES)
    damaged = f"{path.relative_to(store)} in {store} is damaged"
    status = path.stat()
    record = read_commit(store, part).files[SAMPLES]
    if _digest_of(path, status.st_size, status.st_mtime_ns, status.st_ino) != record.sha256:
        raise StoreError(f"{damaged}: its sha256 is not the one in {COMMIT}", hint=REMAKE)
    check_rows(path, f"{path.relative_to(store)} in {store}")
    try:
        frame = pl.read_parquet(path, columns=list(columns) if columns else None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise StoreError(f"{damaged}: {first_line(error)}") from error
    for name, dtype in {"id": pl.String, **OURS}.items():
        if columns is not None and name not in columns:
            continue
        if frame.schema.get(name) != dtype or frame[name].null_count():
            raise StoreError(f"{damaged}: column {name!r} is absent, holds nulls or is no {dtype}")
    if frame.is_empty() or (columns is None and not _offsets_agree(frame)):
        raise StoreError(f"{damaged}: first_token and n_tokens do not follow one another")
    return frame


def read_part(store: Path, recipe_id: str, part: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Return a part's samples, after making sure that they are the part's own.

    Labels of other samples would otherwise stand beside these states, and nothing would look wrong.

    Args:
        store: the store's folder.
        recipe_id: of the store, which part ids are made with.
        part: part id.
        columns: what to read, with at least ``id``; None is all.

    Raises:
        StoreError: the file is damaged, or its samples do not hash to the part's id.
    """
    frame = read_samples(store, part, columns)
    if part_id(recipe_id, frame["id"].to_list()) != part:
        raise StoreError(f"the samples of part {part} in {store} do not hash to its id: they are another part's")
    return frame


@functools.lru_cache(maxsize=4096)
def _digest_of(path: Path, size: int, changed_ns: int, inode: int) -> str:
    """Return the sha256 of a file, taken once for each version of it."""
    return file_digest(path)


def _offsets_agree(frame: pl.DataFrame) -> bool:
    n_tokens = frame["n_tokens"].to_numpy()
    if not n_tokens.any():  # answers alone: no row of any array is theirs
        return not frame["first_token"].to_numpy().any()
    if n_tokens.min() < 1 or n_tokens.max() > _MAX_TOKENS // len(frame):
        return False
    return np.array_equal(frame["first_token"].to_numpy(), np.cumsum(n_tokens) - n_tokens)
