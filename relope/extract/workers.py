"""Many questions at an endpoint at once, within what may be spent; each answer is kept as soon as it is there."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from relope.errors import RelopeError
from relope.extract.allowance import Allowance, Bill
from relope.extract.endpoint.address import Endpoint
from relope.extract.endpoint.client import Filtered, Manners, Question, Refused, Toll, ask
from relope.types import Answer, Usage

_SYNC_S = 1.0
T = TypeVar("T")


def _as_it_is(answer: Answer) -> Answer:
    return answer


@dataclass(frozen=True)
class Put:
    """One question, and what its answer is kept under.

    Attributes:
        key: in the journal.
        digest: of what is asked.
        question: as it is sent.
        estimate: the tokens that it may take, by our count of them.
        kept: what is kept of its answer, and handed on.
    """

    key: str
    digest: str
    question: Question
    estimate: Usage
    kept: Callable[[Answer], Answer] = _as_it_is


class Journal(Protocol):
    """Where answers are kept as they come; `AnswerJournal` is one."""

    def add(self, sample: str, asked: str, answer: Answer, /) -> None:
        """Keep the answer to a question, by its key and digest."""

    def refuse(self, sample: str, asked: str, reason: str, /) -> None:
        """Keep that a content filter refuses one."""

    def bill(self, bill: Bill, /) -> None:
        """Keep what a request has cost that left no answer."""

    def sync(self) -> None:
        """Wait until what was kept is on the disk."""


class Unkept:
    """A journal that keeps nothing, for answers that are kept where they are yielded."""

    def add(self, sample: str, asked: str, answer: Answer, /) -> None:
        """Keep nothing."""

    def refuse(self, sample: str, asked: str, reason: str, /) -> None:
        """Keep nothing."""

    def bill(self, bill: Bill, /) -> None:
        """Keep nothing."""

    def sync(self) -> None:
        """Wait for nothing."""


@dataclass(frozen=True)
class WorkerPool:
    """Workers that put questions to an endpoint.

    Attributes:
        endpoint: that answers.
        journal: where each answer is kept at once.
        allowance: what may be spent.
        workers: questions at a time.
    """

    endpoint: Endpoint
    journal: Journal
    allowance: Allowance
    workers: int


def answers_at(
    pool: WorkerPool, items: Sequence[T], put: Callable[[T], Put]
) -> Generator[tuple[T, Answer | RelopeError], None, None]:
    """Yield each item with its answer, or with why it has none, as they come in; then those still in flight.

    An error that is no `Refused` ends the run: nothing more is asked after it.

    Args:
        pool: who puts them; its allowance is stopped to end the run early.
        items: what is asked about.
        put: item → its question; called by several threads.
    """
    todo: queue.SimpleQueue[T] = queue.SimpleQueue()
    for item in items:
        todo.put(item)
    results: queue.SimpleQueue[tuple[T, Answer | BaseException] | None] = queue.SimpleQueue()
    manners = Manners(over=lambda: pool.allowance.stopped)
    workers = min(pool.workers, len(items))
    for number in range(workers):
        arguments = (pool, put, manners, todo, results)
        threading.Thread(target=_work, args=arguments, name=f"relope-ask-{number}", daemon=True).start()
    synced = time.monotonic()
    try:
        while workers:
            if (result := results.get()) is None:
                workers -= 1
                continue
            item, outcome = result
            if not isinstance(outcome, (Answer, RelopeError)):
                raise outcome
            yield item, outcome
            if time.monotonic() - synced > _SYNC_S:
                pool.journal.sync()
                synced = time.monotonic()
    finally:
        pool.allowance.stop()


def _work(
    pool: WorkerPool,
    put: Callable[[T], Put],
    manners: Manners,
    todo: "queue.SimpleQueue[T]",
    results: "queue.SimpleQueue[tuple[T, Answer | BaseException] | None]",
) -> None:
    """Ask about one item after another, until there is none or the run ends; None says that nothing more will come."""
    try:
        while not pool.allowance.stopped:
            item = todo.get_nowait()
            try:
                results.put((item, _answer(pool, put(item), manners)))
            except Refused as error:
                results.put((item, error))
            except BaseException as error:  # noqa: BLE001 (what is no error of ours is raised on the thread that waits)
                results.put((item, error))
                pool.allowance.stop()  # here, since nobody may ask on until the thread that waits has seen it
    except queue.Empty:
        pass
    finally:
        results.put(None)


def _answer(pool: WorkerPool, put: Put, manners: Manners) -> Answer:
    """Return the answer to a question, once it is kept.

    Raises:
        Filtered: the content filter refuses it; that is kept too.
        Refused: the server does not take it.
        RelopeError: the run ends here.
    """
    reserved, usage = _Reserved(pool, put.estimate), None
    try:
        answer = ask(pool.endpoint, put.question, manners, Toll(reserved.leave, reserved.unanswered))
        usage = answer.usage
        kept = put.kept(answer)
        pool.journal.add(put.key, put.digest, kept)
    except Filtered as error:
        usage = error.usage
        if usage is not None:
            pool.journal.bill(Bill(usage, certain=True))
        pool.journal.refuse(put.key, put.digest, str(error))
        raise
    finally:
        reserved.settle(usage)
    return kept


@dataclass
class _Reserved:
    """What is set aside for a question while it is asked: anew for each request after one that got no answer."""

    pool: WorkerPool
    estimate: Usage
    most: Usage | None = None
    dollars: float = 0.0

    def leave(self) -> None:
        """Set aside what a request may cost that is about to be sent, and count it."""
        allowance = self.pool.allowance
        if self.most is None:
            most = allowance.at_most(self.estimate)
            dollars = allowance.dollars_of(most)
            allowance.reserve(dollars)
            self.most, self.dollars = most, dollars
        allowance.request()

    def unanswered(self) -> None:
        """Take what was set aside as spent, in this run and those after it: the server may have charged it."""
        assert self.most is not None  # it was sent
        self.pool.journal.bill(Bill(self.most, certain=False))
        self.pool.allowance.doubt(self.dollars)
        self.most = None

    def settle(self, usage: Usage | None) -> None:
        """Count what an answer took; None where there is none."""
        if usage is not None:
            self.pool.allowance.learn(self.estimate, usage)
        if self.most is not None:
            self.pool.allowance.settle(self.dollars, usage)
