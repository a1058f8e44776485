"""Several large models behind one small one: which of them pays at which budget, on the same queue of questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from relope.evaluate.numbers.analysis import Analysis, analyse
from relope.evaluate.numbers.decision import Decision
from relope.evaluate.numbers.estimates import Estimate
from relope.evaluate.numbers.inputs import LargeModel, MethodScores, ReportInputs
from relope.evaluate.numbers.intervals import Interval
from relope.evaluate.numbers.routing import (
    PERCENTS,
    mark_key,
    n_escalated,
    number,
    oracle_order,
    system_accuracies,
)
from relope.evaluate.numbers.significance import JudgedDifference, judged


@dataclass(frozen=True, kw_only=True)
class AtShare:
    """The system when a share of the questions goes to one large model.

    Attributes:
        accuracy: of both models together.
        over_small: less that of the small model alone, paired.
        dollars: mean cost of a query; None where a price is unknown.
    """

    accuracy: float | None
    ci95: Interval | None
    over_small: JudgedDifference | None
    dollars: float | None


@dataclass(frozen=True, kw_only=True)
class BesideSmall:
    """One large model.

    Attributes:
        model: its name.
        accuracy: of it alone.
        dollars: mean cost of a query to it alone; None where a price is unknown.
        at: share escalated → the system then.
        curve: accuracy of the system at 0, 1, …, 100 % escalated.
        dollars_curve: mean cost of a query there; None where a price is unknown.
    """

    model: str
    accuracy: float | None
    ci95: Interval | None
    dollars: float | None
    at: Mapping[str, AtShare]
    curve: tuple[float | None, ...]
    dollars_curve: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class Pays:
    """Which large model pays at a share.

    Attributes:
        model: the one of the highest accuracy of the system; of equal ones the first given.
        over_next: its accuracy less that of the next one, paired.
        next: that one.
        is_shown: whether the samples show that it is better than the next.
    """

    model: str
    next: str
    over_next: JudgedDifference | None
    is_shown: bool


@dataclass(frozen=True, kw_only=True)
class ForDollars:
    """What a mean cost of a query buys.

    Attributes:
        dollars: mean cost of a query at most.
        accuracy: model → the best accuracy of the system that it reaches for that, at a whole percent escalated; None
            where even nothing escalated costs more.
        best: the model of the highest.
    """

    dollars: float
    accuracy: Mapping[str, float | None]
    best: str


@dataclass(frozen=True, kw_only=True)
class Several:
    """Several large models on one queue.

    Attributes:
        method: that makes the queue, the same for all.
        models: in the order in which they were given.
        pays: share escalated → which of them pays.
        for_dollars: ascending; empty where prices are unknown.
        oracle_curve: the best that any order, and any choice among the large models, can reach.
        any_right: share of the samples on which at least one of all models is right.
    """

    method: str
    models: tuple[BesideSmall, ...]
    pays: Mapping[str, Pays]
    for_dollars: tuple[ForDollars, ...]
    oracle_curve: tuple[float, ...]
    any_right: float


def several(analysis: Analysis, decision: Decision) -> Several | None:
    """Return what several large models come to; None where there is one, or none.

    Choice: the queue is that of the method which the first screen names, since a router says nothing about which
    large model is asked.

    Args:
        analysis: of the first large model.
        decision: on it.
    """
    inputs = analysis.inputs
    if inputs.large_correct is None or not inputs.further:
        return None
    named = decision.router or decision.free
    method = analysis.name_of_best if named is None else named.method
    chosen = [scores for scores in inputs.methods if scores.name == method]
    first = LargeModel(inputs.large_name, inputs.large_correct, inputs.costs)
    larges = [first, *inputs.further]
    analyses = [analyse(_beside(inputs, chosen, large)) for large in larges]
    models = tuple(_model(analysed, large) for analysed, large in zip(analyses, larges, strict=True))
    right = np.logical_or.reduce([large.correct for large in larges])
    oracle = system_accuracies(oracle_order(inputs.correct, right), inputs.correct, right)
    return Several(
        method=method,
        models=models,
        pays={mark_key(mark): _pays(analyses, models, mark_key(mark)) for mark in inputs.marks},
        for_dollars=_for_dollars(models),
        oracle_curve=tuple(map(float, oracle)),
        any_right=float((inputs.correct | right).mean()),
    )


def _beside(inputs: ReportInputs, methods: Sequence[MethodScores], large: LargeModel) -> ReportInputs:
    return replace(
        inputs, methods=methods, large_name=large.name, large_correct=large.correct, costs=large.costs, further=()
    )


def _accuracy(analysis: Analysis, key: str) -> Estimate:
    return analysis.resampled.estimates[f"accuracy_at_{key}"][0]


def _model(analysis: Analysis, large: LargeModel) -> BesideSmall:
    inputs, resampled = analysis.inputs, analysis.resampled
    assert resampled.large is not None  # its answers are known
    line, alone = None, None
    if inputs.costs is not None:
        n, along = len(inputs.correct), analysis.cost_along(0, "dollars")
        line = None if along is None else tuple(float(along[n_escalated(n, mark)]) for mark in PERCENTS)
        alone = inputs.costs.large["dollars"]
    at = {}
    for mark in inputs.marks:
        accuracy = _accuracy(analysis, mark_key(mark))
        at[mark_key(mark)] = AtShare(
            accuracy=accuracy.known,
            ci95=accuracy.ci95,
            over_small=judged(accuracy.minus(resampled.small).test()),
            dollars=None if line is None else line[mark],
        )
    return BesideSmall(
        model=large.name,
        accuracy=resampled.large.known,
        ci95=resampled.large.ci95,
        dollars=None if alone is None else float(alone.mean()),
        at=at,
        curve=tuple(number(float(value)) for value in analysis.curves[0].accuracy),
        dollars_curve=line,
    )


def _pays(analyses: Sequence[Analysis], models: Sequence[BesideSmall], key: str) -> Pays:
    estimates = [_accuracy(analysis, key) for analysis in analyses]
    best, second = sorted(range(len(models)), key=lambda index: -estimates[index].value)[:2]
    gap = judged(estimates[best].minus(estimates[second]).test())
    shown = gap is not None and gap.ci95[0] > 0 and gap.verdict != "too few to tell"
    return Pays(model=models[best].model, next=models[second].model, over_next=gap, is_shown=shown)


def _for_dollars(models: Sequence[BesideSmall]) -> tuple[ForDollars, ...]:
    """Return what the dollars buy that any of the models costs at a quoted share."""
    if any(model.dollars_curve is None for model in models):
        return ()
    budgets = sorted({at.dollars for model in models for at in model.at.values() if at.dollars is not None})
    rows = []
    for dollars in budgets:
        reached = {model.model: _reached(model, dollars) for model in models}
        best = max(models, key=lambda model: reached[model.model] or -1.0)
        rows.append(ForDollars(dollars=dollars, accuracy=reached, best=best.model))
    return tuple(rows)


def _reached(model: BesideSmall, dollars: float) -> float | None:
    lines = zip(model.curve, model.dollars_curve or (), strict=True)
    known = [accuracy for accuracy, cost in lines if accuracy is not None and cost <= dollars * (1 + 1e-9)]
    return max(known, default=None)
