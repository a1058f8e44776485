"""Which samples a router learns from: several stores, some data sets left out, equal caps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.errors import InvalidInputError, unknown
from relope.places import store_ref
from relope.spec import FitSpec
from relope.store import ActivationStore, RowReader, StoreUnion
from relope.store.grades import apart, labelled, verdicts_of


@dataclass(frozen=True)
class Training:
    """What a fit learns from.

    Attributes:
        store: one store, or several joined.
        rows: ``[N]`` row numbers in it.
        correct: ``[N]`` verdicts.
        n_shared: samples left out since their picture is in another split.
    """

    store: RowReader
    rows: npt.NDArray[np.int64]
    correct: npt.NDArray[np.bool_]
    n_shared: int


def training_samples(spec: FitSpec) -> Training:
    """Return the store, rows and verdicts that a fit learns from.

    Raises:
        InvalidInputError: the stores do not belong together, or nothing is left to learn from.
        NotFoundError: a data set to leave out is in none of the stores.
    """
    stores = [
        ActivationStore.open(path) for path in dict.fromkeys([spec.store, *(str(store_ref(ref)) for ref in spec.also)])
    ]
    found = [_marked(store, *labelled(store, spec.split, spec.grades)) for store in stores]
    store: RowReader = stores[0] if len(stores) == 1 else StoreUnion(stores)
    places = _places(store)
    asked, correct, alone = (np.concatenate(column)[places] for column in zip(*found, strict=True))
    rows = np.flatnonzero(asked)
    correct, alone = correct[rows], alone[rows]
    table = store.samples[rows]
    kept = alone & _not_left_out(table, spec.leave_out)
    if spec.cap is not None:
        kept &= capped(table, kept, spec.cap, spec.seed)
    return Training(store, rows[kept], correct[kept], int((~alone).sum()))


def _marked(
    store: ActivationStore, rows: npt.NDArray[np.int64], correct: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], ...]:
    """Return for every sample of a store ``[N]``: asked for, right, no picture in a split not asked for."""
    marks = tuple(np.zeros(len(store), bool) for _ in range(3))
    for column, values in zip(marks, (True, correct, apart(store, rows)), strict=True):
        column[rows] = values
    return marks


def _places(store: RowReader) -> npt.NDArray[np.int64]:
    """Return for each row where it stands when the rows of all its stores are put one after another."""
    if not isinstance(store, StoreUnion):
        return np.arange(len(store))
    starts = np.cumsum([0, *(len(one) for one in store.stores)])
    number, local = store.origin()
    return np.asarray(starts[number] + local)


def training_verdicts(store: RowReader, rows: npt.NDArray[np.int64], grades: str | None) -> pl.DataFrame | None:
    """Return what the graders read in each answer, also where several stores are joined."""
    if isinstance(store, ActivationStore):
        return verdicts_of(store, rows, grades)
    stores = store.stores if isinstance(store, StoreUnion) else ()
    found = [verdicts_of(one, np.arange(len(one)), grades) for one in stores]
    known = [table for table in found if table is not None]
    return pl.concat(known, how="diagonal_relaxed")[_places(store)[rows]] if len(known) == len(found) else None


def _not_left_out(table: pl.DataFrame, left_out: Sequence[str]) -> npt.NDArray[np.bool_]:
    there = table["dataset"].unique().sort().to_list()
    for name in left_out:
        if name not in there:
            raise unknown("data set to leave out", name, there)
    kept = ~table["dataset"].is_in(list(left_out)).to_numpy()
    if not kept.any():
        raise InvalidInputError(f"--leave-out {','.join(left_out)} leaves nothing to learn from (there is: {there})")
    return np.asarray(kept)


def capped(table: pl.DataFrame, kept: npt.NDArray[np.bool_], cap: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return ``[N]`` which samples stay when each data set may give at most ``cap``.

    Groups are drawn at random and never cut; the draw of a smaller cap is part of that of a larger one.
    """
    stays = np.zeros(len(table), bool)
    datasets, groups = table["dataset"].to_numpy(), table.select(pl.coalesce("group", "id"))["group"].to_numpy()
    for place, name in enumerate(sorted(set(datasets[kept]))):
        inside = np.flatnonzero(kept & (datasets == name))
        names, inverse, counts = np.unique(groups[inside].astype(str), return_inverse=True, return_counts=True)
        order = np.random.default_rng([seed, place]).permutation(len(names))
        fits = np.cumsum(counts[order]) <= cap
        chosen: Any = np.zeros(len(names), bool)
        chosen[order[fits]] = True
        stays[inside[chosen[inverse]]] = True
    return stays
