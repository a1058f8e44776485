"""Grades beside a store's sealed parts, and the labelled rows that they give."""

import functools
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.asked import AskedOtherwise, asked_column, first_difference
from relope.errors import InvalidInputError, NotFoundError, StoreError, nearest, unknown, unknown_split
from relope.store.grade_files import (
    Grades,
    bare_grader,
    grader_flags,
    highest,
    orders,
    read_grades_file,
    write_grades_file,
)
from relope.store.grade_names import grades_name, grades_path, is_judge
from relope.store.reader import ActivationStore
from relope.types import Grade

log = logging.getLogger(__name__)

TRACES = ("traces_direct", "traces_chain")
"""Columns of sampled answers; a store has them when it was extracted with samples."""

PARSED_COLUMNS = ("id", "parsed", "parse_status", "parsed_direct", "parsed_chain")
"""Columns of a table of grades that hold what the grader read in the answers."""

Judge = Callable[[str, Sequence[str], Sequence[str], str], Grade]
"""Grades a response, given the gold answers, the choices and why the model stopped (`Generation.finish_reason`)."""


def write_grades(
    store: ActivationStore, grader: str, version: str, judge: Judge, *, count: bool = True
) -> tuple[Path, pl.DataFrame, bool]:
    """Grade every answer of a store; return the file, its table, and whether anything was written.

    Nothing is written where the file says the same already and counts, or need not.

    Args:
        store: the opened store.
        grader: CLI name.
        version: of the grader.
        judge: grades one response.
        count: let these grades be the ones that count; False leaves that as it is, unless there are none yet
            or only those of another version of the grader.
    """
    graded = judged_table(store, judge)
    path = grades_path(store.path, grader, version)
    return path, graded, keep_grades(store, path, graded, count)


def judged_table(store: ActivationStore, judge: Judge) -> pl.DataFrame:
    """Return what a grader says of every answer of a store: the table of its grades, which is not written here."""
    table = some_samples(store)
    _check_answers(store, table)
    stops = table["finish_reason"] if "finish_reason" in table.columns else [""] * len(table)
    grades = [
        judge(response, answers or (), choices or (), stop or "")
        for (response, answers, choices), stop in zip(
            table.select("response", "answers", "choices").iter_rows(), stops, strict=True
        )
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
    return graded


def _check_answers(store: ActivationStore, table: pl.DataFrame) -> None:
    """Refuse answers of which nothing but verdicts was imported: an empty one would be judged wrong.

    Raises:
        InvalidInputError: a response is null.
    """
    lacking = table.filter(pl.col("response").is_null())["id"]
    if len(lacking):
        raise InvalidInputError(
            f"{len(lacking)} of {len(table)} answers of {store.label} are not there, only verdicts on them "
            f"(first: {lacking[0]}); they cannot be judged anew"
        )


def keep_grades(store: ActivationStore, path: Path, graded: pl.DataFrame, count: bool) -> bool:
    """Write a table of grades and its place in the order, unless that changes nothing; return whether it did.

    Args:
        store: the opened store.
        path: of its file.
        graded: one row a sample.
        count: as `write_grades`.
    """
    known, name, top = orders(store.path), grades_name(path.stem), counting(store)
    order = known.get(name, 0)
    count |= top is None or (name not in known and bare_grader(top) == bare_grader(name))
    if count and (top != name or not order):
        order = max(known.values(), default=0) + 1
    if known.get(name) == order and read_grades_file(store.path, path).same_rows(graded):
        return False
    write_grades_file(store.path, path, Grades(name, graded, order))
    return True


def counting(store: ActivationStore) -> str | None:
    """Return ``grader@version`` of the grades that count when none are named: those that `grade` set last.

    None where a store is not graded. Where several files carry no order, since an older relope wrote them, a
    warning names the one that counts.
    """
    known = orders(store.path)
    if len(known) < 2:
        return next(iter(known), None)
    name = highest(known, store.manifest.grader)
    if not known[name]:
        _warn_of_no_order(store.label, ", ".join(sorted(known)), name)
    return name


@functools.cache  # once a process and store
def _warn_of_no_order(label: str, names: str, name: str) -> None:
    log.warning("%s: the grades %s were written by an older relope, which kept no order; %s count", label, names, name)


def _parsed_traces(table: pl.DataFrame, column: str, judge: Judge) -> list[list[str]]:
    """Return what the grader parses from each sampled trace; "" where it parses nothing."""
    return [
        [judge(trace, answers, choices, "").parsed for trace in traces or ()]
        for traces, answers, choices in table.select(column, "answers", "choices").iter_rows()
    ]


def read_grades(store: ActivationStore, asked: str | None) -> Grades:
    """Return the grades of a grader, or those that count.

    Args:
        store: the opened store.
        asked: ``grader@version``, or None for those that `grade` set last.

    Raises:
        NotFoundError: the store has no such grades, or none at all.
        StoreError: a file is damaged.
    """
    name = asked or counting(store)
    if name is None:
        some_samples(store)
        raise NotFoundError(f"{store.label} has no grades yet", hint=f"`relope grade --store {store.label}` makes them")
    if name not in (known := orders(store.path)):
        raise unknown("grades", name, known, f"`relope grade --store {store.label} --grader …` makes them")
    return read_grades_file(store.path, grades_path(store.path, *name.rsplit("@", 1)))


def apart(
    store: ActivationStore, rows: npt.NDArray[np.int64], asked: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.bool_]:
    """Return which rows share no image with a row that was not asked for, labelled or not.

    An image that is in the training and in another split would let a probe learn what it is tested on.
    """
    groups = store.samples["group"].to_numpy()
    others = np.delete(groups, rows if asked is None else asked)
    return ~np.isin(groups[rows], others)


def some_samples(store: ActivationStore) -> pl.DataFrame:
    """Return the samples of a store.

    Raises:
        NotFoundError: there is none: the extraction ended before its first part was sealed.
    """
    if not len(store):
        raise NotFoundError(
            f"{store.label} holds no finished sample: its extraction was interrupted, or every sample was skipped",
            hint="run the same `relope extract` again; it goes on from there",
        )
    return store.samples


def rows_of(store: ActivationStore, splits: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the rows of some splits, in the store's order.

    Raises:
        NotFoundError: the store holds no sample of a split.
    """
    _check_named(store)
    counts = split_counts(store)
    splits = [name for split in splits for name in _unfolded(split, list(counts))]
    for split in splits:
        if split not in counts:
            raise unknown_split(store.label, split, counts, _choose_split(store, split, counts))
    return store.samples.filter(pl.col("split").is_in(list(splits)))["row"].to_numpy().astype(np.int64)


def split_counts(store: ActivationStore) -> dict[str, int]:
    """Return split → how many samples of it a store holds.

    Raises:
        NotFoundError: the store holds no sample at all.
    """
    return dict(some_samples(store)["split"].value_counts().sort("split").iter_rows())


def _choose_split(store: ActivationStore, split: str, there: Collection[str]) -> str:
    """Return what who asked for a split that is not there can do."""
    choose = "choose one or more of those with --split"
    are_folds = any(name.startswith("fold-") for name in there)  # of all that its data set has
    if nearest(split, there) or are_folds or store.is_remote:
        return choose
    if store.manifest.identity.of_own_file:
        return f"{choose}, or give rows of the data file the split {split!r} and extract it into a new --out"
    again = f"`relope extract --split {split}` with the flags that `relope store info {store.label}` shows adds it"
    return f"{choose}; where the data set has it, {again}"


def _check_named(store: ActivationStore) -> None:
    """Refuse samples that say nothing, or no text, of where they belong.

    Raises:
        StoreError: a split or a data set is null.
    """
    for name in {"split", "dataset"} & set(store.samples.columns):
        column = store.samples[name]
        if len(column) and (column.dtype != pl.String or column.null_count()):
            n = column.null_count() or len(column)
            raise StoreError(f"{n:,} of {len(column):,} samples of {store.label} have no {name}", hint="extract again")


def names_split(split: str, there: Collection[str]) -> bool:
    """Return whether a name is that of a split that is there, or stands for some."""
    return all(name in there for name in _unfolded(split, sorted(there)))


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

    Samples that were graded but of which nobody knows the right answer are left out, and their number is told.

    Raises:
        InvalidInputError: some samples have no grade, or all are without a gold answer.
    """
    rows, graded = rows_of(store, splits), read_grades(store, asked)
    table = graded.table.select("id", "correct").with_columns(graded=pl.lit(True))
    joined = _joined(store.samples[rows].select("id"), table)
    if ungraded := joined.filter(pl.col("graded").is_null())["id"].to_list():
        raise InvalidInputError(
            f"{len(ungraded)} of {len(joined)} samples of {store.label} have no grade by {graded.name} "
            f"(first: {ungraded[0]})",
            hint=_grade_them(store, graded.name),
        )
    known = joined["correct"].is_not_null().to_numpy()
    if not known.any():
        raise InvalidInputError(
            f"none of the {len(joined)} samples of {store.label} ({', '.join(splits)}) is labelled: {graded.name} had "
            "no gold answers, and fit and evaluate need to know which answers are right",
            hint="add a column correct (true or false) to the data and run the same extract again, or `relope grade "
            f"--store {store.label} --grader FILE.py:function`; `relope predict` needs no labels",
        )
    if not known.all():
        _warn_of_unlabelled(store.label, int((~known).sum()), len(known), ", ".join(splits))
    return rows[known], joined["correct"].to_numpy()[known].astype(bool)


@functools.cache  # once a process, store and splits
def _warn_of_unlabelled(label: str, n: int, of: int, splits: str) -> None:
    log.warning("%s: %d of %d samples (%s) have no label and are left out", label, n, of, splits)


def _grade_them(store: ActivationStore, name: str) -> str:
    """Return how the samples that lack a grade get one."""
    grader = bare_grader(name)
    if grader == "human":
        return "label them in the data's column correct and run the same extract again"
    if "." in grader and not is_judge(grader):  # a function of the user's: file and function
        return f"`relope grade --store {store.label} --grader FILE.py:function`, the function of {grader}, grades them"
    return f"`relope grade --store {store.label} {grader_flags(name)}` grades them"


def parsed_answers(store: ActivationStore, rows: npt.NDArray[np.int64], asked: str | None) -> pl.DataFrame | None:
    """Return what the grader read in each answer, one row a sample in the order of ``rows``.

    Its columns are those of ``PARSED_COLUMNS`` that the grades have. None where the store is not graded
    and no grader was asked for.
    """
    if asked is None and counting(store) is None:
        return None
    graded = read_grades(store, asked).table
    wanted = graded.select([name for name in PARSED_COLUMNS if name in graded.columns])
    return _joined(store.samples[rows].select("id"), wanted)


def correct_of(
    other: ActivationStore,
    samples: pl.DataFrame,
    grades: str | None = None,
    what: str = "large",
    free: Collection[str] = (),
) -> npt.NDArray[np.bool_]:
    """Return ``[N]`` whether the model of another store is correct on some samples.

    Args:
        other: a store that has them too.
        samples: ``[N]`` rows of the first store.
        grades: ``grader@version`` of the other's grades; None = those that count.
        what: what a message calls that store.
        free: parts of what was asked that may differ.

    Raises:
        InvalidInputError: that store lacks some of them, or was asked something else under their ids.
    """
    joined = _joined(samples.select("id"), read_grades(other, grades).table.select("id", "correct"))
    if absent := joined.filter(pl.col("correct").is_null())["id"].to_list():
        raise InvalidInputError(
            f"the {what} store {other.label} lacks {len(absent)} of {len(joined)} samples (first: {absent[0]})",
            hint="extract the same data set, split and limit into it",
        )
    if differs := first_difference(_asked(samples), _asked(other.samples), free) or _other_gold(samples, other.samples):
        raise InvalidInputError(
            f"the {what} store {other.label} holds other samples under {differs.n} of {len(joined)} ids: {differs}",
            hint="extract the same data set into it",
        )
    return joined["correct"].to_numpy()


def _asked(samples: pl.DataFrame) -> pl.DataFrame:
    return samples.select("id", asked_column(samples))


def _other_gold(ours: pl.DataFrame, theirs: pl.DataFrame) -> AskedOtherwise | None:
    """Return the first sample whose gold answers are others: grades by them are no grades of one thing."""
    if "answers" not in ours.columns or "answers" not in theirs.columns:
        return None
    both = ours.select("id", "answers").join(theirs.select("id", other="answers"), on="id", maintain_order="left")
    unequal = both.filter(pl.col("answers") != pl.col("other"))["id"]
    return AskedOtherwise(unequal[0], ("gold answers",), len(unequal)) if len(unequal) else None


def _joined(ids: pl.DataFrame, grades: pl.DataFrame) -> pl.DataFrame:
    """Return the grades of some ids, in their order; nulls where there is none."""
    return ids.join(grades, on="id", how="left", maintain_order="left")
