"""From an analysis to the report: no clock in it, timings only under names that start with ``seconds_``."""

from collections.abc import Iterator

import numpy as np

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.budget import Realised, realised_budgets
from relope.evaluate.numbers.costs import Axis
from relope.evaluate.numbers.decision import decide
from relope.evaluate.numbers.estimates import FEWEST, RESAMPLED_FROM
from relope.evaluate.numbers.inputs import MethodScores, ReportInputs
from relope.evaluate.numbers.metrics import auc_null_reason
from relope.evaluate.numbers.records import AucInterval, Hybrid, MethodRow, Metric, Report
from relope.evaluate.numbers.resampled import MOST_DROPPED, Resampled
from relope.evaluate.numbers.routing import mark_key, n_escalated, number
from relope.evaluate.numbers.scarcity import scarcity
from relope.evaluate.numbers.several import several
from relope.evaluate.numbers.significance import judged
from relope.evaluate.numbers.statistics import names
from relope.provenance import versions
from relope.types import ResultWarning, worst_first

NO_LARGE = "the large model was not run on these samples, so its accuracy is not guessed"
TOO_FEW = f"no interval: fewer than {FEWEST} image groups hold the rarer of right and wrong answers"
GAP = ("pgr", "apgr", "cpt", "qnc")
"""Statistics that only make sense where the large model is right more often."""

RANKING = ("auc", "tpr")


def summarise(analysis: Analysis) -> Report:
    """Return the report of an analysis."""
    inputs, decision = analysis.inputs, decide(analysis)
    return Report(
        title=inputs.title,
        what=inputs.what,
        small_name=inputs.small_name,
        large_name=inputs.large_name,
        dataset=inputs.dataset,
        caveat=inputs.caveat,
        warnings=worst_first((*inputs.warnings, *_seen_before(inputs), *scarcity(inputs.correct, inputs.groups))),
        n=inputs.labels.height,
        n_groups=analysis.n_groups,
        n_correct=int(inputs.correct.sum()),
        n_minority=analysis.resampled.n_minority,
        auc_interval=_auc_interval(analysis.resampled),
        resamples=analysis.resampled.n_draws,
        resamples_dropped=analysis.resampled.n_dropped,
        seed=inputs.seed,
        budget=inputs.budget,
        decision=decision,
        several=several(analysis, decision),
        seconds_answers=tuple(inputs.seconds_answers),
        best=analysis.name_of_best,
        accuracy_at_is=analysis.curves[0].kind,
        methods=tuple(_method(analysis, index) for index in analysis.ranked),
        hybrid=_hybrid(analysis),
        slices=analysis.slices,
        curves={
            method.name: tuple(number(float(value)) for value in curve.accuracy)
            for method, curve in zip(inputs.methods, analysis.curves, strict=True)
        },
        random_curve=tuple(float(value) for value in analysis.curves[0].random),
        oracle_curve=tuple(number(float(value)) for value in analysis.curves[0].oracle),
        provenance=dict(inputs.provenance),
        versions=versions(),
    )


def _auc_interval(resampled: Resampled) -> AucInterval:
    if resampled.n_minority < RESAMPLED_FROM:
        return "closed form, few of a class"
    return "closed form, many samples" if resampled.normal else "bootstrap"


def _seen_before(inputs: ReportInputs) -> Iterator[ResultWarning]:
    """Yield a warning for each method that learned from the samples that it is judged on."""
    for method in inputs.methods:
        if method.seen:
            yield ResultWarning(
                "wrong",
                f"{method.name} learned from {_of_seen(method, len(inputs.correct))}, on which it is judged here: its "
                "numbers are of answers that it has seen, so it is left out of the best",
            )
    if not any(method.is_fair for method in inputs.methods):
        yield ResultWarning("wrong", "no method is left that is no control and has not seen these answers")


def _of_seen(method: MethodScores, n: int) -> str:
    """Say which of the samples a method has seen."""
    splits = f"split{'s' * (len(method.seen) > 1)} {', '.join(method.seen)}"
    return f"the {splits}" if method.n_seen in (None, n) else f"{method.n_seen:,} of the {n:,} samples of the {splits}"


def _method(analysis: Analysis, index: int) -> MethodRow:
    inputs, curve = analysis.inputs, analysis.curves[index]
    method, correct, resampled = inputs.methods[index], inputs.correct, analysis.resampled
    return MethodRow(
        method=method.name,
        note=method.note,
        is_control=method.is_control,
        needs_training=method.needs_training,
        seconds_fit=method.seconds_fit,
        seconds_predict_each=method.seconds_predict_each,
        bytes_read_fit=method.bytes_read_fit,
        bytes_read_each=method.bytes_read_each,
        n=len(correct),
        n_groups=analysis.n_groups,
        n_correct=int(correct.sum()),
        auc=analysis.value(index, "auc"),
        ci95=resampled.interval(index, "auc"),
        auc_null_reason=auc_null_reason(correct),
        seeds=tuple(method.seeds),
        auc_by_seed=tuple(number(value) for value in resampled.by_seed[index]),
        auc_sd_over_seeds=_spread(resampled.by_seed[index]),
        difference_to_probe=analysis.comparisons[index],
        best_over_control=judged(resampled.difference(analysis.best, index)) if method.is_control else None,
        accuracy_at=curve.accuracy_at(inputs.marks),
        accuracy_at_ci95={
            mark_key(mark): resampled.interval(index, f"accuracy_at_{mark_key(mark)}") for mark in inputs.marks
        },
        metrics={name: _metric(analysis, index, name) for name in names(inputs.marks)},
        area_over_random=curve.area_over_random,
        oracle_area_share=curve.oracle_share,
        budgets=_budgets(analysis, index),
        budgets_set_on="validation" if method.held is not None else "test",
        costs=_costs(analysis, index),
        n_train=method.origin.n_train,
        layer=method.origin.layer,
        settings=method.origin.settings,
        grader=method.origin.grader,
        learned_from=method.origin.splits,
        commands=method.origin.commands,
        dates=method.origin.dates,
        decides_before_answer=method.decides_before_answer,
        not_counted=None if inputs.costs is None or method.name in inputs.costs.beside else method.needs or None,
        needs=method.needs,
        seen=tuple(method.seen),
        n_seen=method.n_seen,
    )


def _metric(analysis: Analysis, index: int, name: str) -> Metric:
    resampled, value = analysis.resampled, analysis.value(index, name)
    interval, dropped = resampled.interval(index, name), resampled.dropped(index, name)
    if value is None:
        return Metric(value, interval, null_reason(analysis, name), dropped)
    return Metric(value, interval, None if interval is not None else _no_interval(resampled, name, dropped), dropped)


def _no_interval(resampled: Resampled, name: str, dropped: float) -> str:
    """Say why a statistic that has a value has no interval."""
    if resampled.n_minority < FEWEST:
        return TOO_FEW
    where = ", where the large model is right no more often than the small one" if name.startswith(GAP) else ""
    return f"no interval: undefined on {dropped:.1%} of the resamples{where}; at most {MOST_DROPPED:.0%} may be"


def null_reason(analysis: Analysis, name: str) -> str:
    """Say why a statistic is undefined on these samples."""
    inputs = analysis.inputs
    if name.startswith(RANKING):
        return auc_null_reason(inputs.correct) or "no resample holds both kinds of answers"
    if name.startswith(GAP):
        if inputs.large_correct is None:
            return NO_LARGE
        return (
            f"the large model is right on {int(inputs.large_correct.sum()):,} samples and the small one on "
            f"{int(inputs.correct.sum()):,}: there is no gap to recover"
        )
    return "nothing is kept at this share"


def _spread(values: tuple[float, ...]) -> float | None:
    """Return the standard deviation over seeds; None for one seed, which shows nothing."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    return float(np.std(values, ddof=1))


def _budgets(analysis: Analysis, index: int) -> tuple[Realised, ...]:
    held, test = analysis.inputs.methods[index].held, analysis.inputs.scores[index]
    return tuple(realised_budgets(test if held is None else held, test, analysis.inputs.marks))


def _costs(analysis: Analysis, index: int) -> dict[Axis, dict[str, float] | None] | None:
    """Return the mean cost of a query at the quoted shares, by axis; None for an axis that is unknown."""
    costs = analysis.inputs.costs
    if costs is None:
        return None
    n, marks = len(analysis.inputs.correct), (0, *analysis.inputs.marks, 100)
    lines = {axis: analysis.cost_along(index, axis) for axis in costs.small}
    return {
        axis: None if line is None else {mark_key(m): float(line[n_escalated(n, m)]) for m in marks}
        for axis, line in lines.items()
    }


def _hybrid(analysis: Analysis) -> Hybrid:
    curve, resampled = analysis.curves[analysis.best], analysis.resampled
    return Hybrid(
        small_accuracy=curve.small_accuracy,
        small_accuracy_ci95=resampled.small.ci95,
        large_accuracy=curve.large_accuracy,
        large_accuracy_ci95=None if resampled.large is None else resampled.large.ci95,
        large_accuracy_null_reason=NO_LARGE if curve.large_accuracy is None else None,
        best=analysis.name_of_best,
        best_accuracy_at=curve.accuracy_at(analysis.inputs.marks),
        random_accuracy_at={mark_key(mark): float(curve.random[mark]) for mark in analysis.inputs.marks},
        oracle_accuracy_at={mark_key(mark): number(float(curve.oracle[mark])) for mark in analysis.inputs.marks},
        best_area_over_random=curve.area_over_random,
        best_oracle_area_share=curve.oracle_share,
    )
