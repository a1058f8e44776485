"""What the runs of a sweep held out: AUCs of all of them from the same draws of image groups."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from relope.evaluate.numbers.bootstrap import MANY, ranking_estimate, resample_weights
from relope.evaluate.numbers.estimates import Estimate, Population
from relope.evaluate.numbers.metrics import Bools
from relope.evaluate.numbers.ranking import rank, weighted_auc

HELD: dict[str, pl.DataType] = {
    "held_group": pl.List(pl.UInt32()),
    "held_correct": pl.List(pl.Boolean()),
    "held_score": pl.List(pl.Float32()),
}
"""Columns of a sweep's table, lists of one entry a held-out sample; groups are numbered alike in all runs."""


def held_out(
    groups: npt.NDArray[np.str_], correct: Bools, held: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]
) -> dict[str, list[Any]]:
    """Return the values of ``HELD`` for a run.

    Args:
        groups: ``[N]``, of all samples that the sweep learns from.
        correct: ``[N]``.
        held: ``[V]`` indices that the run held out.
        scores: ``[V]``, which the fitted method gives them.
    """
    numbers = np.unique(groups, return_inverse=True)[1]
    values = (numbers[held].tolist(), correct[held].tolist(), scores.tolist())
    return dict(zip(HELD, values, strict=True))


def keeps_held(table: pl.DataFrame) -> bool:
    """Return whether every run says what it held out; older sweeps do not."""
    return all(name in table.columns and not table[name].null_count() for name in HELD)


def resample_runs(table: pl.DataFrame, resamples: int = 2000, seed: int = 0) -> list[Estimate]:
    """Return each run's AUC on what it held out, with its resamples; the table has the columns ``HELD``.

    A group is drawn equally often for every run that held it out, so that means over runs and
    differences between settings are paired. Of very many groups none are drawn.
    """
    held, correct, scores = ([column.to_numpy() for column in table[name]] for name in HELD)
    names = np.unique(np.concatenate(held)).astype(np.str_)
    order = np.unique(np.concatenate(held))
    indices = [np.searchsorted(order, groups) for groups in held]
    rankings = [rank(right, score) for right, score in zip(correct, scores, strict=True)]
    everyone = Population.of(names, seed)
    aucs = [ranking_estimate(ranking, everyone.at(index)) for ranking, index in zip(rankings, indices, strict=True)]
    if len(names) > MANY:
        return aucs
    drawn = [
        np.stack([weighted_auc(ranking, weights[index]) for index, ranking in zip(indices, rankings, strict=True)])
        for weights in resample_weights(names, resamples, seed)
    ]
    return [replace(auc, resampled=row) for auc, row in zip(aucs, np.concatenate(drawn, axis=1), strict=True)]
