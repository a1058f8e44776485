"""What a benchmark says of what it measured: medians, spreads, and when it cannot tell."""

import json
import sys

import figures
import pytest
from figures import Figure, at_least, at_most, main, ratios, rounds, share_within, shown, spread
from scipy.stats import binom, binomtest


@pytest.mark.parametrize("n", [5, 6, 8, 9, 15, 40])
def test_a_spread_is_the_least_that_holds_the_median_in_15_of_16_runs(n):
    low, high = spread([float(value) for value in range(n, 0, -1)])
    assert low + high == n + 1
    below = int(low) - 1  # values left out at either end
    assert 1 - 2 * binom.cdf(below, n, 0.5) >= 15 / 16 - 1e-12
    assert 1 - 2 * binom.cdf(below + 1, n, 0.5) < 15 / 16


def test_five_rounds_are_the_fewest_that_say_so():
    assert 1 - 2 * binom.cdf(0, figures.ROUNDS, 0.5) == 15 / 16 > 1 - 2 * binom.cdf(0, figures.ROUNDS - 1, 0.5)


def test_a_goal_inside_the_spread_is_neither_met_nor_missed():
    values = [0.8, 1.0, 0.9, 0.95, 0.85]
    assert at_least(values, 0.8) == Figure(0.9, 0.8, 1.0, ">= 0.8", True)
    assert at_least(values, 0.9).met is None and at_most(values, 0.9).met is None
    assert at_least(values, 1.01).met is False and at_most(values, 0.7).met is False
    assert at_most(values, 1.0) == Figure(0.9, 0.8, 1.0, "<= 1", True)
    assert shown(values) == Figure(0.9, 0.8, 1.0)


def test_what_is_measured_once_has_no_spread():
    assert at_most(3.0, 3) == Figure(3.0, goal="<= 3", met=True)
    assert shown([2.0]) == shown(2.0) == Figure(2.0)
    assert at_least(2.9, 3) == Figure(2.9, goal=">= 3", met=False)


def test_a_share_of_runs_is_judged_by_its_wilson_interval():
    inside = share_within(950, 1000, 0.93, 0.97)
    wilson = binomtest(950, 1000).proportion_ci(method="wilson")
    assert (inside.value, inside.met, inside.goal) == (0.95, True, "0.93 to 0.97")
    assert (inside.low, inside.high) == pytest.approx((wilson.low, wilson.high), abs=1e-4)
    assert share_within(94, 100, 0.93, 0.97).met is None and share_within(800, 1000, 0.93, 0.97).met is False
    assert share_within(0, 500, 0, 0.055).met is True and share_within(500, 500, 0.93, 0.97).met is False


def test_contenders_take_turns():
    seen = []
    ticks = iter(range(100))
    contenders = {name: lambda name=name: seen.append(name) for name in "ab"}
    seconds = rounds(contenders, 3, clock=lambda: next(ticks))
    assert seen == list("ababab") and seconds == {"a": [1, 1, 1], "b": [1, 1, 1]}
    assert ratios([2.0, 3.0], [4.0, 2.0]) == [0.5, 1.5]


@pytest.mark.parametrize(("flags", "code"), [([], 1), (["--json"], 1), (["--quick", "--json"], 0)])
def test_what_is_printed(flags, code, monkeypatch, capsys):
    measured = {
        "near": at_least([0.8, 0.9, 1, 1, 1], 0.9),
        "far": at_most(2.0, 1),
        "size": shown(7.0),
        "peer": Figure(None, goal="<= 1"),
    }
    monkeypatch.setattr(sys, "argv", ["bench", *flags])
    with pytest.raises(SystemExit) as stopped:
        main(lambda quick: measured, "what it is")
    out, err = capsys.readouterr()
    assert stopped.value.code == code
    if not flags:
        assert "cores of" in out.splitlines()[0]
        assert out.splitlines()[1:] == [
            "unsure near: 1 (0.8 to 1; goal >= 0.9)",
            "MISSED far: 2 (goal <= 1)",
            "shown  size: 7",
            "unsure peer: not measured (goal <= 1)",
        ]
        return
    assert "cores of" in err
    printed = json.loads(out)
    if "--quick" in flags:  # smallest sizes are not held against goals
        assert {(figure["goal"], figure["met"]) for figure in printed.values()} == {(None, None)}
        return
    assert printed == {
        "near": {"value": 1, "low": 0.8, "high": 1, "goal": ">= 0.9", "met": None},
        "far": {"value": 2.0, "low": None, "high": None, "goal": "<= 1", "met": False},
        "size": {"value": 7.0, "low": None, "high": None, "goal": None, "met": None},
        "peer": {"value": None, "low": None, "high": None, "goal": "<= 1", "met": None},
    }
