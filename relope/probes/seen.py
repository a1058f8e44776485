"""Which samples a router learned from, kept beside it: none of them is a test of it, whatever store it is found in.

A sample is known again by what was asked (question, choices and images; a hint does not make it another one), or by
its id within the same data set. Both are kept as digests, so that a router tells nobody's questions.
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.asked import content_keys
from relope.errors import StoreError
from relope.provenance import digest
from relope.seals import opened_frame, read_plain, write_sealed_frame
from relope.store import ActivationStore, RowReader, StoreUnion

LEARNED = "learned.parquet"
"""The file, in a router's folder."""

SCHEMA = {"asked": pl.UInt64(), "named": pl.UInt64()}
"""Of that file: 64 bits of a digest of what was asked, null where nobody knows it, and of data set and id."""

Rows = npt.NDArray[np.int64]


def marks_of(store: RowReader, rows: Rows) -> pl.DataFrame:
    """Return ``[N]`` marks of samples, by which they are known again elsewhere.

    Args:
        store: one store, or several joined.
        rows: ``[N]`` row numbers in it.
    """
    samples = store.samples[rows]
    number = store.origin(rows)[0] if isinstance(store, StoreUnion) else np.zeros(len(rows), np.int64)
    parts = store.stores if isinstance(store, StoreUnion) else (store,)
    data = [digest(part.manifest.identity.get("dataset") or part.recipe_id) for part in parts]
    named = [_bits(f"{data[at]} {name}") for at, name in zip(number, samples["id"], strict=True)]
    asked = [None if key is None else _bits(key) for key in content_keys(samples)]
    return pl.DataFrame({"asked": asked, "named": named}, schema=SCHEMA)


def _bits(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def write_marks(folder: Path, marks: pl.DataFrame) -> None:
    """Write what a router learned from; in no order that tells which sample is which."""
    write_sealed_frame(folder / LEARNED, marks.select(pl.col(name).sort() for name in SCHEMA))


def read_marks(folder: Path) -> pl.DataFrame | None:
    """Return what a router learned from; None where an older relope fitted it.

    Raises:
        StoreError: the file is damaged.
    """
    path = folder / LEARNED
    if not path.is_file():
        return None
    marks = opened_frame(read_plain(path), str(path), hint="fit the router again")
    if dict(marks.schema) != SCHEMA:
        raise StoreError(f"{path} does not say what a router learned from", hint="fit the router again")
    return marks


def seen_among(marks: pl.DataFrame, store: ActivationStore, rows: Rows) -> npt.NDArray[np.bool_]:
    """Return ``[N]`` which rows of a store are samples that marks are of."""
    own = marks_of(store, rows)
    known = [own[name].is_in(marks[name].drop_nulls().implode()).fill_null(False) for name in SCHEMA]
    return np.asarray((known[0] | known[1]).to_numpy())
