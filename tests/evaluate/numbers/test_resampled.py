"""All statistics of all methods: threads change nothing, and very many samples give the intervals that fewer do."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from relope.evaluate.numbers import bootstrap, resampled
from relope.evaluate.numbers.analysis import analyse
from relope.evaluate.numbers.inputs import MethodScores, ReportInputs
from relope.evaluate.numbers.summary import TOO_FEW, summarise
from relope.evaluate.pages import wording
from relope.evaluate.pages.detail_tables import routing_table


def inputs(n=1500, wrong=500, large=True):
    rng = np.random.default_rng(0)
    correct = rng.permutation(np.arange(n) >= wrong)
    columns = {
        "id": [f"s{i}" for i in range(n)],
        "group": [f"g{i // 2}" for i in range(n)],
        "correct": correct,
        "question": ["what ?"] * n,
        "response": ["that"] * n,
        "answers": [["this"]] * n,
        "dataset": ["own"] * n,
    }
    names = ("probe", "relope")
    scores = [np.clip(rng.normal(0.5 + strength * correct, 0.15), 0, 1) for strength in (0.1, 0.2)]
    methods = [
        MethodScores(name, np.stack([row, row**2]), seeds=(0, 1)) for name, row in zip(names, scores, strict=True)
    ]
    right = rng.random(n) < 0.9 if large else None
    return ReportInputs("t", "w", "s", "l", "own", pl.DataFrame(columns), methods, right, resamples=1000, seed=3)


def test_threads_change_nothing(monkeypatch):
    drawn = {}
    for threads in ("1", "4"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert resampled.n_threads() <= int(threads)
        drawn[threads] = analyse(inputs()).resampled.drawn
    assert all(np.array_equal(drawn["1"][name], drawn["4"][name], equal_nan=True) for name in drawn["1"])


@pytest.mark.parametrize("large", [True, False])
def test_very_many_samples_give_about_the_same_intervals_by_fewer_resamples(monkeypatch, large):
    usual = summarise(analyse(inputs(large=large)))
    for module in (bootstrap, resampled):
        monkeypatch.setattr(module, "MANY", 1000)
    monkeypatch.setattr(bootstrap, "DRAWN", 300 * 1500)
    many = summarise(analyse(inputs(large=large)))
    assert (usual.auc_interval, many.auc_interval) == ("bootstrap", "closed form, many samples")
    assert (usual.resamples, many.resamples) == (1000, 300)
    assert "1,000 bootstrap" in wording.intervals(usual) and "300 bootstrap" in wording.intervals(many)
    for one, other in zip(usual.methods, many.methods, strict=True):
        assert one.auc == other.auc
        for name in ("auc", "accuracy_at_0.2", "gain_over_random_at_0.2", "brier", "ece", "aurc"):
            narrow, wide = one.metrics[name].ci95, other.metrics[name].ci95
            np.testing.assert_allclose(wide, narrow, atol=0.25 * (narrow[1] - narrow[0]), err_msg=name)
    gaps = [report.row("relope").difference_to_probe for report in (usual, many)]
    assert gaps[0].value == gaps[1].value and {gap.verdict for gap in gaps} == {"higher"} and gaps[1].p < 1e-6


def test_what_has_no_closed_form_has_no_interval_below_ten_of_a_class():
    report = summarise(analyse(inputs(300, 6)))
    for name, metric in report.best_row.metrics.items():
        exact = name.startswith(("auc", "accuracy_at", "gain")) and name != "auarc"
        assert (metric.ci95 is not None) == (exact and metric.value is not None), name
        assert metric.null_reason == (None if exact else TOO_FEW) or metric.value is None
    assert "too narrow at 6 groups" in wording.intervals(report)


@pytest.mark.parametrize(("more", "shown"), [(2, False), (60, True), (120, True)])
def test_a_gap_that_resamples_lose_has_no_interval(more, shown):
    """The large model is right on ``more`` samples of 1,500 beyond the small one's 1,000, on others as often as not."""
    asked = inputs()
    right = asked.correct.copy()
    right[np.flatnonzero(right)[:200]] = False
    right[np.flatnonzero(~asked.correct)[: 200 + more]] = True
    report = summarise(analyse(replace(asked, large_correct=right)))
    numbers = np.random.default_rng(3).integers(0, 750, (4000, 750))
    gap = (right.astype(int) - asked.correct).reshape(750, 2).sum(axis=1)
    lost = float((gap[numbers].sum(axis=1) <= 0).mean())  # drawn apart from ours
    caption = routing_table(report).caption
    for name in ("pgr_at_0.2", "apgr", "cpt_50", "qnc"):
        metric = report.best_row.metrics[name]
        assert metric.value is not None and metric.dropped == pytest.approx(lost, abs=0.04)
        assert (metric.ci95 is not None) == shown == (metric.dropped <= resampled.MOST_DROPPED)
        assert (metric.null_reason is None) == shown
    assert ("and QNC have no interval: undefined on " in caption) == (not shown)
    assert ("an interval without the " in caption) == (more == 60)
    assert report.best_row.metrics["auarc"].dropped == 0.0 and report.best_row.metrics["auarc"].ci95 is not None
    cell = routing_table(report).rows[0].cells[1]
    assert (cell.under == (wording.NO_INTERVAL,)) == (not shown)
