"""Queries on their way through a vLLM server: read, scored, and answered or stopped; each in a thread."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from relope.extract.model.stops import Stops
from relope.serve.apart.client import ServerGone
from relope.serve.apart.joined import Apart, Asked, Told
from relope.serve.engine import Counters, Decision, EngineError, Piece, Timing
from relope.serve.local.deciding import decided, unserved
from relope.serve.local.tickets import ThreadTicket
from relope.serve.local.writing import Writer
from relope.vllm.states import StatesError

_log = logging.getLogger("relope.serve")


class Tally:
    """Counters that several threads add to."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.counters, self._lock = Counters(), threading.Lock()

    def add(self, **more: int) -> None:
        """Add to some of them."""
        with self._lock:
            now = self.counters
            self.counters = replace(now, **{name: getattr(now, name) + n for name, n in more.items()})

    def tell(self, ticket: ThreadTicket, decision: Decision) -> None:
        """Tell a decision, and count it first."""
        with self._lock:
            by_route = {**self.counters.decided, decision.route: self.counters.decided[decision.route] + 1}
            n = self.counters.prompt_tokens + decision.n_prompt_tokens
            self.counters = replace(self.counters, decided=by_route, prompt_tokens=n)
        ticket.decide(decision)


@dataclass
class Asking:
    """One query.

    Attributes:
        apart: what it is served with.
        ticket: who waits for it.
        asked: what is put to the server.
        since: when it was submitted, on the clock of ``time.perf_counter``.
        tally: what is counted.
        gone: called where the server does not answer.
        stopping: set when the engine stops.
    """

    apart: Apart
    ticket: ThreadTicket
    asked: Asked
    since: float
    tally: Tally
    gone: Callable[[], None]
    stopping: threading.Event
    began: float = field(default_factory=time.perf_counter)

    def run(self) -> None:
        """Serve it; whatever fails is told, and the engine goes on."""
        self.began = time.perf_counter()
        try:
            if self._gave_up():
                return
            self._decide_before() if self.apart.scorer.before_answer or self._wished else self._decide_after()
        except (EngineError, StatesError) as error:
            if not self.stopping.is_set():
                if isinstance(error, ServerGone):
                    self.gone()
                _log.warning("%s", error)
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 one query's trouble must not end the thread that others wait for
            _log.exception("a query failed")
            self._fail(f"the engine failed ({type(error).__name__})")

    @property
    def _wished(self) -> bool:
        """Whether the query's own wish decides, of a router that reads the answer."""
        query = self.ticket.query
        return query.route is not None and not query.score_only

    def _decide_before(self) -> None:
        score, scoring_s = None, 0.0
        if self.apart.scorer.before_answer:
            self.tally.add(deciding=1)
            try:
                handed = self.apart.read(self.ticket.query, self.asked.prompt)
                began = time.perf_counter()
                score = self.apart.scorer.at_prompt(self.asked.prompt, handed)
                scoring_s = time.perf_counter() - began
            finally:
                self.tally.add(deciding=-1)
        if self._gave_up():
            return
        self.tally.tell(self.ticket, self._decision(score, scoring_s))
        if self.ticket.is_kept:
            for piece in self._pieces(None):
                self.ticket.add(piece)

    def _decide_after(self) -> None:
        """Decide on the whole answer; tell it where it is kept."""
        told = Told()
        pieces = list(self._pieces(told))
        if not pieces or pieces[-1].finish is None:  # given up
            return
        began = time.perf_counter()
        n, text = self._kept(told.token_ids)
        score = self.apart.score(self.asked, told.first(n), text)
        if self._gave_up():
            return
        self.tally.tell(self.ticket, self._decision(score, time.perf_counter() - began, len(told.token_ids)))
        if self.ticket.is_kept:
            for piece in pieces:
                self.ticket.add(piece)

    def _kept(self, ids: Sequence[int]) -> tuple[int, str]:
        """Return how many tokens belong to an answer as routers read it, and its text: none of what stopped it."""
        stops = Stops(self.ticket.query.stop, self.apart.decode)
        ended = stops.ended(ids) if stops.texts else None
        return (len(ids), stops.decode(ids)) if ended is None else ended

    def _decision(self, score: float | None, scoring_s: float, n_answer_tokens: int = 0) -> Decision:
        timing = Timing(self.began - self.since, time.perf_counter() - self.began - scoring_s, scoring_s)
        n = self.asked.prompt.n_tokens, n_answer_tokens
        return decided(self.ticket.query, self.ticket.threshold, score, self.apart.calibrated, timing, *n)

    def _pieces(self, told: Told | None) -> Iterator[Piece]:
        """Yield an answer in pieces, to its end or until it is given up.

        Args:
            told: takes what the server tells of its tokens; None where no router reads it.
        """
        query, prompt = self.ticket.query, self.asked.prompt
        ends = frozenset(self.apart.backbone.traits.end_ids)
        answer = Answer(Writer(self.apart.decode, query.stop), ends, prompt.limit)
        steps = self.apart.answered(query, prompt, prompt.limit, told is not None)
        self.tally.add(answering=1)
        try:
            for step in steps:
                if self._gave_up():
                    return
                piece = answer.take(step.token_ids, step.finish is not None)
                self.tally.add(answer_tokens=piece.n_tokens)
                if told is not None:
                    told.add(step, piece.n_tokens)
                yield piece
                if piece.finish is not None:
                    return
        finally:
            steps.close()  # type: ignore[attr-defined]
            self.tally.add(answering=-1)

    def _gave_up(self) -> bool:
        """Return whether nobody waits any more, and say so."""
        if self.stopping.is_set():
            raise EngineError("the engine stopped")
        if self.ticket.cancelled:
            self.tally.add(cancelled=1)
            self.ticket.fail(EngineError("the query was cancelled"))
        return self.ticket.cancelled

    def _fail(self, why: str) -> None:
        """Let the large model take what is not decided yet; of the rest there is no more answer."""
        if self.ticket.over:
            return
        self.tally.add(failed=1)
        if self.ticket.decided or self.ticket.query.route == "small" or self.stopping.is_set():
            self.ticket.fail(EngineError(why))
        else:
            self.tally.tell(
                self.ticket, unserved(self.ticket.threshold, "engine-error", why, self.asked.prompt.n_tokens)
            )


@dataclass
class Answer:
    """An answer as its tokens come.

    Attributes:
        writer: makes text of them.
        ends: tokens that end it.
        left: tokens that may follow.
    """

    writer: Writer
    ends: frozenset[int]
    left: int

    def take(self, token_ids: Sequence[int], over: bool) -> Piece:
        """Return what some more tokens add.

        Args:
            token_ids: of the server, the end token included.
            over: whether it says that none follow.
        """
        text, taken = "", list[int]()
        for token in token_ids:
            if token in self.ends:
                return Piece(text + self.writer.end(), tuple(taken), "stop")
            taken.append(token)
            self.left -= 1
            text += self.writer.add(token)
            if self.writer.stopped:
                return Piece(text, tuple(taken), "stop")
        if self.left > 0 and not over:
            return Piece(text, tuple(taken))
        text += self.writer.end()
        return Piece(text, tuple(taken), "stop" if self.writer.stopped or self.left > 0 else "length")
