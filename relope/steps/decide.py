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


@dataclass(frozen=True)
class Decision:
    """Scores below the threshold are escalated.

    Attributes:
        threshold: on the scale of the scores.
        set_on: which samples it was set on; ``""`` where the user gave it.
    """

    threshold: float
    set_on: str

    def escalates(self, scores: Scores) -> npt.NDArray[np.bool_]:
        """Return ``[N]`` which samples go to the large model."""
        return np.asarray(scores.astype(np.float64) < self.threshold)

    def told(self, scores: Scores) -> str:
        """Say what becomes of the samples."""
        n, of = int(self.escalates(scores).sum()), len(scores)
        where = f" (set on {self.set_on})" if self.set_on else ""
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

    They are the validation split, unless it is scored itself or the router learned from it.
    """
    seen = {*splits, *router.learned_in(store)}
    unseen = VALIDATION in store.samples["split"].unique().to_list() and VALIDATION not in seen
    return rows_of(store, (VALIDATION,)) if unseen else None


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
        return Decision(threshold, "")
    if budget is None:
        return None
    if held is None:
        return Decision(threshold_for(scores.astype(np.float64), budget), "the scored samples themselves")
    return Decision(threshold_for(score(held).astype(np.float64), budget), f"{len(held):,} validation samples")
