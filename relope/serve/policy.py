"""Who answers a request: decided from what is known, without calling a model.

First `course` looks at what was asked and at who can answer; then, where the router has given a score, `settle` looks
at both. The words of ``Course.reason`` go into a header and into the log.
"""

from dataclasses import dataclass
from typing import Literal

from relope.serve.engine import Decision, Route

Does = Literal["score", "small", "large"]
"""``score``: the router decides; ``small``: it is asked, and the small model answers all the same; ``large``."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator wants.

    Attributes:
        shadow: the model that answers everything, while the router only decides; None where it rules.
        local_fallback: whether the small model answers what was meant for a large one that cannot.
        overrides: whether a client may name the route or the threshold.
    """

    shadow: Route | None = None
    local_fallback: bool = False
    overrides: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a request before anything is computed.

    Attributes:
        beyond_small: what the small model cannot do of it, as a word; ``""`` where it can do all.
        forced: the route that the client names; None without one, or where the operator does not allow it.
        escalated_before: whether this conversation is with the large model already.
    """

    beyond_small: str = ""
    forced: Route | None = None
    escalated_before: bool = False


@dataclass(frozen=True)
class Course:
    """What happens next, and why.

    Attributes:
        does: what is done.
        reason: in a word.
    """

    does: Does
    reason: str


def course(facts: Facts, down: str, settings: Settings) -> Course:
    """Return who is asked first.

    Args:
        facts: of the request.
        down: why the large model takes no call now, as a word; ``""`` where it does.
        settings: of the operator.
    """
    if facts.beyond_small:
        return Course("large", facts.beyond_small)
    wanted = _wanted(facts, settings)
    return Course("small", down) if wanted.does == "large" and down and settings.local_fallback else wanted


def _wanted(facts: Facts, settings: Settings) -> Course:
    if settings.shadow:
        return Course(settings.shadow, "shadow")
    if facts.forced:
        return Course(facts.forced, "forced")
    if facts.escalated_before:
        return Course("large", "session")
    return Course("score", "score")


def settle(decision: Decision, down: str, settings: Settings) -> Course:
    """Return who answers a request that the router has decided on; ``down`` as in `course`."""
    if decision.route == "small":
        return Course("small", decision.reason)
    if down and settings.local_fallback and decision.reason == "score":
        return Course("small", down)
    return Course("large", decision.reason)
