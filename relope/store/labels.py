"""Verdicts that no grader gave: what people say of a store's answers, or the tool that an answer comes from.

They are kept as grades, ``human@1`` and ``imported@1``.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from relope.store.grade_files import orders
from relope.store.grade_names import grades_path
from relope.store.grades import keep_grades, read_grades
from relope.store.reader import ActivationStore

HUMAN, VERSION = "human", "1"
LABELS = f"{HUMAN}@{VERSION}"
IMPORTED = f"imported@{VERSION}"


def has_labels(store: ActivationStore) -> bool:
    """Return whether people have labelled answers of a store."""
    return LABELS in orders(store.path)


def write_labels(
    store: ActivationStore, labels: Mapping[str, bool | None], read: pl.DataFrame, name: str = LABELS
) -> tuple[Path, pl.DataFrame, bool]:
    """Keep labels as grades; return the file, its table, and whether anything was written.

    They count as soon as they are there; later ones leave what counts as `grade` set it. A sample that is not
    labelled has none, one that is not mentioned keeps what it had.

    Args:
        store: the opened store.
        labels: id → whether people say that the answer is right; None = they do not say.
        read: what a grader read in the answers, one row a sample, with ``id``, ``split`` and ``correct``.
        name: ``grader@version`` that they are kept as.
    """
    is_new = name not in orders(store.path)
    known = {} if is_new else dict(read_grades(store, name).table.select("id", "correct").iter_rows())
    merged = {**known, **labels}
    said = pl.Series("correct", [merged.get(name) for name in read["id"]], pl.Boolean)
    table, path = read.with_columns(said), grades_path(store.path, *name.rsplit("@", 1))
    return path, table, keep_grades(store, path, table, count=is_new)


def count_labels(store: ActivationStore) -> tuple[Path, pl.DataFrame, bool]:
    """Let the labels of a store count, whatever counted before; return as `write_labels`."""
    path, table = grades_path(store.path, HUMAN, VERSION), read_grades(store, LABELS).table
    return path, table, keep_grades(store, path, table, count=True)
