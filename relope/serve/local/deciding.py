"""Where a query goes: its own wish, else its score against a threshold."""

import math
from collections.abc import Callable

from relope.serve.engine import Decision, Query, Reason, Timing

Calibrated = Callable[[float], float]
"""Score → P(correct)."""


def decided(
    query: Query,
    threshold: float,
    score: float | None,
    calibrated: Calibrated,
    timing: Timing,
    n_prompt_tokens: int,
    n_answer_tokens: int = 0,
) -> Decision:
    """Return the decision on a query.

    Args:
        query: what is asked.
        threshold: score below which it is escalated.
        score: the router's; None where the query's wish made it needless. One that is no number escalates.
        calibrated: score → P(correct).
        timing: where the time went.
        n_prompt_tokens: of its prompt.
        n_answer_tokens: of the answer that the router has read.
    """
    finite = score if score is not None and math.isfinite(score) else None
    reason: Reason = "forced" if query.route else "score" if finite is not None else "no-score"
    route = query.route or ("large" if finite is None or finite < threshold else "small")
    return Decision(
        route=route,
        threshold=threshold,
        reason=reason,
        score=finite,
        p_correct=None if finite is None else calibrated(finite),
        detail="the router gave no number" if reason == "no-score" else "",
        n_prompt_tokens=n_prompt_tokens,
        n_answer_tokens=n_answer_tokens,
        timing=timing,
    )


def unserved(threshold: float, reason: Reason, detail: str, n_prompt_tokens: int = 0) -> Decision:
    """Return the decision on a query that the small model or its router cannot serve: the large one takes it."""
    return Decision(route="large", threshold=threshold, reason=reason, detail=detail, n_prompt_tokens=n_prompt_tokens)
