"""Which samples a router learns from: several stores, some data sets left out, equal caps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.asked import content_keys, images_shown
from relope.errors import InvalidInputError, unknown
from relope.grouped import group_names
from relope.locations import store_ref
from relope.provenance import digest
from relope.store import ActivationStore, RowReader, StoreUnion, open_store
from relope.store.grade_files import bare_grader
from relope.store.grades import apart, labelled, parsed_answers, read_grades, rows_of

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
        grades: grader@version of the grades; None = those that count.
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
        n_shared: samples left out since their image or question is in a split that is not learned from.
        graders: ``grader@version`` that judged each store, named once each; data sets may have their own.
    """

    store: RowReader
    rows: Rows
    correct: Marks
    parsed: pl.DataFrame
    n_shared: int
    graders: tuple[str, ...]

    @property
    def ids(self) -> list[str]:
        """``[N]`` ids of the samples."""
        return self.store.samples[self.rows]["id"].to_list()

    def some(self, stay: Marks) -> "TrainingRows":
        """Return those that are marked in ``[N]``."""
        parsed = self.parsed.filter(stay)
        return replace(self, rows=self.rows[stay], correct=self.correct[stay], parsed=parsed)


def training_rows(asked: Selection, check: Callable[[RowReader], None] = lambda store: None) -> TrainingRows:
    """Return the store, rows and grades that a fit learns from.

    Args:
        asked: which stores and samples.
        check: refuses a store that holds nothing of what is read, before anything is said of splits or grades.

    Raises:
        InvalidInputError: the stores do not belong together, or nothing is left to learn from.
        NotFoundError: a data set to leave out is in none of the stores.
    """
    refs = dict.fromkeys(str(store_ref(ref)) for ref in asked.stores)
    stores = [open_store(ref, keep_rows=asked.keep_rows) for ref in refs]
    store: RowReader = stores[0] if len(stores) == 1 else StoreUnion(stores)
    check(store)
    graders = [read_grades(part, asked.grades).name for part in stores]
    _check_graders(stores, graders)
    tables = [_graded(part, asked.splits, name) for part, name in zip(stores, graders, strict=True)]
    graded = pl.concat(tables, how="diagonal_relaxed")
    graded = graded.with_columns(pl.col(ALONE) & _asked_here_alone(stores, asked.splits))[_order(store)]
    rows = np.flatnonzero(graded[ASKED])
    graded, table = graded[rows], store.samples[rows]
    kept = graded[ALONE].to_numpy() & _not_left_out(table, asked.leave_out)
    if asked.cap is not None:
        kept &= capped(table, kept, asked.cap, asked.seed)
    correct, n_shared = graded[CORRECT].to_numpy()[kept], int((~graded[ALONE]).sum())
    parsed = graded[np.flatnonzero(kept)].drop(MARKS)
    return TrainingRows(store, rows[kept], correct, parsed, n_shared, tuple(dict.fromkeys(graders)))


def _check_graders(stores: Sequence[ActivationStore], graders: Sequence[str]) -> None:
    """Refuse labels of one data set by two graders, or of one grader in two versions.

    Raises:
        InvalidInputError: labels that mean two things; the stores are named.
    """
    seen: dict[str, int] = {}
    for number, (store, name) in enumerate(zip(stores, graders, strict=True)):
        for key in (digest(store.manifest.identity.dataset), bare_grader(name)):
            earlier = seen.setdefault(key, number)
            if graders[earlier] != name:
                raise InvalidInputError(
                    f"{stores[earlier].label} is judged by {graders[earlier]}, {store.label} by {name}: "
                    f"labels of two kinds",
                    hint="`relope grade` both by one grader, or name one that both have with --grades",
                )


def _graded(store: ActivationStore, splits: Sequence[str], grader: str) -> pl.DataFrame:
    """Return what the grader read in each answer of a store, one row a sample in its order, with `MARKS`."""
    parsed = parsed_answers(store, np.arange(len(store)), grader)
    rows, correct = labelled(store, splits, grader)
    assert parsed is not None  # a store without grades has no labelled rows
    marks = np.zeros((len(MARKS), len(store)), bool)
    marks[:, rows] = np.ones(len(rows), bool), correct, apart(store, rows, rows_of(store, splits))
    return parsed.with_columns(pl.Series(name, column) for name, column in zip(MARKS, marks, strict=True))


def _asked_here_alone(stores: Sequence[ActivationStore], splits: Sequence[str]) -> pl.Series:
    """Return which rows of some stores, one after another, ask and show what no row of another split does in any.

    Two data sets may hold the same questions or images, one of them in its training and the other in its test split.
    """
    tables = [store.samples for store in stores]
    asked = [key for table in tables for key in content_keys(table)]
    shown = [images for table in tables for images in images_shown(table)]
    keys = [{key, *images} for key, images in zip(asked, shown, strict=True)]
    learned = np.concatenate([np.isin(np.arange(len(store)), rows_of(store, splits)) for store in stores])
    elsewhere = {key for own, learns in zip(keys, learned, strict=True) if not learns for key in own} - {None}
    return pl.Series([elsewhere.isdisjoint(own) for own in keys], dtype=pl.Boolean)


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
    datasets, groups = table["dataset"].to_numpy(), group_names(table).to_numpy()
    for number, name in enumerate(sorted(set(datasets[kept]))):
        inside = np.flatnonzero(kept & (datasets == name))
        names, inverse, counts = np.unique(groups[inside].astype(str), return_inverse=True, return_counts=True)
        order = np.random.default_rng([seed, number]).permutation(len(names))
        chosen = np.zeros(len(names), bool)
        chosen[order[np.cumsum(counts[order]) <= cap]] = True
        stays[inside[chosen[inverse]]] = True
    return stays
