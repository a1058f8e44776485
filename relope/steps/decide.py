"""What a router decides about samples: below which score a query goes to the large model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from relope.errors import InvalidInputError
from relope.evaluate.numbers.budget import threshold_for
from relope.probes.router import Router
from relope.store import ActivationStore
from relope.store.grades import rows_of

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
VALIDATION = "validation"
RULE = 2
"""Of a budget's threshold: raised when the same scores give another; 2 never exceeds the budget on them."""


@dataclass(frozen=True)
class Decision:
    """Scores below the threshold are escalated.

    Attributes:
        threshold: on the scale of the scores.
        set_on: what it was set for and on; ``""`` where the user gave it.
    """

    threshold: float
    set_on: str = ""

    def escalates(self, scores: Scores) -> npt.NDArray[np.bool_]:
        """Return ``[N]`` which samples go to the large model."""
        return np.asarray(scores.astype(np.float64) < self.threshold)

    def told(self, scores: Scores) -> str:
        """Say what becomes of the samples."""
        n, of = int(self.escalates(scores).sum()), len(scores)
        where = f" ({self.set_on})" if self.set_on else ""
        return f"{n:,} of {of:,} escalated, {100 * n / of:.1f} %: scores below {self.threshold:.6g}{where}"


def check_decision(budget: float | None, threshold: float | None) -> None:
    """Refuse two ways of deciding at once.

    Raises:
        InvalidInputError: both are given.
    """
    if budget is not None and threshold is not None:
        raise InvalidInputError(
            f"a budget ({budget:g}) and a threshold ({threshold:g}) are given; one of them decides",
            hint="drop --budget or --threshold",
        )


def held_out(router: Router, store: ActivationStore, splits: Sequence[str]) -> Rows | None:
    """Return the rows that a threshold for a budget is set on; None where the store has none beside those scored.

    They are the validation split, unless it is scored itself or the router learned from some of it.
    """
    if VALIDATION in splits or VALIDATION not in store.samples["split"].unique().to_list():
        return None
    rows = rows_of(store, (VALIDATION,))
    return None if router.seen_in(store, rows).any() else rows


def decision(
    budget: float | None, threshold: float | None, scores: Scores, held: Rows | None, score: Callable[[Rows], Scores]
) -> Decision | None:
    """Return what decides, None where nothing was asked.

    Args:
        budget: share to escalate.
        threshold: scores below it are escalated.
        scores: ``[N]`` of the samples that are decided on.
        held: rows that a budget's threshold is set on; None sets it on the samples themselves.
        score: gives the scores of rows.
    """
    if threshold is not None:
        return Decision(threshold)
    if budget is None:
        return None
    on = "the scored samples themselves" if held is None else f"{len(held):,} {VALIDATION} samples"
    values = (scores if held is None else score(held)).astype(np.float64)
    threshold = threshold_for(values, budget)
    rounded = _rounded(budget * len(values), int((values < threshold).sum()))
    return Decision(threshold, f"set for at most {100 * budget:.4g} % of {on}{rounded}")


def _rounded(asked: float, n: int) -> str:
    """Say where fewer samples than were asked for are escalated, and why."""
    whole = int(asked + 1e-6)
    if n < whole:
        return f"; {whole - n:,} of these {whole:,} tie with what is kept"
    return f"; {asked:.4g} rounded down to {n:,}" if asked - n > 1e-6 else ""
