"""Do promises keep? ``python benchmarks/bench_guarantee.py [--json] [--quick]``, three minutes.

A router is drawn from a population whose errors are known exactly, calibrated on 300, 1,000 or 3,000 samples, and its
promise held against the population, 2,000 times. Populations: errors that fall with the score as a good router's do, a
router that knows nothing, one with ties (50 different scores), and one whose errors rise again among the surest. A
promise of 95 % may be broken in 5 % of the draws, plus three standard errors of 2,000 draws.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from figures import Figure, at_most, main, shown

from relope.evaluate.numbers.guarantee import Promise, promise_accuracy, promise_budget, promise_error
from relope.evaluate.numbers.metrics import Bools, Floats

DRAWS = 2_000
CONFIDENCE = 0.95
LARGE_ERROR = 0.15


@dataclass(frozen=True)
class Population:
    """Scores uniform on [0, 1] up to ties, with P(wrong) a function of the score."""

    risk: Callable[[Floats], Floats]
    levels: int | None = None

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Floats, Bools, Bools]:
        """Return scores, whether the small model is wrong and whether the large one is."""
        scores = self.scores(rng.random(n))
        return scores, rng.random(n) < self.risk(scores), rng.random(n) < LARGE_ERROR

    def scores(self, uniform: Floats) -> Floats:
        """Return uniform numbers, rounded down where there are ties."""
        return uniform if self.levels is None else np.floor(uniform * self.levels) / self.levels

    def __post_init__(self) -> None:
        """Lay out the population on a fine grid, once."""
        grid = self.scores((np.arange(200_000) + 0.5) / 200_000)
        object.__setattr__(self, "_grid", grid)
        object.__setattr__(self, "_risk", self.risk(grid))

    def truth(self, holds: str, threshold: float) -> float:
        """Return the share escalated, the error among kept or the system's accuracy at a threshold."""
        grid, risk = self._grid, self._risk  # type: ignore[attr-defined]
        kept = grid >= threshold
        if holds == "share escalated":
            return float(1 - kept.mean())
        if holds == "error among kept":
            return float(risk[kept].mean())
        return float(1 - np.where(kept, risk, LARGE_ERROR).mean())


POPULATIONS = {
    "falling": Population(lambda s: 0.7 * (1 - s) ** 1.5),
    "knows_nothing": Population(lambda s: np.full_like(s, 0.3)),
    "ties": Population(lambda s: 0.7 * (1 - s) ** 1.5, levels=50),
    "rising_again": Population(lambda s: 0.6 * (1 - s) + 0.5 * np.clip(s - 0.8, 0, None)),
}
PROMISES: dict[str, Callable[[Floats, Bools, Bools], Promise]] = {
    "budget_20": lambda s, wrong, large: promise_budget(s, 0.2, CONFIDENCE),
    "error_15": lambda s, wrong, large: promise_error(s, wrong, 0.15, CONFIDENCE),
    "error_30": lambda s, wrong, large: promise_error(s, wrong, 0.3, CONFIDENCE),
    "accuracy_80": lambda s, wrong, large: promise_accuracy(s, ~wrong, ~large, 0.8, CONFIDENCE),
}


def broken(promise: Promise, population: Population) -> bool:
    """Return whether a promise does not hold in the population."""
    if promise.threshold is None:
        return False
    truth = population.truth(promise.holds, promise.threshold)
    return truth < promise.bound if promise.holds.startswith("accuracy") else truth > promise.bound


def measure(quick: bool) -> dict[str, Figure]:
    """Return the share of promises broken, and how many could be made, by population, promise and n."""
    draws = 100 if quick else DRAWS
    allowed = 1 - CONFIDENCE + 3 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / draws)
    figures: dict[str, Figure] = {}
    for name, population in POPULATIONS.items():
        for n in (300, 1_000, 3_000):
            rng = np.random.default_rng([n, draws])
            made: dict[str, list[tuple[bool, bool]]] = {promise: [] for promise in PROMISES}
            for _ in range(draws):
                drawn = population.draw(n, rng)
                for label, make in PROMISES.items():
                    promise = make(*drawn)
                    made[label].append((promise.threshold is not None, broken(promise, population)))
            for label, outcomes in made.items():
                given, bad = np.array(outcomes).mean(axis=0)
                figures[f"broken_{label}_{name}_{n}"] = at_most(float(bad), float(allowed))
                figures[f"made_{label}_{name}_{n}"] = shown(float(given))
    return figures


if __name__ == "__main__":
    main(measure, __doc__)
