"""Which samples a router learns from: several stores, some data sets left out, equal caps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError, unknown
from relope.places import store_ref
from relope.store import ActivationStore, RowReader, StoreUnion, open_store
from relope.store.grades import apart, labelled, parsed_answers

Rows = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]
MARKS = ASKED, CORRECT, ALONE = "asked", "correct", "alone"
"""Columns beside what a grader read: in a split that is asked for, right, no image in a split that is not."""


@dataclass(frozen=True)
class Selection:
    """What a fit asks of its stores.

    Attributes:
        stores: folders or URIs; a store that comes twice counts once.
        splits: splits to learn from.
        grades: grader@version of the grades; None = the newest.
        leave_out: data sets whose samples are not learned from.
        cap: at most so many samples of each data set, whole groups.
        seed: decides which groups a cap keeps.
        keep_rows: keep what has one row a sample once it was read, for many fits on the same samples.
    """

    stores: Sequence[str]
    splits: Sequence[str]
    grades: str | None
    leave_out: Sequence[str] = ()
    cap: int | None = None
    seed: int = 0
    keep_rows: bool = False


@dataclass(frozen=True)
class TrainingRows:
    """What a fit learns from.

    Attributes:
        store: one store, or several joined.
        rows: ``[N]`` row numbers in it.
        correct: ``[N]`` whether the small model is right.
        parsed: what the grader read in each answer, one row a sample.
        n_shared: samples left out since their image is in another split.
    """

    store: RowReader
    rows: Rows
    correct: Marks
    parsed: pl.DataFrame
    n_shared: int

    @property
    def ids(self) -> list[str]:
        """``[N]`` ids of the samples."""
        return self.store.samples[self.rows]["id"].to_list()


def training_rows(asked: Selection) -> TrainingRows:
    """Return the store, rows and grades that a fit learns from.

    Raises:
        InvalidInputError: the stores do not belong together, or nothing is left to learn from.
        NotFoundError: a data set to leave out is in none of the stores.
    """
    refs = dict.fromkeys(str(store_ref(ref)) for ref in asked.stores)
    stores = [open_store(ref, keep_rows=asked.keep_rows) for ref in refs]
    store: RowReader = stores[0] if len(stores) == 1 else StoreUnion(stores)
    graded = pl.concat([_graded(part, asked) for part in stores], how="diagonal_relaxed")[_order(store)]
    rows = np.flatnonzero(graded[ASKED])
    graded, table = graded[rows], store.samples[rows]
    kept = graded[ALONE].to_numpy() & _not_left_out(table, asked.leave_out)
    if asked.cap is not None:
        kept &= capped(table, kept, asked.cap, asked.seed)
    correct, n_shared = graded[CORRECT].to_numpy()[kept], int((~graded[ALONE]).sum())
    return TrainingRows(store, rows[kept], correct, graded[np.flatnonzero(kept)].drop(MARKS), n_shared)


def _graded(store: ActivationStore, asked: Selection) -> pl.DataFrame:
    """Return what the grader read in each answer of a store, one row a sample in its order, with `MARKS`."""
    parsed = parsed_answers(store, np.arange(len(store)), asked.grades)
    rows, correct = labelled(store, asked.splits, asked.grades)
    assert parsed is not None  # a store without grades has no labelled rows
    marks = np.zeros((len(MARKS), len(store)), bool)
    marks[:, rows] = np.ones(len(rows), bool), correct, apart(store, rows)
    return parsed.with_columns(pl.Series(name, column) for name, column in zip(MARKS, marks, strict=True))


def _order(store: RowReader) -> Rows:
    """Return for each row where it stands when the rows of all its stores are put one after another."""
    if not isinstance(store, StoreUnion):
        return np.arange(len(store))
    starts = np.cumsum([0, *(len(part) for part in store.stores)])
    number, local = store.origin()
    return np.asarray(starts[number] + local)


def _not_left_out(table: pl.DataFrame, left_out: Sequence[str]) -> Marks:
    datasets = table["dataset"].unique().sort().to_list()
    for name in left_out:
        if name not in datasets:
            raise unknown("data set to leave out", name, datasets)
    kept = ~table["dataset"].is_in(list(left_out)).to_numpy()
    if not kept.any():
        raise InvalidInputError(f"nothing is left to learn from without {','.join(left_out)} (there is: {datasets})")
    return np.asarray(kept)


def capped(table: pl.DataFrame, kept: Marks, cap: int, seed: int) -> Marks:
    """Return ``[N]`` which samples stay when each data set may give at most ``cap``.

    Groups are drawn at random and never cut; the draw of a smaller cap is part of that of a larger one.
    """
    stays = np.zeros(len(table), bool)
    datasets, groups = table["dataset"].to_numpy(), table.select(pl.coalesce("group", "id"))["group"].to_numpy()
    for number, name in enumerate(sorted(set(datasets[kept]))):
        inside = np.flatnonzero(kept & (datasets == name))
        names, inverse, counts = np.unique(groups[inside].astype(str), return_inverse=True, return_counts=True)
        order = np.random.default_rng([seed, number]).permutation(len(names))
        chosen = np.zeros(len(names), bool)
        chosen[order[np.cumsum(counts[order]) <= cap]] = True
        stays[inside[chosen[inverse]]] = True
    return stays
