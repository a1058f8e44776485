"""Grades beside a store's sealed parts, and the labelled rows that they give."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError, NotFoundError, unknown
from relope.provenance import write_frame
from relope.store.format.layout import grades_folder, grades_path
from relope.store.reader import ActivationStore
from relope.types import Grade

TRACES = ("traces_direct", "traces_chain")
"""Columns of sampled answers; a store has them when it was extracted with samples."""

PARSED_COLUMNS = ("id", "parsed", "parse_status", "parsed_direct", "parsed_chain")
"""Columns of a table of grades that hold what the grader read in the answers."""

Judge = Callable[[str, Sequence[str], Sequence[str]], Grade]
"""Grades a response, given the gold answers and the choices."""


def write_grades(store: ActivationStore, grader: str, version: str, judge: Judge) -> tuple[Path, pl.DataFrame]:
    """Grade every answer of a store; return the file and its table."""
    table = store.samples
    grades = [
        judge(response, answers, choices)
        for response, answers, choices in table.select("response", "answers", "choices").iter_rows()
    ]
    graded = table.select("id", "split").with_columns(
        pl.Series("correct", [grade.correct for grade in grades], pl.Boolean),
        pl.Series("parsed", [grade.parsed for grade in grades], pl.String),
        pl.Series("parse_status", [grade.parse_status for grade in grades], pl.String),
    )
    for column in TRACES:
        if column in table.columns:
            graded = graded.with_columns(
                pl.Series(f"parsed_{column.removeprefix('traces_')}", _parsed_traces(table, column, judge))
            )
    path = grades_path(store.path, grader, version)
    write_frame(path, graded)
    return path, graded


def _parsed_traces(table: pl.DataFrame, column: str, judge: Judge) -> list[list[str]]:
    """Return what the grader parses from each sampled trace; "" where it parses nothing."""
    return [
        [judge(trace, answers, choices).parsed for trace in traces or ()]
        for traces, answers, choices in table.select(column, "answers", "choices").iter_rows()
    ]


def read_grades(store: ActivationStore, asked: str | None) -> pl.DataFrame:
    """Return the grades of a grader, or the newest.

    Args:
        store: the opened store.
        asked: ``grader@version``, or None for the newest file.

    Raises:
        NotFoundError: the store has no such grades, or none at all.
    """
    files = {path.stem: path for path in grades_folder(store.path).glob("*.parquet")}
    if not files:
        raise NotFoundError(f"{store.label} has no grades yet", hint=f"`relope grade --store {store.label}` makes them")
    if asked is not None and asked not in files:
        raise unknown("grades", asked, files, f"`relope grade --store {store.label} --grader …` makes them")
    path = files[asked] if asked else max(files.values(), key=lambda file: (file.stat().st_mtime_ns, file.name))
    return pl.read_parquet(path)


def apart(store: ActivationStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which rows share no image with a row that was not asked for.

    An image that is in the training and in another split would let a probe learn what it is tested on.
    """
    groups = store.samples["group"].to_numpy()
    others = np.delete(groups, rows)
    return ~np.isin(groups[rows], others)


def rows_of(store: ActivationStore, splits: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the rows of some splits, in the store's order.

    Raises:
        NotFoundError: the store holds no sample of a split.
    """
    known = store.samples["split"].unique().sort().to_list()
    splits = [name for split in splits for name in _unfolded(split, known)]
    for split in splits:
        if split not in known:
            raise unknown(f"split of {store.label}", split, known, f"extract it: relope extract --split {split} …")
    return store.samples.filter(pl.col("split").is_in(list(splits)))["row"].to_numpy().astype(np.int64)


def _unfolded(split: str, known: Sequence[str]) -> Sequence[str]:
    """Return the splits that a name stands for: in a store of folds, test is fold 0 and train the rest."""
    folds = [name for name in known if name.startswith("fold-")]
    if split in known or not folds or split not in ("train", "test"):
        return [split]
    return [name for name in folds if (name == "fold-0") == (split == "test")] or [split]


def labelled(
    store: ActivationStore, splits: Sequence[str], asked: str | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return ``[N]`` rows of some splits, and ``[N]`` whether each answer is correct.

    Raises:
        InvalidInputError: some samples have no grade.
    """
    rows = rows_of(store, splits)
    joined = _joined(store.samples[rows].select("id"), read_grades(store, asked).select("id", "correct"))
    if ungraded := joined.filter(pl.col("correct").is_null())["id"].to_list():
        raise InvalidInputError(
            f"{len(ungraded)} of {len(joined)} samples of {store.label} have no grade (first: {ungraded[0]})",
            hint=f"`relope grade --store {store.label}` grades them",
        )
    return rows, joined["correct"].to_numpy()


def parsed_answers(store: ActivationStore, rows: npt.NDArray[np.int64], asked: str | None) -> pl.DataFrame | None:
    """Return what the grader read in each answer, one row a sample in the order of ``rows``.

    Its columns are those of ``PARSED_COLUMNS`` that the grades have. None where the store is not graded
    and no grader was asked for.
    """
    if asked is None and not any(grades_folder(store.path).glob("*.parquet")):
        return None
    graded = read_grades(store, asked)
    wanted = graded.select([name for name in PARSED_COLUMNS if name in graded.columns])
    return _joined(store.samples[rows].select("id"), wanted)


def correct_of(
    other: ActivationStore, ids: Sequence[str], grades: str | None = None, what: str = "large"
) -> npt.NDArray[np.bool_]:
    """Return ``[len(ids)]`` whether the model of another store is correct on the samples of these ids.

    Args:
        other: a store that has them too.
        ids: samples.
        grades: ``grader@version`` of its grades; None = the newest.
        what: what a message calls that store.

    Raises:
        InvalidInputError: that store lacks some of them.
    """
    asked = pl.DataFrame({"id": list(ids)}, schema={"id": pl.String})
    joined = _joined(asked, read_grades(other, grades).select("id", "correct"))
    if absent := joined.filter(pl.col("correct").is_null())["id"].to_list():
        raise InvalidInputError(
            f"the {what} store {other.label} lacks {len(absent)} of {len(joined)} samples (first: {absent[0]})",
            hint="extract the same data set, split and limit into it",
        )
    return joined["correct"].to_numpy()


def _joined(ids: pl.DataFrame, grades: pl.DataFrame) -> pl.DataFrame:
    """Return the grades of some ids, in their order; nulls where there is none."""
    return ids.join(grades, on="id", how="left", maintain_order="left")
