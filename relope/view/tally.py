"""How often each model, and the system at the budget, is right on the samples that are shown."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from relope.evaluate.numbers.intervals import Interval, grouped_share_interval
from relope.evaluate.numbers.metrics import Bools, Ints
from relope.view.board import RIGHT, Board
from relope.view.query import Query, router_of
from relope.view.verdicts import Verdicts


@dataclass(frozen=True)
class Tally:
    """One count.

    Attributes:
        of: whose answers.
        right: so many are right,
        n: of so many that anybody could judge.
        interval: 95 % of the share; None where samples were chosen by what came of them, so that it estimates nothing.
    """

    of: str
    right: int
    n: int
    interval: Interval | None

    @property
    def share(self) -> float:
        """Of the right ones."""
        return self.right / self.n


def tallies(board: Board, verdicts: Verdicts, query: Query, chosen: Ints) -> Iterator[Tally]:
    """Yield the counts of the chosen samples: each model, then the system, or what the small model keeps."""
    small, known = verdicts.right["small"], verdicts.known("small")
    yield from _tally(board, query, board.small.model, chosen[known[chosen]], small == RIGHT)
    if board.large is not None:
        there = chosen[verdicts.known("large")[chosen]]
        yield from _tally(board, query, board.large.model, there, verdicts.right["large"] == RIGHT)
    queue = router_of(board, query)
    if queue is None:
        return
    ranked, goes = queue.order_of >= 0, queue.escalated(query.budget)
    if board.large is None:
        kept = chosen[(ranked & known & ~goes)[chosen]]
        yield from _tally(board, query, f"kept by {queue.name}", kept, small == RIGHT)
        return
    both = chosen[(ranked & known & verdicts.known("large"))[chosen]]
    right = np.where(goes, verdicts.right["large"] == RIGHT, small == RIGHT)
    yield from _tally(board, query, f"both with {queue.name}", both, right)


def _tally(board: Board, query: Query, of: str, chosen: Ints, right: Bools) -> Iterator[Tally]:
    if not len(chosen):
        return
    values = right[chosen]
    interval = None
    if query.is_part:
        interval = grouped_share_interval(values, board.groups[chosen])
    yield Tally(of, int(values.sum()), len(values), interval)
