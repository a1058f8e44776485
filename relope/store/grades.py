"""Verdicts beside a store's sealed parts, and the labelled rows that they give."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError, NotFoundError, unknown
from relope.provenance import write_bytes
from relope.store.format.layout import grades_path
from relope.store.reader import ActivationStore
from relope.types import Grade

TRACES = ("traces_direct", "traces_chain")
"""Columns of sampled answers; a store has them when it was extracted with --samples."""

Judge = Callable[[str, Sequence[str], Sequence[str]], Grade]


def write_grades(store: ActivationStore, grader: str, version: str, judge: Judge) -> tuple[Path, pl.DataFrame]:
    """Judge every answer of a store; return the file and its table."""
    table = store.samples
    verdicts = [
        judge(response, answers, choices)
        for response, answers, choices in table.select("response", "answers", "choices").iter_rows()
    ]
    graded = table.select("id", "split").with_columns(
        pl.Series("correct", [verdict.correct for verdict in verdicts], pl.Boolean),
        pl.Series("parsed", [verdict.parsed for verdict in verdicts], pl.String),
        pl.Series("parse_status", [verdict.parse_status for verdict in verdicts], pl.String),
    )
    for column in TRACES:
        if column in table.columns:
            graded = graded.with_columns(
                pl.Series(f"parsed_{column.removeprefix('traces_')}", _traces(table, column, judge))
            )
    path = grades_path(Path(store.path), grader, version)
    buffer = io.BytesIO()
    graded.write_parquet(buffer)
    write_bytes(path, buffer.getvalue())
    return path, graded


def _traces(table: pl.DataFrame, column: str, judge: Judge) -> list[list[str]]:
    """Return what the grader parses from each sampled trace; "" where it parses nothing."""
    return [
        [judge(trace, answers, choices).parsed for trace in traces or ()]
        for traces, answers, choices in table.select(column, "answers", "choices").iter_rows()
    ]


def read_grades(store: ActivationStore, asked: str | None) -> pl.DataFrame:
    """Return the verdicts of a grader, or the newest there are.

    Args:
        store: the opened store.
        asked: ``grader@version``, or None for the newest file.

    Raises:
        NotFoundError: the store has no such verdicts, or none at all.
    """
    folder = Path(store.path) / "grades"
    found = {path.stem: path for path in folder.glob("*.parquet")}
    if not found:
        raise NotFoundError(f"{store.path} has no verdicts yet; run `relope grade --store {store.path}`")
    if asked is not None and asked not in found:
        raise unknown("verdicts", asked, found, f"`relope grade --store {store.path} --grader …` makes them")
    path = found[asked] if asked else max(found.values(), key=lambda file: (file.stat().st_mtime_ns, file.name))
    return pl.read_parquet(path)


def _unfolded(split: str, there: Sequence[str]) -> Sequence[str]:
    """Return the splits that a name stands for: in a store of folds, test is fold 0 and train the rest."""
    folds = [name for name in there if name.startswith("fold-")]
    if split in there or not folds or split not in ("train", "test"):
        return [split]
    return [name for name in folds if (name == "fold-0") == (split == "test")] or [split]


def apart(store: ActivationStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which rows share no picture with a row that was not asked for.

    A picture that stands in the training and in another split would let a probe learn what it is
    tested on.
    """
    groups = store.samples["group"].to_numpy()
    others = np.delete(groups, rows)
    return ~np.isin(groups[rows], others)


def rows_of(store: ActivationStore, splits: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the rows of some splits, in the store's order.

    Raises:
        NotFoundError: the store holds no sample of a split.
    """
    there = store.samples["split"].unique().sort().to_list()
    splits = [name for split in splits for name in _unfolded(split, there)]
    for split in splits:
        if split not in there:
            raise unknown(f"split of {store.path}", split, there, f"extract it: relope extract --split {split} …")
    return store.samples.filter(pl.col("split").is_in(list(splits)))["row"].to_numpy().astype(np.int64)


def labelled(
    store: ActivationStore, splits: Sequence[str], asked: str | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the rows of some splits and whether each answer was right.

    Raises:
        InvalidInputError: some samples have no verdict.
    """
    rows = rows_of(store, splits)
    chosen = store.samples[rows].select("id")
    joined = chosen.join(read_grades(store, asked).select("id", "correct"), on="id", how="left", maintain_order="left")
    missing = joined.filter(pl.col("correct").is_null())["id"]
    if len(missing):
        raise InvalidInputError(
            f"{len(missing)} of {len(joined)} samples of {store.path} have no verdict (first: {missing[0]}); "
            f"run `relope grade --store {store.path}` again"
        )
    return rows, joined["correct"].to_numpy()


VERDICT_COLUMNS = ("id", "parsed", "parse_status", "parsed_direct", "parsed_chain")


def verdicts_of(store: ActivationStore, rows: npt.NDArray[np.int64], asked: str | None) -> pl.DataFrame | None:
    """Return what the grader read in each answer, one row a sample in the order of ``rows``.

    Its columns are those of ``VERDICT_COLUMNS`` that the verdicts have. None where the store is not
    graded and no grader was asked for.
    """
    if asked is None and not any((Path(store.path) / "grades").glob("*.parquet")):
        return None
    graded = read_grades(store, asked)
    wanted = graded.select([name for name in VERDICT_COLUMNS if name in graded.columns])
    return store.samples[rows].select("id").join(wanted, on="id", how="left", maintain_order="left")


def correct_of(
    other: ActivationStore, ids: Sequence[str], grades: str | None = None, what: str = "large"
) -> npt.NDArray[np.bool_]:
    """Return whether the model of another store is right on the samples of these ids.

    Args:
        other: a store that has them too.
        ids: samples.
        grades: ``grader@version`` of its verdicts; None = the newest.
        what: what a message calls that store.

    Raises:
        InvalidInputError: that store lacks some of them.
    """
    asked = pl.DataFrame({"id": list(ids)}, schema={"id": pl.String})
    found = asked.join(read_grades(other, grades).select("id", "correct"), on="id", how="left", maintain_order="left")
    missing = found.filter(pl.col("correct").is_null())["id"]
    if len(missing):
        raise InvalidInputError(
            f"the {what} store {other.path} lacks {len(missing)} of {len(found)} samples (first: {missing[0]}); "
            "extract the same data set, split and limit into it"
        )
    return found["correct"].to_numpy()
