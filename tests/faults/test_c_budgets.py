"""C: a budget is never exceeded on the samples that its threshold is set on, by one rule everywhere."""

import numpy as np
import polars as pl
import pytest

from relope import steps
from relope.errors import InvalidInputError
from relope.evaluate.numbers.budget import realised_budgets, threshold_for, thresholds_for
from relope.evaluate.numbers.thresholds import SHARES, percent_thresholds
from relope.spec import build


@pytest.mark.parametrize("n", [1, 3, 7, 12, 14, 61, 100, 300])
def test_c_no_threshold_escalates_more_than_its_share(n):
    scores = np.random.default_rng(n).permutation(n) / n
    escalated = (scores < percent_thresholds(scores)[:, None]).sum(axis=1)
    assert escalated.tolist() == [percent * n // 100 for percent in SHARES]
    assert [(scores < threshold_for(scores, percent / 100)).sum() for percent in SHARES] == escalated.tolist()
    marks = realised_budgets(scores, scores, (10, 20, 29, 50))
    assert all(budget.realised <= budget.requested for budget in marks)


def test_c_ties_stay_on_the_side_that_is_kept():
    scores = np.array([0.1, 0.2, 0.2, 0.2, 0.9])
    assert thresholds_for(scores, [0.2, 0.4, 0.6, 0.8]).tolist() == [0.2, 0.2, 0.2, 0.9]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A store of 14 test questions."""
    out = tmp_path_factory.mktemp("few") / "few.zarr"
    asked = {"model": "tiny-vl", "dataset": "tiny", "split": "test", "limit": 14, "out": out, "device": "cpu"}
    return str(steps.run(build("extract", asked)).path)


def test_c_predict_rounds_down_and_says_so(few, tmp_path):
    out = tmp_path / "s.parquet"
    done = steps.run(build("predict", {"router": "logprob", "store": few, "budget": 0.2, "out": out}))
    assert pl.read_parquet(out)["escalate"].sum() == 2 == done.facts["escalated"]
    assert "2 of 14 escalated, 14.3 %" in done.text
    assert "set for at most 20 % of the scored samples themselves; 2.8 rounded down to 2" in done.text
    whole = steps.run(build("predict", {"router": "logprob", "store": few, "budget": 0.5, "out": out}))
    assert "7 of 14 escalated, 50.0 %" in whole.text and "rounded" not in whole.text


def test_c_evaluate_says_what_the_curve_and_a_threshold_escalate(few, tmp_path):
    steps.run(build("predict", {"router": "logprob", "store": few, "out": tmp_path / "scores" / "logprob.parquet"}))
    asked = {"store": few, "scores": tmp_path / "scores", "bootstrap": 100, "out": tmp_path / "report"}
    report = steps.run(build("evaluate", asked)).report
    (method,) = report.methods
    assert [budget.realised for budget in method.budgets] == [1 / 14, 2 / 14, 7 / 14]
    assert any("20 % of 14 samples are 2.8" in warning.text for warning in report.warnings)


@pytest.mark.parametrize(
    ("step", "field", "given", "meant"),
    [
        ("predict", "budget", "20", "0.2"),
        ("predict", "budget", "0,2", "0.2"),
        ("predict", "threshold", "50", "0.5"),
        ("calibrate", "budget", 20, "0.2"),
        ("calibrate", "max_error", "10", "0.1"),
        ("calibrate", "min_accuracy", "80", "0.8"),
        ("calibrate", "confidence", "95", "0.95"),
        ("evaluate", "budget", "20", "0.2"),
        ("evaluate", "budget", "0,2", "0.2"),
    ],
)
def test_c_percents_without_their_sign_are_refused_with_the_share(step, field, given, meant):
    asked = {"store": "s.zarr", **({} if step == "evaluate" else {"router": "logprob"})}
    with pytest.raises(InvalidInputError) as error:
        build(step, {**asked, field: given})
    assert str(error.value).endswith(f"; did you mean {meant}?")


def test_c_percents_with_their_sign_are_shares():
    spec = build("calibrate", {"router": "logprob", "store": "s", "max_error": "10%", "confidence": "90 %"})
    assert (spec.max_error, spec.confidence) == (0.1, 0.9)
