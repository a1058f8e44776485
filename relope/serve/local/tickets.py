"""Tickets of an engine whose model runs in a thread: set there, awaited in an event loop."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future

from relope.serve.engine import Decision, EngineError, Piece, Query


class ThreadTicket:
    """One query within an engine.

    Attributes:
        query: what is asked.
        threshold: score below which it is escalated.
        cancelled: whether it was given up.
        over: whether nothing more is told.
    """

    def __init__(self, query: Query, threshold: float, wake: Callable[[], None] = lambda: None) -> None:
        """Begin to wait.

        Args:
            query: what is asked.
            threshold: the engine's, for a query without one.
            wake: called when it is given up.
        """
        self.query, self.cancelled, self.over = query, False, False
        self.threshold = threshold if query.threshold is None else query.threshold
        self._wake, self._lock = wake, threading.Lock()
        self._decided: Future[Decision] = Future()
        self._pieces: deque[Piece | EngineError | None] = deque()
        self._waiter: Future[None] | None = None

    async def decision(self) -> Decision:
        """Wait for the decision; giving up waiting does not give up the query."""
        waiting = asyncio.wrap_future(self._decided)
        waiting.add_done_callback(_noticed)
        return await asyncio.shield(waiting)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Iterate over the answer."""
        while True:
            if (waiter := self._empty()) is not None:
                await asyncio.shield(asyncio.wrap_future(waiter))
            if (piece := self._taken()) is None:
                return
            yield piece

    def cancel(self) -> None:
        """Give the query up."""
        self.cancelled = True
        self._wake()

    @property
    def decided(self) -> bool:
        """Whether there is a decision, or a failure in its place."""
        return self._decided.done()

    @property
    def is_kept(self) -> bool:
        """Whether the decision is to answer it."""
        return self.decided and self._decided.result().route == "small" and not self.query.score_only

    def decide(self, decision: Decision) -> None:
        """Tell the decision; a query that is not kept has no answer."""
        self._decided.set_result(decision)
        if not self.is_kept:
            self._put(None)

    def add(self, piece: Piece) -> None:
        """Tell some more of the answer."""
        self._put(piece)
        if piece.finish is not None:
            self._put(None)

    def fail(self, error: EngineError) -> None:
        """Tell that there is no decision, or no more of the answer."""
        if not self._decided.done():
            self._decided.set_exception(error)
        self._put(error)

    def _put(self, piece: Piece | EngineError | None) -> None:
        with self._lock:
            self.over = self.over or not isinstance(piece, Piece)
            self._pieces.append(piece)
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(None)

    def _empty(self) -> "Future[None] | None":
        """Return what is set when there is a piece, or None where there is one."""
        with self._lock:
            if self._pieces:
                return None
            self._waiter = Future()
            return self._waiter

    def _taken(self) -> Piece | None:
        """Return the next piece; None at the end, which stays."""
        with self._lock:
            piece = self._pieces[0] if self._pieces[0] is None else self._pieces.popleft()
        if isinstance(piece, EngineError):
            self._put(None)
            raise piece
        return piece


def _noticed(waiting: "asyncio.Future[Decision]") -> None:
    """Look at a failure, which asyncio would report as overlooked where whoever waited for it has gone."""
    if not waiting.cancelled():
        waiting.exception()
