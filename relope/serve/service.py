"""What one server holds: the engine, the large model, and everything that outlives a request."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relope.evaluate.numbers.costs import ModelCost
from relope.serve.bundle import Bundle
from relope.serve.chat import Request
from relope.serve.drift import Drift, History, drift
from relope.serve.engine import Engine, EngineError, Query
from relope.serve.intake import Full, Intake
from relope.serve.large import LargeModel, dollars_of
from relope.serve.limits import Limits
from relope.serve.log import Unlogged, open_log
from relope.serve.metrics import Metrics, drift_gauges, engine_gauges
from relope.serve.policy import Settings
from relope.serve.problems import Problem
from relope.serve.records import Asked, Record, decision_body, line
from relope.serve.sessions import Sessions
from relope.serve.upstream import Large

logger = logging.getLogger("relope.serve")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one server behaves.

    Attributes:
        policy: who answers.
        limits: on requests.
        session_ttl_s: how long a conversation stays with the large model; 0: each request is decided anew.
        image_hosts: that images may be fetched from.
        log: where decisions are logged; None for nowhere.
        log_prompts: whether their texts are, too.
        forward_auth: whether clients' credentials are passed on.
        small_price: dollars of the small model's tokens; None where they are not known.
        drain_s: seconds that requests under way are given at the end.
        most_aside: requests whose decision is computed while the large model answers, at most.
    """

    policy: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)
    session_ttl_s: float = 600.0
    image_hosts: tuple[str, ...] = ()
    log: Path | None = None
    log_prompts: bool = False
    forward_auth: bool = False
    small_price: ModelCost | None = None
    drain_s: float = 30.0
    most_aside: int = 64


class Service:
    """One server's state. Everything but the gauges runs on one event loop.

    Args:
        bundle: that decides.
        engine: that scores and answers.
        large: the model that others are sent to.
        options: how it behaves.
    """

    def __init__(self, bundle: Bundle, engine: Engine, large: LargeModel, options: Options) -> None:
        self.bundle, self.engine, self.options = bundle, engine, options
        self.metrics, self.history = Metrics(), History()
        self.large = Large(large, lambda kind: self.metrics.upstream.labels(kind).inc())
        self.intake = Intake(options.limits, options.image_hosts)
        self.sessions = Sessions(options.session_ttl_s)
        self.aside: set[asyncio.Task[None]] = set()
        self.log = open_log(options.log)
        self._state = "engine-starting"
        self.n_answered = {"small": 0, "large": 0}
        self.saved_usd = 0.0
        self.metrics.watch(self._gauges)

    @property
    def bundle_id(self) -> str:
        """What headers and logs call the bundle."""
        return self.bundle.fingerprint[:12]

    @property
    def not_running(self) -> str:
        """Why the engine answers nothing, in a word; ``""`` where it does."""
        return self._state or self.engine.fault() or ""

    async def start(self) -> None:
        """Start the engine; until then the large model answers all.

        Raises:
            RelopeError: it cannot start.
        """
        await self.engine.start()
        self._state = ""

    async def stop(self) -> None:
        """End everything, in the order in which it depends on another."""
        self._state = "engine-stopping"
        await self.engine.stop(self.options.drain_s)
        await asyncio.gather(*self.aside, return_exceptions=True)
        await self.large.close()
        await self.intake.close()
        self._logged(self.log.close)

    @property
    def large_down(self) -> str:
        """Why the large model takes no call now, in a word; ``""`` where it does."""
        why = self.large.unavailable()
        return why.reason if why else ""

    async def score(self, request: Request, asked: Asked) -> dict[str, Any]:
        """Return the decision on a request that nobody answers.

        Raises:
            Problem: an image that cannot be read.
        """
        head = {"object": "relope.score", "request_id": asked.request_id, "bundle": self.bundle_id}
        if reason := request.beyond_small() or self.not_running:
            return {**head, "route": "large", "reason": reason, **_UNDECIDED}
        self.intake.check_images(request)
        with contextlib.ExitStack() as held:
            try:
                query = await self.intake.query(request, asked.threshold, None, held, score_only=True)
            except Full:
                return {**head, "route": "large", "reason": "small-busy", **_UNDECIDED}
            return {**head, **await self._scored(query, asked)}

    async def _scored(self, query: Query, asked: Asked) -> dict[str, Any]:
        """Return the engine's decision on a query that nobody answers."""
        if why := self.engine.can(query):
            return {"route": "large", "reason": why[0], **_UNDECIDED, "detail": why[1]}
        ticket = None
        try:
            ticket = self.engine.submit(query)
            decision = await ticket.decision()
        except EngineError:
            return {"route": "large", "reason": "engine-error", **_UNDECIDED}
        finally:
            if ticket is not None:
                ticket.cancel()
        record = Record(asked.request_id, decision=decision)
        self.count_decision(record)
        return {"route": decision.route, "reason": decision.reason, **decision_body(decision)}

    def feedback(self, request_id: str, correct: bool) -> None:
        """Log the outcome of a request.

        Raises:
            Problem: no log is kept.
        """
        if self.options.log is None:
            raise Problem(409, "no log is kept, so an outcome has nowhere to go", "no_log")
        self._write({**line("feedback", request_id), "correct": correct})

    def drift(self) -> Drift | None:
        """Return how the newest scores differ from those of the calibration; None while there are too few."""
        return drift(self.history.newest(), self.bundle.scores)

    def set_threshold(self, threshold: float) -> None:
        """Escalate scores below another threshold from now on."""
        self.engine.threshold = threshold
        logger.info("threshold %.6g", threshold)
        if self.options.log is not None:
            self._write({**line("threshold", ""), "threshold": threshold, "bundle": self.bundle_id})

    def count_decision(self, record: Record) -> None:
        """Count what the router has decided, whoever answers."""
        decision = record.decision
        if decision is None:
            return
        if decision.score is not None and record.decided is not None:
            self.metrics.scores.observe(decision.score)
            self.metrics.decided.labels(record.decided).inc()
            self.history.add(decision.score)
        for stage in ("waiting", "prompt", "scoring"):
            self.metrics.stage.labels(stage).observe(getattr(decision.timing, stage))
        if record.decided_s is not None:
            self.metrics.stage.labels("decision").observe(record.decided_s)

    def finish(self, record: Record, ended: str) -> None:
        """Count and log a request that has ended."""
        if ended in ("cancelled", "stalled"):
            self.metrics.cancelled.inc()
        if record.first_s is not None:
            self.metrics.stage.labels("first").observe(record.first_s)
        self.metrics.stage.labels("total").observe(record.so_far_s)
        if record.route is not None:
            self.n_answered[record.route] += 1
            for kind, n in (("prompt", record.prompt_tokens), ("answer", record.answer_tokens)):
                self.metrics.tokens.labels(record.route, kind).inc(n or 0)
            self._pay(record)
        if self.options.log is not None:
            self._write(record.log(self.bundle_id, ended))

    def _pay(self, record: Record) -> None:
        """Count dollars, where prices and tokens are known.

        As in a report, an escalated request also costs what the small model did for the decision: it read the
        prompt, and for a router that reads the answer it wrote that.
        """
        small, large = self.options.small_price, self.large.model.price
        prompt, answer, decision = record.prompt_tokens, record.answer_tokens, record.decision
        at_large = dollars_of(large, prompt, answer, record.cached_tokens)
        record.usd = at_large if record.route == "large" else dollars_of(small, prompt, answer)
        if decision is not None and decision.n_prompt_tokens and "large" in (record.route, decision.route):
            deciding = dollars_of(small, decision.n_prompt_tokens, decision.n_answer_tokens)
            record.usd = None if record.usd is None or deciding is None else record.usd + deciding
        if record.route == "large" and at_large is None and large is not None:
            self.metrics.unpriced.inc()
        if record.route == "small" and record.usd is not None and at_large is not None:
            self.saved_usd += at_large - record.usd
            self.metrics.saved.inc(max(0.0, at_large - record.usd))
        if record.usd is not None and record.route:
            self.metrics.spent.labels(record.route).inc(record.usd)

    def _write(self, record: Mapping[str, Any]) -> None:
        self._logged(lambda: self.log.write(record))

    def _logged(self, write: Callable[[], None]) -> None:
        """Do something with the log; a full disk ends no request, but is counted and told."""
        try:
            write()
        except OSError as error:
            self.metrics.unlogged.inc(error.n_records if isinstance(error, Unlogged) else 1)
            logger.warning("the log cannot be written: %s", error)

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        yield from engine_gauges(self.engine.counters())
        yield from drift_gauges(self.drift())
        yield "threshold", "Scores below it are escalated", self.engine.threshold
        yield "spent_usd_last_hour", "Dollars of the large model in the last hour", self.large.purse.last_hour
        yield "large_down", "Whether calls to the large model are held back", float(self.large.breaker.is_open)
        yield "sessions", "Conversations that are with the large model", len(self.sessions)
        yield "ready", "Whether the engine answers", float(not self.not_running)


_UNDECIDED = {
    "score": None, "p_correct": None, "threshold": None, "detail": "", "n_prompt_tokens": 0, "n_answer_tokens": 0,
}  # fmt: skip


def new_request_id() -> str:
    """Return a name that no other request has."""
    return f"req_{uuid.uuid4().hex[:24]}"
