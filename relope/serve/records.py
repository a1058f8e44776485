"""What is remembered of one request until it ends, then counted and logged once."""

import dataclasses
import datetime
import json
import time
from dataclasses import dataclass, field
from typing import Any

from relope.serve.chat import Request
from relope.serve.engine import Decision, Route


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request says in its headers, as far as the operator lets it.

    Attributes:
        request_id: ours.
        threshold: its own; None for the server's.
        route: that it names.
        session: its name, or ``""``.
        authorization: passed on to the large model, or ``""``.
    """

    request_id: str
    threshold: float | None = None
    route: Route | None = None
    session: str = ""
    authorization: str = field(default="", repr=False)


@dataclass
class Record:
    """One request.

    Attributes:
        request_id: ours.
        stream: whether its answer is one.
        began: seconds of a clock that only goes forward.
        route: who answered; None as long as nobody has.
        reason: why, in a word.
        decision: the router's, where it was asked.
        decided_s: seconds from the beginning to the decision.
        first_s: seconds from the beginning to the first byte of the answer.
        status: of HTTP.
        model: that answered.
        prompt_tokens: of the answer, as who answered counts them.
        answer_tokens: likewise.
        cached_tokens: of the prompt's, those that the large model's server had read before.
        usd: what it cost, both models together; None where a price or a count is unknown.
        session: the first letters of its digest; ``""`` of a first turn that names none.
        messages: their texts as JSON where the operator logs prompts, else ``""``.
    """

    request_id: str
    stream: bool = False
    began: float = field(default_factory=time.perf_counter)
    route: Route | None = None
    reason: str = ""
    decision: Decision | None = None
    decided_s: float | None = None
    first_s: float | None = None
    status: int = 0
    model: str = ""
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    cached_tokens: int = 0
    usd: float | None = None
    session: str = ""
    messages: str = ""

    @property
    def so_far_s(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    @property
    def decided(self) -> Route | None:
        """Where the router sends it, whoever answers; None without a score."""
        if self.decision is None or self.decision.score is None:
            return None
        return "large" if self.decision.score < self.decision.threshold else "small"

    def log(self, bundle: str, ended: str) -> dict[str, Any]:
        """Return the line of the log.

        Args:
            bundle: its identity.
            ended: ``done``, ``cancelled``, ``stalled`` (the client read no more), ``refused`` or ``broken``.
        """
        decision = self.decision
        return {
            **line("decision", self.request_id),
            "route": self.route,
            "decided": self.decided,
            "reason": self.reason,
            "score": decision.score if decision else None,
            "p_correct": decision.p_correct if decision else None,
            "threshold": decision.threshold if decision else None,
            "bundle": bundle,
            "model": self.model,
            "status": self.status,
            "ended": ended,
            "stream": self.stream,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "decision_ms": _ms(self.decided_s),
            "first_ms": _ms(self.first_s),
            "total_ms": _ms(self.so_far_s),
            "usd": self.usd,
            "session": self.session,
            **({"messages": self.messages} if self.messages else {}),
        }


def line(kind: str, request_id: str) -> dict[str, Any]:
    """Return what every line of the log begins with."""
    return {"time": datetime.datetime.now(datetime.UTC).isoformat(), "kind": kind, "request_id": request_id}


def texts_of(request: Request) -> str:
    """Return the turns of a request as JSON; what is no text is named by its kind."""
    turns = [
        [message.role, [part.text if part.type == "text" else f"<{part.type}>" for part in message.content]]
        for message in request.messages
    ]
    return json.dumps(turns)


def decision_headers(decision: Decision | None) -> dict[str, str]:
    """Return what the headers say of a decision."""
    if decision is None:
        return {}
    score = {} if decision.score is None else {"x-relope-score": f"{decision.score:.6f}"}
    return {**score, "x-relope-threshold": f"{decision.threshold:.6g}"}


def decision_body(decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON."""
    return {
        key: value for key, value in dataclasses.asdict(decision).items() if key not in ("timing", "reason", "route")
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)
