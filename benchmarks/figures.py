"""What every benchmark prints: a figure, its spread, its goal and whether it is met; ``--json`` for programs.

What is compared is measured in rounds, in which the contenders take turns, so that whatever else the machine does meets
all of them alike. A ratio is the median over the rounds, and a goal inside its spread is neither met nor missed.
"""

import argparse
import json
import math
import operator
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROUNDS = 5
"""The fewest rounds whose least and largest ratio hold the true median in 15 of 16 runs."""


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Args:
        value: the median over the rounds; None where it could not be measured.
        low: of the spread; None where the figure was measured once.
        high: of the spread.
        goal: for people, e.g. ``>= 0.9``; None where the figure is only shown.
        met: None where the goal lies inside the spread, or where there is none.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    goal: str | None = None
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """Return what the figure says of its goal, in a word."""
        if self.goal is None:
            return "shown"
        return {True: "met", False: "MISSED", None: "unsure"}[self.met]

    def __str__(self) -> str:
        """Return the figure as a person reads it."""
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        spread = [] if self.low is None else [f"{self.low:.4g} to {self.high:.4g}"]
        goal = [] if self.goal is None else [f"goal {self.goal}"]
        return f"{value} ({'; '.join(spread + goal)})" if spread + goal else value


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the least interval of order statistics that holds the true median in at least 15 of 16 runs.

    The true median lies below the k-th of n sorted values only if fewer than k of n fair coins show heads. Of five to
    eight values that leaves the least and the largest, of fifteen the fourth from either end.
    """
    ordered, cut, tail = sorted(values), 0, 1
    while (tail := tail + math.comb(len(ordered), cut + 1)) * 32 <= 2 ** len(ordered):
        cut += 1
    return ordered[cut], ordered[-1 - cut]


def shown(values: float | Sequence[float]) -> Figure:
    """Return a figure without a goal."""
    several = values if isinstance(values, Sequence) else [values]
    return Figure(statistics.median(several), *(spread(several) if len(several) > 1 else ()))


def at_least(values: float | Sequence[float], goal: float) -> Figure:
    """Return a figure that should not be below its goal."""
    return _judged(shown(values), goal, ">=", operator.ge)


def at_most(values: float | Sequence[float], goal: float) -> Figure:
    """Return a figure that should not be above its goal."""
    return _judged(shown(values), goal, "<=", operator.le)


def share_within(hits: int, runs: int, low: float, high: float) -> Figure:
    """Return the share of runs that hit, its 95 % Wilson interval as the spread; it should lie between two goals."""
    z2 = 1.96**2
    share, half = hits / runs, 1.96 * math.sqrt(hits * (runs - hits) / runs + z2 / 4) / (runs + z2)
    centre = (hits + z2 / 2) / (runs + z2)
    ends = max(0.0, centre - half), min(1.0, centre + half)
    inside, outside = low <= ends[0] and ends[1] <= high, ends[1] < low or ends[0] > high
    return Figure(share, *ends, f"{low:g} to {high:g}", True if inside else False if outside else None)


def _judged(figure: Figure, goal: float, sign: str, reaches: Callable[[float | None, float], bool]) -> Figure:
    ends = [figure.value] if figure.low is None else [figure.low, figure.high]
    reached = {reaches(end, goal) for end in ends}
    return replace(figure, goal=f"{sign} {goal:g}", met=reached.pop() if len(reached) == 1 else None)


def rounds(
    contenders: Mapping[str, Callable[[], object]],
    n: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of each contender, one a round; in a round each has its turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(n):
        for name, run in contenders.items():
            begun = clock()
            run()
            seconds[name].append(clock() - begun)
    return seconds


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return one over the other, round by round."""
    return [first / second for first, second in zip(above, below, strict=True)]


def machine() -> str:
    """Return what the figures were measured on, and how busy it was before."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    n_cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return f"{n_cores} cores of {model}, load {load:.1f}, Python {platform.python_version()}"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", action="store_true", help="print {name: {value, low, high, goal, met}}")
    options.add_argument("--quick", action="store_true", help="the smallest sizes, only to see that it runs")
    return options


def show(figures: Mapping[str, Figure], as_json: bool) -> None:
    """Print figures as lines or as JSON."""
    if as_json:
        sys.stdout.write(json.dumps({name: asdict(figure) for name, figure in figures.items()}, indent=2) + "\n")
        return
    for name, figure in figures.items():
        sys.stdout.write(f"{figure.verdict:6} {name}: {figure}\n")


def main(measure: Callable[[bool], dict[str, Figure]], description: str | None) -> None:
    """Measure, at the smallest sizes if asked to, and show; exit with 1 when a goal is missed."""
    asked = parser(description).parse_args()
    (sys.stderr if asked.json else sys.stdout).write(f"{machine()}\n")
    figures = measure(asked.quick)
    if asked.quick:  # nothing can be said at these sizes
        figures = {name: replace(figure, goal=None, met=None) for name, figure in figures.items()}
    show(figures, asked.json)
    sys.exit(any(figure.met is False for figure in figures.values()))
