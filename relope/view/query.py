"""Which samples are wanted, and in which order: what an address of the page says."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np

from relope.evaluate.numbers.metrics import Bools, Ints
from relope.serve.problems import invalid
from relope.view.board import RIGHT, UNKNOWN, WRONG, Board, Queue
from relope.view.verdicts import Verdicts

GRADES = {"right": RIGHT, "wrong": WRONG, "unknown": UNKNOWN}
DECISIONS = ("kept", "escalated")
SORTS = {
    "store": "as stored",
    "low": "lowest P first",
    "high": "highest P first",
    "spread": "most unlike P first",
}
_WORDS = 200


@dataclass(frozen=True)
class Query:
    """What is wanted; ``""`` is no wish.

    Attributes:
        words: that all stand in the id, the question, the choices or an answer; capitals do not count.
        split: name of a split.
        subject: ``column=value`` of a subject.
        grade: ``right``, ``wrong``, ``unknown``, ``unparsed`` or ``corrected``: the small model's.
        large: ``right``, ``wrong`` or ``unknown``: the large model's grade.
        decision: ``kept`` or ``escalated`` by the router at the budget.
        differ: ``1`` for samples that some routers keep and some escalate.
        low: least P(correct) of the router, in percent.
        high: most P(correct) of the router, in percent.
        router: whose scores are sorted, filtered and decided by.
        budget: percent of a queue that are escalated.
        sort: one of `SORTS`.
    """

    words: str = ""
    split: str = ""
    subject: str = ""
    grade: str = ""
    large: str = ""
    decision: str = ""
    differ: str = ""
    low: int = 0
    high: int = 100
    router: str = ""
    budget: int = 20
    sort: str = "store"

    def link(self, **changes: Any) -> str:
        """Return the query string of the same wish with some changes; what is no wish is left out."""
        plain = asdict(Query(router=self.router, budget=self.budget))
        return urlencode({k: v for k, v in (asdict(self) | changes).items() if v != plain.get(k) or k in _ALWAYS})

    @property
    def is_part(self) -> bool:
        """Whether samples are chosen by what they are, not by what came of them: a share of these is an estimate."""
        outcomes = (self.grade, self.large, self.decision, self.differ)
        return not any(outcomes) and (self.low, self.high) == (0, 100)


_ALWAYS = ("router", "budget")


def read_query(given: Mapping[str, str], board: Board, budget: int) -> Query:
    """Read an address's query; what is not asked for is the default.

    Raises:
        Problem: a value that there is none of: an old link must not show something else in silence.
    """
    routers = [queue.name for queue in board.queues]
    allowed = {
        "split": board.samples["split"].unique().to_list(),
        "subject": [subject for subject, _ in subjects(board)],
        "grade": [*GRADES, "unparsed", "corrected"],
        "large": list(GRADES),
        "decision": DECISIONS,
        "differ": ("1",),
        "router": routers,
        "sort": list(SORTS),
    }
    asked: dict[str, Any] = {"router": routers[0] if routers else "", "budget": budget}
    for name, values in allowed.items():
        value = given.get(name, "")
        if value and value not in values:
            raise invalid(f"there is no such {name} here", name)
        if value:
            asked[name] = value
    asked |= {name: _percent(given[name], name) for name in ("low", "high", "budget") if given.get(name)}
    return Query(words=given.get("words", "")[:_WORDS], **asked)


def _percent(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 100):
        raise invalid(f"{name} must be a whole percent from 0 to 100", name)
    return int(text)


def subjects(board: Board) -> Iterator[tuple[str, str]]:
    """Yield ``column=value`` and the value of every subject."""
    for column, values in board.subjects.items():
        for value in values.unique().sort().to_list():
            yield f"{column}={value}", value


def router_of(board: Board, query: Query) -> Queue | None:
    """Return the router that a query is about; None where nothing is scored."""
    return next((queue for queue in board.queues if queue.name == query.router), None)


def select(board: Board, verdicts: Verdicts, query: Query) -> Ints:
    """Return the indices of the samples that are wanted, in order."""
    wanted = np.ones(len(board), bool)
    for part in _filters(board, verdicts, query):
        wanted &= part
    return _ordered(board, query, np.flatnonzero(wanted))


def _filters(board: Board, verdicts: Verdicts, query: Query) -> Iterator[Bools]:
    for word in query.words.lower().split():
        yield board.words.str.contains(word, literal=True).to_numpy()
    if query.split:
        yield (board.samples["split"] == query.split).to_numpy()
    if query.subject:
        column, _, value = query.subject.partition("=")
        yield (board.subjects[column] == value).to_numpy()
    yield from _graded(board, verdicts, query)
    queue = router_of(board, query)
    if queue is None:
        return
    if query.decision:
        yield (queue.escalated(query.budget) == (query.decision == "escalated")) & (queue.order_of >= 0)
    if query.differ:
        yield differing(board, query.budget)
    if (query.low, query.high) != (0, 100):
        score = np.round(100 * queue.score, 4)  # a score of 0.2 was kept in 32 bits
        yield (score >= query.low) & (score <= query.high)


def _graded(board: Board, verdicts: Verdicts, query: Query) -> Iterator[Bools]:
    if query.grade == "unparsed":
        yield (board.small.table["parse_status"] == "unparsed").fill_null(value=False).to_numpy()
    elif query.grade == "corrected":
        yield np.logical_or.reduce([verdicts.by_hand[side] for side in verdicts.sides])
    elif query.grade:
        yield verdicts.right["small"] == GRADES[query.grade]
    if query.large and "large" in verdicts.sides:
        yield verdicts.right["large"] == GRADES[query.large]


def differing(board: Board, percent: int) -> Bools:
    """Return ``[N]`` which samples some routers keep and some escalate at a budget."""
    keeps, escalates = np.zeros(len(board), bool), np.zeros(len(board), bool)
    for queue in board.queues:
        goes = queue.escalated(percent)
        escalates |= goes
        keeps |= ~goes & (queue.order_of >= 0)
    return keeps & escalates


def _ordered(board: Board, query: Query, chosen: Ints) -> Ints:
    queue = router_of(board, query)
    if query.sort == "spread":
        key = -board.spread[chosen]
    elif query.sort in ("low", "high") and queue is not None:
        key = queue.score[chosen] if query.sort == "low" else -queue.score[chosen]
    else:
        return chosen
    return chosen[np.argsort(key, kind="stable")]  # NaN, a sample without a score, is last
