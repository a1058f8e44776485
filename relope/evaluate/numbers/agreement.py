"""How often two graders say the same of the same answers."""

from dataclasses import asdict, dataclass
from typing import Any

from relope.evaluate.numbers.estimates import Population, share_term
from relope.evaluate.numbers.intervals import Z95
from relope.evaluate.numbers.metrics import Bools, Groups


@dataclass(frozen=True)
class Agreement:
    """Of how many answers two graders say the same.

    Attributes:
        n: answers that both judge.
        share: of these on which they agree.
        low: of its 95 % interval, samples that share an image taken together.
        high: likewise.
        first_only: answers that the first alone calls right.
        second_only: that the second alone does.
    """

    n: int
    share: float
    low: float
    high: float
    first_only: int
    second_only: int

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def agreement(first: Bools, second: Bools, groups: Groups) -> Agreement | None:
    """Return how often two graders agree; None where there is no answer that both judge.

    Args:
        first: ``[N]`` whether the first calls each answer right.
        second: ``[N]`` whether the second does.
        groups: ``[N]`` image group of each.
    """
    if not len(first):
        return None
    term = share_term(first == second, Population.of(groups, 0))
    low, high = term.bounds(Z95)
    return Agreement(len(first), term.value, low, high, int((first & ~second).sum()), int((~first & second).sum()))
