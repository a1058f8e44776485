"""Which samples a router learned from, kept beside it: none of them is a test of it, whatever store it is found in.

A sample is known again by what was asked (question, choices and images; a hint does not make it another one), by its
id within the same data set, or by an image: another question about one that was learned from is no test either. All
are kept as digests, so that a router tells nobody's questions.
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.asked import content_keys, images_shown
from relope.errors import StoreError
from relope.provenance import digest
from relope.seals import opened_frame, read_plain, write_sealed_frame
from relope.store import ActivationStore, RowReader, StoreUnion

LEARNED = "learned.parquet"
"""The file, in a router's folder."""

SCHEMA = {"asked": pl.UInt64(), "named": pl.UInt64(), "shown": pl.UInt64()}
"""Of that file: 64 bits of digests of what was asked, of data set and id, and of images, each column by itself."""

_WITHOUT_IMAGES = {name: SCHEMA[name] for name in ("asked", "named")}
"""Of the file of an older relope."""

Rows = npt.NDArray[np.int64]


def marks_of(store: RowReader, rows: Rows) -> pl.DataFrame:
    """Return the marks of samples by which they are known again elsewhere, columns as in `SCHEMA`.

    Each column is sorted by itself, so that no row tells which sample is which.

    Args:
        store: one store, or several joined.
        rows: ``[N]`` row numbers in it.
    """
    marks, images = _marks(store, rows)
    shown = pl.Series("shown", sorted({image for each in images for image in each}), SCHEMA["shown"])
    columns = [marks["asked"].sort(), marks["named"].sort(), shown]
    longest = max(map(len, columns))
    return pl.DataFrame([column.extend_constant(None, longest - len(column)) for column in columns])


def _marks(store: RowReader, rows: Rows) -> tuple[pl.DataFrame, list[list[int]]]:
    """Return ``[N]`` marks of samples, and those of the images of each."""
    samples = store.samples[rows]
    number = store.origin(rows)[0] if isinstance(store, StoreUnion) else np.zeros(len(rows), np.int64)
    parts = store.stores if isinstance(store, StoreUnion) else (store,)
    data = [digest(part.manifest.identity.get("dataset") or part.recipe_id) for part in parts]
    named = [_bits(f"{data[at]} {name}") for at, name in zip(number, samples["id"], strict=True)]
    asked = [None if key is None else _bits(key) for key in content_keys(samples)]
    marks = pl.DataFrame({"asked": asked, "named": named}, schema=_WITHOUT_IMAGES)
    return marks, [[_bits(image) for image in images] for images in images_shown(samples)]


def _bits(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def write_marks(folder: Path, marks: pl.DataFrame) -> None:
    """Write what a router learned from."""
    write_sealed_frame(folder / LEARNED, marks)


def read_marks(folder: Path) -> pl.DataFrame | None:
    """Return what a router learned from; None where an older relope fitted it.

    Raises:
        StoreError: the file is damaged.
    """
    path = folder / LEARNED
    if not path.is_file():
        return None
    marks = opened_frame(read_plain(path), str(path), hint="fit the router again")
    if dict(marks.schema) == _WITHOUT_IMAGES:
        return marks.with_columns(shown=pl.lit(None, SCHEMA["shown"]))
    if dict(marks.schema) != SCHEMA:
        raise StoreError(f"{path} does not say what a router learned from", hint="fit the router again")
    return marks


def seen_among(marks: pl.DataFrame, store: ActivationStore, rows: Rows) -> npt.NDArray[np.bool_]:
    """Return ``[N]`` which rows of a store are samples that marks are of, or show an image of theirs."""
    own, images = _marks(store, rows)
    known = [own[name].is_in(marks[name].drop_nulls().implode()).fill_null(False) for name in own.columns]
    learned = set(marks["shown"].drop_nulls())
    shown = pl.Series([not learned.isdisjoint(each) for each in images], dtype=pl.Boolean)
    return np.asarray((known[0] | known[1] | shown).to_numpy())
