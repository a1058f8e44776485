"""Which waiting requests are read together."""

from collections.abc import Iterable
from dataclasses import dataclass

from relope.serve.engine import EngineSettings, Query
from relope.serve.local.prompts import Prompt
from relope.serve.local.tickets import ThreadTicket


@dataclass(frozen=True, eq=False)
class Request:
    """A query whose prompt is made.

    Attributes:
        ticket: who waits for it.
        prompt: as the model reads it.
        since: when it was submitted, on the clock of ``time.perf_counter``.
    """

    ticket: ThreadTicket
    prompt: Prompt
    since: float

    @property
    def query(self) -> Query:
        """What is asked."""
        return self.ticket.query

    @property
    def threshold(self) -> float:
        """Score below which it is escalated."""
        return self.ticket.threshold


def take(ready: Iterable[Request], settings: EngineSettings, rows: int, width: int, most: int) -> list[Request]:
    """Return the next batch: the first request, and those behind it that go with it.

    Args:
        ready: in the order in which they came.
        settings: limits.
        rows: answers that are being written.
        width: tokens of the longest of them when it has got as long as it may; the others are padded to it.
        most: requests in a batch.
    """
    taken: list[Request] = []
    longest = 0  # of the prompts
    for request in ready:
        if len(taken) >= min(most, settings.max_rows - rows):
            break
        longer = max(longest, request.prompt.n_tokens)
        tokens = (len(taken) + 1) * longer
        if taken and (tokens > settings.batch_tokens or not request.prompt.goes_with([each.prompt for each in taken])):
            continue
        wide = max(width, longer + request.prompt.limit)
        if (taken or rows) and (rows + len(taken) + 1) * wide > settings.cache_tokens:
            break
        taken.append(request)
        longest, width = longer, wide
    return taken
