"""Which of several methods to deploy: the cheapest that is not shown to be worse, and where it fails."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import t

from relope.evaluate.numbers.candidates import Candidate, Kept, candidates, chosen, kept_of, weak_slices
from relope.evaluate.numbers.intervals import share_interval
from relope.evaluate.numbers.significance import Comparison


@pytest.fixture
def made(rng):
    n = 2000
    truth = rng.normal(size=n)
    correct = rng.random(n) < 1 / (1 + np.exp(-2 * truth))
    return correct, truth, np.arange(n).astype(str)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_cheapest_of_those_that_are_not_shown_to_be_worse_is_chosen(made, rng):
    correct, truth, groups = made
    near, far = truth + rng.normal(size=len(truth)) * 0.02, truth + 2 * rng.normal(size=len(truth))
    found = candidates(correct, {"far": far, "near": near, "best": truth}, groups, 0.2, 0)
    by_name = {one.name: one for one in found}
    assert by_name["far"].to_best.verdict == "lower" and found[0].to_best is None
    assert chosen(found, ("far", "near", "best")).name == "near"
    assert chosen(found, ("far",)) is found[0]


def test_what_is_not_shown_to_rank_better_than_chance_is_not_chosen():
    unshown = Comparison(-0.15, (-0.32, 0.02), 0.08, "no difference shown", 0.08)
    cheap = Candidate("cheap", 0.55, (0.42, 0.68), Kept(20, 0.6, None), unshown, 10)
    dear = Candidate("dear", 0.7, (0.56, 0.82), Kept(20, 0.7, None), None, 10)
    assert chosen([dear, cheap], ("cheap", "dear")) is dear and dear.is_above_chance
    for none in (replace(dear, ci95=(0.5, 0.9)), replace(dear, n_minority=9)):
        assert chosen([none, cheap], ("cheap", "dear")) is none and not none.is_above_chance


def test_what_is_kept_is_the_share_above_the_budget_s_threshold(made):
    correct, truth, groups = made
    (one,) = candidates(correct, {"only": truth}, groups, 0.2, 0)
    kept = truth >= np.sort(truth)[400]
    assert one.kept.n == 1600 and one.kept.accuracy == correct[kept].mean()
    assert one.kept.ci95[0] < one.kept.accuracy < one.kept.ci95[1]
    doubled = np.concatenate([correct, correct])
    pairs = kept_of(doubled, np.ones(len(doubled), bool), np.tile(groups, 2))
    alone = kept_of(correct, np.ones(len(correct), bool), groups)
    # Samples of one group are not independent, and how much they are not is estimated: Student's t.
    students = share_interval(alone.accuracy, alone.n, t.ppf(0.975, alone.n - 1))
    assert pairs.ci95 == pytest.approx(students, abs=1e-9) and pairs.ci95[0] < alone.ci95[0]
    assert kept_of(correct, np.zeros(len(correct), bool), groups).accuracy is None


def test_a_part_where_the_scores_are_of_no_use_is_named(made, rng):
    correct, truth, groups = made
    hard = rng.random(len(truth)) < 0.2
    correct = np.where(hard, rng.random(len(truth)) < 0.3, correct)
    labels = pl.DataFrame({"kind": np.where(hard, "hard", "easy"), "id": groups, "dataset": ["d"] * len(groups)})
    (weak,) = weak_slices(correct, truth, groups, 0.2, labels)
    assert (weak.column, weak.value, weak.n) == ("kind", "hard", int(hard.sum()))
    assert weak.kept.accuracy < 0.5


def test_a_part_of_few_images_is_not_shown_to_be_worse():
    """Three images of ten answers each, wrong in 20 of 30, where the whole is right in 82 %."""
    correct = np.concatenate([np.repeat([True, False, False], 10), np.arange(470) % 7 > 0])
    groups = np.concatenate([np.repeat(["a", "b", "c"], 10), np.arange(470).astype(str)])
    labels = pl.DataFrame({"kind": ["few images"] * 30 + ["rest"] * 470})
    score = np.linspace(1, 0, 500)
    assert weak_slices(correct, score, groups, 0.0, labels) == []
    alone = np.arange(500).astype(str)
    assert [weak.value for weak in weak_slices(correct, score, alone, 0.0, labels)] == ["few images"]
