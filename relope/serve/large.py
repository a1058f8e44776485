"""The large model as the operator describes it, and what comes of a call to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from relope.evaluate.numbers import costs
from relope.evaluate.numbers.costs import ModelCost
from relope.serve.problems import Problem
from relope.types import Usage


@dataclass(frozen=True, kw_only=True)
class LargeModel:
    """Where the large model is and how it is asked.

    Attributes:
        base_url: e.g. ``https://api.openai.com/v1``.
        name: of the model there.
        query: of each request, e.g. Azure's ``api-version``.
        key: that is sent, or ``""``.
        takes_bearer: whether it is sent as a bearer token; Azure's goes in the header ``api-key``.
        price: dollars of its tokens; None where they are not known.
        timeout_s: until the first byte, and between two.
        retries: after the first attempt.
        concurrent: calls under way at most.
        queue_s: seconds that a call waits for its turn.
        max_usd_per_hour: None for no cap.
    """

    base_url: str
    name: str
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: str = field(default="", repr=False)
    takes_bearer: bool = True
    price: ModelCost | None = None
    timeout_s: float = 120.0
    retries: int = 2
    concurrent: int = 64
    queue_s: float = 10.0
    max_usd_per_hour: float | None = None


async def _nothing() -> None:
    """Close nothing."""


@dataclass
class LargeAnswer:
    """What came of a call: a body, or the events of a stream, of which the first is there.

    Attributes:
        status: of HTTP.
        body: of an answer that is no stream.
        events: of a stream.
        usage: known when the answer has ended.
        close: ends the call; to be awaited whatever became of its events.
    """

    status: int
    body: bytes = b""
    events: AsyncIterator[bytes] | None = None
    usage: Callable[[], Usage] = Usage
    close: Callable[[], Awaitable[None]] = _nothing


class Unavailable(Exception):
    """The large model cannot answer; another one may.

    Args:
        reason: a word for a header: ``large-error``, ``large-down``, ``large-budget`` or ``large-busy``.
        problem: what the client is told where nobody else answers.
    """

    def __init__(self, reason: str, problem: Problem) -> None:
        super().__init__(problem.message)
        self.reason, self.problem = reason, problem


def dollars_of(price: ModelCost | None, prompt: int | None, answer: int | None, cached: int = 0) -> float | None:
    """Return what tokens cost, as in a report; None where a price or a count is unknown."""
    return None if prompt is None or answer is None else costs.dollars_of(price, prompt, answer, cached)
