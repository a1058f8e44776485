"""Where the router fails: accuracy, ranking and escalation within parts of the data."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from relope.evaluate.numbers.bootstrap import MANY, bootstrap_auc, ranking_estimate
from relope.evaluate.numbers.estimates import Population
from relope.evaluate.numbers.inputs import ReportInputs
from relope.evaluate.numbers.intervals import Interval
from relope.evaluate.numbers.metrics import Bools, Floats, auc_null_reason
from relope.evaluate.numbers.ranking import rank
from relope.evaluate.numbers.routing import escalation_order, n_escalated

COLUMNS = ("dataset", "kind", "subject", "subfield", "topic", "category", "question_type", "images")
MOST = 40
"""Columns with more distinct values than this are not cut up."""


@dataclass(frozen=True)
class Slice:
    """The samples that share a value of a column.

    Attributes:
        large_accuracy: None when the large model was not run.
        auc: of the best method's first seed within the slice, None with ``auc_null_reason`` where one class is absent.
        ci95: of that AUC.
        escalated: share of the slice among that seed's lowest scores of all, which the budget escalates.
        kept_accuracy: of the small model on what it keeps then, None when nothing is kept.
        system_accuracy: with the large model on the rest, None when it was not run.
        small_accuracy: of the small model on all of it.
    """

    column: str
    value: str
    n: int
    n_groups: int
    n_correct: int
    large_accuracy: float | None
    auc: float | None
    ci95: Interval | None
    auc_null_reason: str | None
    escalated: float
    kept_accuracy: float | None
    system_accuracy: float | None
    small_accuracy: float


def slices(inputs: ReportInputs, score: Floats) -> list[Slice]:
    """Cut the samples by every known column with 2 to ``MOST`` values, ``dataset`` also with one."""
    order = escalation_order(score, inputs.seed)
    escalated = np.zeros(len(score), bool)
    escalated[order[: n_escalated(len(score), inputs.budget_percent)]] = True
    return [
        _slice(inputs, score, escalated, inside, column, value)
        for column, values in columns_cut(inputs.labels)
        for value, inside in parts(values)
    ]


def columns_cut(labels: pl.DataFrame) -> Iterator[tuple[str, pl.Series]]:
    """Yield the name and the values, as text, of every known column with 2 to ``MOST`` values, and of ``dataset``."""
    if "image_digests" in labels.columns:
        counts = pl.col("image_digests").list.len()
        text = pl.when(counts == 0).then(pl.lit("none")).when(counts == 1).then(pl.lit("one"))
        labels = labels.with_columns(images=text.otherwise(pl.lit("several")))
    for column in COLUMNS:
        if column in labels.columns and not labels.schema[column].is_nested():
            values = labels[column].cast(pl.String).fill_null("(unknown)")
            if 1 < values.n_unique() <= MOST or column == "dataset":
                yield column, values


def parts(values: pl.Series) -> Iterator[tuple[str, Bools]]:
    """Yield each value of a column and which samples ``[N]`` have it."""
    for value in values.unique().sort().to_list():
        yield value, (values == value).to_numpy()


def _slice(inputs: ReportInputs, score: Floats, escalated: Bools, inside: Bools, column: str, value: str) -> Slice:
    correct, groups, gone = inputs.correct[inside], inputs.groups[inside], escalated[inside]
    large = None if inputs.large_correct is None else inputs.large_correct[inside]
    if len(score) > MANY:
        auc = ranking_estimate(rank(correct, score[inside]), Population.of(groups, inputs.seed))
    else:
        (auc,) = bootstrap_auc(correct, score[None, inside], groups, inputs.resamples, inputs.seed)
    return Slice(
        column=column,
        value=value,
        n=len(correct),
        n_groups=len(np.unique(groups)),
        n_correct=int(correct.sum()),
        large_accuracy=None if large is None else float(large.mean()),
        auc=auc.known,
        ci95=auc.ci95,
        auc_null_reason=auc_null_reason(correct),
        escalated=float(gone.mean()),
        kept_accuracy=float(correct[~gone].mean()) if not gone.all() else None,
        system_accuracy=None if large is None else float(np.where(gone, large, correct).mean()),
        small_accuracy=int(correct.sum()) / len(correct),
    )
