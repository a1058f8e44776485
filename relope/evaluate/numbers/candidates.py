"""Which of several methods to deploy, by scores out of fold: what they reach, which is enough, and where it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from relope.evaluate.numbers.bootstrap import bootstrap_auc
from relope.evaluate.numbers.budget import threshold_for
from relope.evaluate.numbers.estimates import FEWEST
from relope.evaluate.numbers.intervals import Interval, grouped_share_interval
from relope.evaluate.numbers.metrics import Bools, Floats, Groups
from relope.evaluate.numbers.significance import Comparison, compared
from relope.evaluate.numbers.slices import columns_cut, parts

RESAMPLES = 1000
LEAST = 30
"""Choice: samples below which a slice is not judged."""
CHANCE = 0.5
"""AUC of a router that says nothing."""


@dataclass(frozen=True)
class Kept:
    """What the small model gets right of the questions that it keeps.

    Attributes:
        n: questions kept.
        accuracy: on them; None when nothing is kept.
        ci95: its interval; samples that share an image are not taken as independent.
    """

    n: int
    accuracy: float | None
    ci95: Interval | None


@dataclass(frozen=True)
class Candidate:
    """What a method reaches out of fold.

    Attributes:
        name: of the method.
        auc: with ``ci95``; None where one class is absent.
        kept: when the budget's share with the lowest scores is escalated.
        to_best: its AUC less that of the best, paired, Holm's over all; None of the best itself.
        n_minority: groups with the rarer class.
    """

    name: str
    auc: float | None
    ci95: Interval | None
    kept: Kept
    to_best: Comparison | None
    n_minority: int

    @property
    def is_above_chance(self) -> bool:
        """Whether it is shown to rank better than chance; from too few answers of a class nothing is."""
        return self.ci95 is not None and self.ci95[0] > CHANCE and self.n_minority >= FEWEST


@dataclass(frozen=True)
class Weak:
    """A part of the data where what is kept is right less often than overall, and that is shown."""

    column: str
    value: str
    n: int
    small_accuracy: float
    kept: Kept


def candidates(
    correct: Bools, scores: Mapping[str, Floats], groups: Groups, budget: float, seed: int
) -> list[Candidate]:
    """Return what each method reaches, best AUC first.

    Args:
        correct: ``[N]``.
        scores: method → ``[N]``, larger = more likely right.
        groups: ``[N]``.
        budget: share that is escalated.
        seed: of the resamples.
    """
    estimates = dict(
        zip(scores, bootstrap_auc(correct, np.stack(list(scores.values())), groups, RESAMPLES, seed), strict=True)
    )
    order = sorted(scores, key=lambda name: -estimates[name].value)
    best = estimates[order[0]]
    gaps = compared({name: estimates[name].minus(best).test() for name in order[1:]})
    return [
        Candidate(
            name,
            estimates[name].known,
            estimates[name].ci95,
            kept_of(correct, scores[name] >= threshold_for(scores[name], budget), groups),
            gaps.get(name),
            estimates[name].n_minority,
        )
        for name in order
    ]


def chosen(ranked: Sequence[Candidate], cheapest_first: Sequence[str]) -> Candidate:
    """Return the cheapest method that is shown to rank better than chance, and not worse than the best.

    Where none is, that is the best, which nobody should deploy (`Candidate.is_above_chance`).
    """
    fair = {
        candidate.name: candidate
        for candidate in ranked
        if candidate.is_above_chance and (candidate.to_best is None or candidate.to_best.verdict != "lower")
    }
    return next((fair[name] for name in cheapest_first if name in fair), ranked[0])


def kept_of(correct: Bools, kept: Bools, groups: Groups) -> Kept:
    """Return the accuracy on what is kept, with its interval."""
    right = correct[kept]
    if not len(right):
        return Kept(0, None, None)
    return Kept(len(right), float(right.mean()), grouped_share_interval(right, groups[kept]))


def weak_slices(correct: Bools, score: Floats, groups: Groups, budget: float, labels: pl.DataFrame) -> list[Weak]:
    """Return the parts of the data that fail, worst first: the interval of what is kept lies below the overall value.

    Args:
        correct: ``[N]``.
        score: ``[N]``.
        groups: ``[N]``.
        budget: share of all samples that is escalated.
        labels: ``[N]`` rows, cut up by the columns that a report cuts up.
    """
    kept = score >= threshold_for(score, budget)
    overall, weak_parts = kept_of(correct, kept, groups).accuracy, []
    for column, values in columns_cut(labels):
        for value, inside in parts(values):
            part = kept_of(correct, kept & inside, groups)
            if part.n >= LEAST and overall is not None and part.ci95 is not None and part.ci95[1] < overall:
                weak_parts.append(Weak(column, value, int(inside.sum()), float(correct[inside].mean()), part))
    return sorted(weak_parts, key=lambda weak: weak.kept.accuracy or 0.0)
