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
    """

    stores: Sequence[str]
    splits: Sequence[str]
    grades: str | None
    leave_out: Sequence[str] = ()
    cap: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class TrainingRows:
    """What a fit learns from.

    Attributes:
        store: one store, or several joined.
        rows: ``[N]`` row numbers in it.
        correct: ``[N]`` whether the small model is right.
        parsed: what the grader read in each answer, one row a sample; None where nothing is graded.
        n_shared: samples left out since their image is in another split.
    """

    store: RowReader
    rows: Rows
    correct: Marks
    parsed: pl.DataFrame | None
    n_shared: int


def training_rows(asked: Selection) -> TrainingRows:
    """Return the store, rows and grades that a fit learns from.

    Raises:
        InvalidInputError: the stores do not belong together, or nothing is left to learn from.
        NotFoundError: a data set to leave out is in none of the stores.
    """
    stores = [open_store(ref) for ref in dict.fromkeys(str(store_ref(ref)) for ref in asked.stores)]
    marks = [_marks(store, *labelled(store, asked.splits, asked.grades)) for store in stores]
    store: RowReader = stores[0] if len(stores) == 1 else StoreUnion(stores)
    order = _order(store)
    wanted, correct, alone = (np.concatenate(column)[order] for column in zip(*marks, strict=True))
    rows = np.flatnonzero(wanted)
    correct, alone = correct[rows], alone[rows]
    table = store.samples[rows]
    kept = alone & _not_left_out(table, asked.leave_out)
    if asked.cap is not None:
        kept &= capped(table, kept, asked.cap, asked.seed)
    parsed = _parsed(store, stores, rows[kept], asked.grades)
    return TrainingRows(store, rows[kept], correct[kept], parsed, int((~alone).sum()))


def _marks(store: ActivationStore, rows: Rows, correct: Marks) -> tuple[Marks, ...]:
    """Return for every sample of a store ``[N]``: asked for, right, no image in a split not asked for."""
    marks = tuple(np.zeros(len(store), bool) for _ in range(3))
    for column, values in zip(marks, (True, correct, apart(store, rows)), strict=True):
        column[rows] = values
    return marks


def _order(store: RowReader) -> Rows:
    """Return for each row where it stands when the rows of all its stores are put one after another."""
    if not isinstance(store, StoreUnion):
        return np.arange(len(store))
    starts = np.cumsum([0, *(len(part) for part in store.stores)])
    number, local = store.origin()
    return np.asarray(starts[number] + local)


def _parsed(store: RowReader, stores: Sequence[ActivationStore], rows: Rows, grades: str | None) -> pl.DataFrame | None:
    """Return what the graders read in each answer; None unless all stores are graded."""
    if len(stores) == 1:
        return parsed_answers(stores[0], rows, grades)
    known = [table for part in stores if (table := parsed_answers(part, np.arange(len(part)), grades)) is not None]
    if len(known) < len(stores):
        return None
    return pl.concat(known, how="diagonal_relaxed")[_order(store)[rows]]


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
