"""The report as JSON: no clock in it, timings only under keys that start with ``seconds_``."""

import dataclasses
from typing import Any

from relope.evaluate.analysis import Analysis, Family
from relope.evaluate.bootstrap import Difference, percentile_interval
from relope.evaluate.metrics import Floats, auc_null_reason, brier, ece
from relope.evaluate.routing import MARKS, mark_key, number
from relope.provenance import versions

FORMAT_VERSION = 1
NO_LARGE = "the large model was not run on these samples, so its accuracy is not guessed"


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
        "resamples_dropped": analysis.bootstrap.n_dropped,
        "seed": inputs.seed,
        "best": analysis.name_of_best,
        "accuracy_at_is": analysis.curves[0].kind,
        "methods": [_method(analysis, place) for place in analysis.ranked],
        "hybrid": _hybrid(analysis),
        "families": [_family(family) for family in analysis.families],
        "curves": {
            method.name: [number(float(value)) for value in curve.accuracy]
            for method, curve in zip(inputs.methods, analysis.curves, strict=True)
        },
        "provenance": dict(inputs.provenance),
        "versions": versions(),
    }


def _method(analysis: Analysis, place: int) -> dict[str, Any]:
    inputs, curve = analysis.inputs, analysis.curves[place]
    method, correct = inputs.methods[place], inputs.correct
    scores = inputs.scores[place]
    value = analysis.bootstrap.auc[place]
    return {
        "method": method.name,
        "note": method.note,
        "is_control": method.is_control,
        "needs_training": method.needs_training,
        "seconds_fit": method.seconds_fit,
        "n": len(correct),
        "n_groups": analysis.n_groups,
        "n_correct": int(correct.sum()),
        "auc": value,
        "ci95": _pair(analysis.bootstrap.interval(place)) if value is not None else None,
        "auc_null_reason": auc_null_reason(correct),
        "difference_to_probe": _difference(analysis.differences[place]),
        "best_over_control": _difference(analysis.best_over(place)) if method.is_control else None,
        "brier": brier(correct, scores),
        "ece": ece(correct, scores),
        "accuracy_at": curve.accuracy_at,
        "accuracy_at_ci95": _intervals(analysis.bands.accuracy[place]),
        "gain_over_random_at": {
            mark_key(mark): number(float(curve.accuracy[mark] - curve.random[mark])) for mark in MARKS
        },
        "gain_over_random_at_ci95": _intervals(analysis.bands.accuracy[place] - analysis.bands.random),
        "area_over_random": curve.area_over_random,
        "oracle_area_share": curve.oracle_share,
    }


def _hybrid(analysis: Analysis) -> dict[str, Any]:
    curve, bands = analysis.curves[analysis.best], analysis.bands
    return {
        "small_accuracy": curve.small_accuracy,
        "small_accuracy_ci95": _pair(percentile_interval(bands.small)),
        "large_accuracy": curve.large_accuracy,
        "large_accuracy_ci95": None if bands.large is None else _pair(percentile_interval(bands.large)),
        "large_accuracy_null_reason": NO_LARGE if curve.large_accuracy is None else None,
        "best": analysis.name_of_best,
        "best_accuracy_at": curve.accuracy_at,
        "random_accuracy_at": {mark_key(mark): float(curve.random[mark]) for mark in MARKS},
        "oracle_accuracy_at": {mark_key(mark): number(float(curve.oracle[mark])) for mark in MARKS},
        "best_area_over_random": curve.area_over_random,
        "best_oracle_area_share": curve.oracle_share,
    }


def _family(family: Family) -> dict[str, Any]:
    return {
        **dataclasses.asdict(family),
        "ci95": _pair(family.ci95),
        "small_accuracy": family.small_accuracy,
    }


def _difference(difference: Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    bounds = [difference.low, difference.high]
    return {"value": difference.value, "ci95": bounds, "p": difference.p, "verdict": difference.verdict}


def _intervals(drawn: Floats) -> dict[str, list[float] | None]:
    return {mark_key(mark): _pair(percentile_interval(row)) for mark, row in zip(MARKS, drawn, strict=True)}


def _pair(bounds: tuple[float, float] | None) -> list[float] | None:
    return None if bounds is None else list(bounds)
