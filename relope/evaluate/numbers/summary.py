"""The report as JSON: no clock in it, timings only under keys that start with ``seconds_``."""

import dataclasses
from typing import Any

import numpy as np

from relope.evaluate.numbers.analysis import Analysis, Comparison
from relope.evaluate.numbers.bootstrap import Difference, percentile_interval
from relope.evaluate.numbers.budget import realised_budgets
from relope.evaluate.numbers.metrics import auc_null_reason
from relope.evaluate.numbers.routing import MARKS, escalation_order, mark_key, number
from relope.evaluate.numbers.slices import Slice
from relope.evaluate.numbers.statistics import names
from relope.provenance import versions

FORMAT_VERSION = 2
NO_LARGE = "the large model was not run on these samples, so its accuracy is not guessed"
GAP = ("pgr", "apgr", "cpt", "qnc")
"""Statistics that only make sense where the large model is right more often."""

RANKING = ("auc", "tpr")


def summarise(analysis: Analysis) -> dict[str, Any]:
    """Return what goes into ``report.json``."""
    inputs = analysis.inputs
    return {
        "format_version": FORMAT_VERSION,
        "title": inputs.title,
        "what": inputs.what,
        "small_name": inputs.small_name,
        "large_name": inputs.large_name,
        "dataset": inputs.dataset,
        "caveat": inputs.caveat,
        "n": inputs.labels.height,
        "n_groups": analysis.n_groups,
        "n_correct": int(inputs.correct.sum()),
        "resamples": inputs.resamples,
        "resamples_dropped": analysis.resampled.n_dropped,
        "seed": inputs.seed,
        "best": analysis.name_of_best,
        "accuracy_at_is": analysis.curves[0].kind,
        "methods": [_method(analysis, place) for place in analysis.ranked],
        "hybrid": _hybrid(analysis),
        "slices": [_slice(one) for one in analysis.slices],
        "curves": {
            method.name: [number(float(value)) for value in curve.accuracy]
            for method, curve in zip(inputs.methods, analysis.curves, strict=True)
        },
        "random_curve": [float(value) for value in analysis.curves[0].random],
        "oracle_curve": [number(float(value)) for value in analysis.curves[0].oracle],
        "provenance": dict(inputs.provenance),
        "versions": versions(),
    }


def _method(analysis: Analysis, place: int) -> dict[str, Any]:
    inputs, curve = analysis.inputs, analysis.curves[place]
    method, correct, resampled = inputs.methods[place], inputs.correct, analysis.resampled
    comparison = analysis.comparisons[place]
    return {
        "method": method.name,
        "note": method.note,
        "is_control": method.is_control,
        "needs_training": method.needs_training,
        "seconds_fit": method.seconds_fit,
        "seconds_predict_each": method.seconds_predict_each,
        "bytes_read_fit": method.bytes_read_fit,
        "bytes_read_each": method.bytes_read_each,
        "n": len(correct),
        "n_groups": analysis.n_groups,
        "n_correct": int(correct.sum()),
        "auc": analysis.value(place, "auc"),
        "ci95": _pair(resampled.interval(place, "auc")),
        "auc_null_reason": auc_null_reason(correct),
        "seeds": list(method.seeds),
        "auc_by_seed": [number(value) for value in resampled.by_seed[place]],
        "auc_sd_over_seeds": _spread(resampled.by_seed[place]),
        "difference_to_probe": _comparison(comparison),
        "best_over_control": _difference(resampled.difference(analysis.best, place)) if method.is_control else None,
        "accuracy_at": curve.accuracy_at,
        "accuracy_at_ci95": {
            mark_key(mark): _pair(resampled.interval(place, f"accuracy_at_{mark_key(mark)}")) for mark in MARKS
        },
        "metrics": {name: _metric(analysis, place, name) for name in names()},
        "area_over_random": curve.area_over_random,
        "oracle_area_share": curve.oracle_share,
        "budgets": _budgets(analysis, place),
        "budgets_set_on": "validation" if method.held is not None else "test",
        "costs": _costs(analysis, place),
        "decides_before_answer": inputs.costs and method.name in inputs.costs.before_answer,
        "not_counted": inputs.costs and inputs.costs.needs.get(method.name),
    }


def _metric(analysis: Analysis, place: int, name: str) -> dict[str, Any]:
    value = analysis.value(place, name)
    return {
        "value": value,
        "ci95": _pair(analysis.resampled.interval(place, name)),
        "null_reason": None if value is not None else null_reason(analysis, name),
    }


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


def _budgets(analysis: Analysis, place: int) -> list[dict[str, float]]:
    method = analysis.inputs.methods[place]
    test = analysis.inputs.scores[place]
    held = test if method.held is None else method.held
    return [dataclasses.asdict(one) for one in realised_budgets(held, test)]


def _costs(analysis: Analysis, place: int) -> dict[str, dict[str, float] | None] | None:
    """Return the mean cost of a query at the quoted shares, by axis; None for an axis that is unknown."""
    costs = analysis.inputs.costs
    if costs is None:
        return None
    order = escalation_order(analysis.inputs.scores[place], analysis.inputs.seed)
    found: dict[str, dict[str, float] | None] = {}
    for axis in costs.small:
        line = costs.along(axis, analysis.inputs.methods[place].name, order)
        marks = (0, *MARKS, 100)
        found[axis] = None if line is None else {mark_key(m): float(line[-(-m * len(order) // 100)]) for m in marks}
    return found


def _hybrid(analysis: Analysis) -> dict[str, Any]:
    curve, drawn = analysis.curves[analysis.best], analysis.resampled
    return {
        "small_accuracy": curve.small_accuracy,
        "small_accuracy_ci95": _pair(percentile_interval(drawn.small)),
        "large_accuracy": curve.large_accuracy,
        "large_accuracy_ci95": None if drawn.large is None else _pair(percentile_interval(drawn.large)),
        "large_accuracy_null_reason": NO_LARGE if curve.large_accuracy is None else None,
        "best": analysis.name_of_best,
        "best_accuracy_at": curve.accuracy_at,
        "random_accuracy_at": {mark_key(mark): float(curve.random[mark]) for mark in MARKS},
        "oracle_accuracy_at": {mark_key(mark): number(float(curve.oracle[mark])) for mark in MARKS},
        "best_area_over_random": curve.area_over_random,
        "best_oracle_area_share": curve.oracle_share,
    }


def _slice(one: Slice) -> dict[str, Any]:
    return {**dataclasses.asdict(one), "ci95": _pair(one.ci95), "small_accuracy": one.small_accuracy}


def _comparison(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    found = _difference(comparison.difference) or {}
    more = {"p_holm": comparison.p_holm, "p_delong": comparison.p_delong, "verdict": comparison.verdict}
    return {**found, **more}


def _difference(difference: Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    bounds = [difference.low, difference.high]
    return {"value": difference.value, "ci95": bounds, "p": difference.p, "verdict": difference.verdict}


def _pair(bounds: tuple[float, float] | None) -> list[float] | None:
    return None if bounds is None else list(bounds)
