"""Verdicts that no grader gave: what people say of a store's answers, or the tool that an answer comes from.

They are kept as grades, ``human@1`` and ``imported@1``. Where people have only corrected a grader, ``human@1`` holds
its grade of every other answer, and the column ``by`` says which is whose.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from relope.store.grade_files import Grades, orders
from relope.store.grade_names import grades_path
from relope.store.grades import keep_grades, read_grades
from relope.store.reader import ActivationStore

HUMAN, VERSION = "human", "1"
LABELS = f"{HUMAN}@{VERSION}"
IMPORTED = f"imported@{VERSION}"
BY = "by"
"""Column of corrected grades: ``human``, or the ``grader@version`` whose grade stands."""


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
    known = {} if is_new else said_by_people(read_grades(store, name).table)
    merged = {**known, **labels}
    said = pl.Series("correct", [merged.get(name) for name in read["id"]], pl.Boolean)
    table, path = read.with_columns(said), grades_path(store.path, *name.rsplit("@", 1))
    return path, table, keep_grades(store, path, table, count=is_new)


def said_by_people(table: pl.DataFrame) -> dict[str, bool | None]:
    """Return id → verdict of a table of labels; of corrected grades, of those alone that people gave."""
    given = table.filter(pl.col(BY) == HUMAN) if BY in table.columns else table
    return dict(given.select("id", "correct").iter_rows())


def corrected_grader(table: pl.DataFrame) -> str:
    """Return the ``grader@version`` that people have corrected in a table of grades; ``""`` where there is none."""
    if BY not in table.columns:
        return ""
    return next(iter(table.filter(pl.col(BY) != HUMAN)[BY]), "")


def correct_by_hand(store: ActivationStore, graded: Grades, said: Mapping[str, bool | None]) -> Path:
    """Keep what people say of some answers as ``human@1``, and of all others what a grader says; return the file.

    The file is made anew from the grader's grades each time, with all that people have said so far. It counts only
    once `grade` lets it. Labels that came with the data stay what they are, and are added to.

    Args:
        store: the opened store.
        graded: the grades that are corrected; not ``human@1`` itself.
        said: id → whether the answer is right; None takes back what was said.
    """
    labels = read_grades(store, LABELS).table if has_labels(store) else None
    path = grades_path(store.path, HUMAN, VERSION)
    if labels is not None and BY not in labels.columns:
        write_labels(store, said, labels)
    else:
        given = {**({} if labels is None else said_by_people(labels)), **said}
        kept = {name: correct for name, correct in given.items() if correct is not None}
        verdicts = [(kept.get(name, theirs), HUMAN if name in kept else graded.name)
                    for name, theirs in graded.table.select("id", "correct").iter_rows()]  # fmt: skip
        columns = pl.DataFrame(verdicts, schema={"correct": pl.Boolean, BY: pl.String}, orient="row")
        keep_grades(store, path, graded.table.with_columns(*columns), count=False)
    store.save(f"{path.parent.name}/{path.name}")
    return path


def count_labels(store: ActivationStore) -> tuple[Path, pl.DataFrame, bool]:
    """Let the labels of a store count, whatever counted before; return as `write_labels`."""
    path, table = grades_path(store.path, HUMAN, VERSION), read_grades(store, LABELS).table
    return path, table, keep_grades(store, path, table, count=True)
