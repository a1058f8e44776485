"""What two models and a budget come to: is the large one worth asking, and is a trained router worth training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.intervals import Interval
from relope.evaluate.numbers.routing import mark_key, n_escalated, number
from relope.evaluate.numbers.significance import JudgedDifference, judged


@dataclass(frozen=True, kw_only=True)
class AtBudget:
    """A method when its lowest scores, a budget's share of all, are escalated.

    Attributes:
        accuracy: of both models together; without a large model, of the small one on what it keeps.
        over_random: less that of escalating as many at random.
        over_small: less that of the small model alone; None without a large model.
        decides_before_answer: whether it scores before the small model answers; None where nobody knows.
        dollars: mean cost of a query; None without prices.
    """

    method: str
    accuracy: float | None
    ci95: Interval | None
    over_random: JudgedDifference | None
    over_small: JudgedDifference | None
    decides_before_answer: bool | None
    dollars: float | None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The numbers of the first screen.

    Choice: the best are those of the highest accuracy at the budget, of equal ones that of the higher AUC, on the
    samples that the numbers are of. Left out are controls, and routers that learned from those samples.

    Attributes:
        budget: share of the questions that may be escalated.
        large_over_small: accuracy of the large model less that of the small one, paired; None without a large one.
        router: the best of those that were trained; None where there is none.
        free: the best of those that train nothing and have the small model do nothing beside answering.
        router_over_free: accuracy of the one less that of the other, paired.
        control: the control of the highest accuracy there; None where there is none that has not seen the answers.
        method_over_control: accuracy of the router, else of the free one, less that of the control, paired.
        dollars_small: mean cost of a query to the small model alone; None without prices.
        dollars_large: to the large model alone.
    """

    budget: float
    large_over_small: JudgedDifference | None
    router: AtBudget | None
    free: AtBudget | None
    router_over_free: JudgedDifference | None
    dollars_small: float | None
    dollars_large: float | None
    control: AtBudget | None = None
    method_over_control: JudgedDifference | None = None


def decide(analysis: Analysis) -> Decision:
    """Return what the methods come to at the budget that the inputs name."""
    inputs, resampled = analysis.inputs, analysis.resampled
    small, large = resampled.small, resampled.large
    fair = [index for index in analysis.ranked if inputs.methods[index].is_fair]
    router = _best(analysis, [index for index in fair if inputs.methods[index].needs_training])
    free = _best(analysis, [index for index in fair if inputs.methods[index].is_free])
    controls = [index for index in analysis.ranked if inputs.methods[index].is_control]
    control = _best(analysis, [index for index in controls if not inputs.methods[index].seen])
    costs = inputs.costs
    return Decision(
        budget=inputs.budget,
        large_over_small=None if large is None else judged(large.minus(small).test()),
        router=None if router is None else _at_budget(analysis, router),
        free=None if free is None else _at_budget(analysis, free),
        router_over_free=_gap(analysis, router, free),
        dollars_small=_mean(None if costs is None else costs.small["dollars"]),
        dollars_large=_mean(None if costs is None else costs.large["dollars"]),
        control=None if control is None else _at_budget(analysis, control),
        method_over_control=_gap(analysis, free if router is None else router, control),
    )


def _gap(analysis: Analysis, first: int | None, second: int | None) -> JudgedDifference | None:
    """Return the accuracy of one method at the budget less that of another, paired."""
    if first is None or second is None:
        return None
    return judged(analysis.resampled.difference(first, second, _accuracy(analysis)))


def _accuracy(analysis: Analysis) -> str:
    return f"accuracy_at_{mark_key(analysis.inputs.budget_percent)}"


def _best(analysis: Analysis, indices: Sequence[int]) -> int | None:
    """Return which of some methods, best AUC first, has the highest accuracy at the budget."""
    values = analysis.resampled.value[_accuracy(analysis)]
    known = [index for index in indices if np.isfinite(values[index])]
    return max(known, key=lambda index: float(values[index])) if known else None


def _at_budget(analysis: Analysis, index: int) -> AtBudget:
    inputs, resampled, name = analysis.inputs, analysis.resampled, _accuracy(analysis)
    method, percent = inputs.methods[index], inputs.budget_percent
    system = resampled.estimates[name][index]
    gain = resampled.estimates[f"gain_over_random_at_{mark_key(percent)}"][index]
    over_small = None if resampled.large is None else judged(system.minus(resampled.small).test())
    return AtBudget(
        method=method.name,
        accuracy=number(float(resampled.value[name][index])),
        ci95=resampled.interval(index, name),
        over_random=judged(gain.test()),
        over_small=over_small,
        decides_before_answer=method.decides_before_answer,
        dollars=_dollars(analysis, index),
    )


def _dollars(analysis: Analysis, index: int) -> float | None:
    inputs, line = analysis.inputs, analysis.cost_along(index, "dollars")
    return None if line is None else float(line[n_escalated(len(inputs.correct), inputs.budget_percent)])


def _mean(costs: "np.ndarray[tuple[int], np.dtype[np.float64]] | None") -> float | None:
    return None if costs is None else float(costs.mean())
