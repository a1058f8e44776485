"""The page at ``/``: what the router does, for a person who looks by. Static HTML: no script, nothing fetched."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from relope.serve.card import promise_text
from relope.serve.drift import BARS, LEAST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relope.serve.service import Service

HIGH = 100.0
"""Of the chart, in its own units."""
ALARM_PSI = 0.25
"""Siddiqi's rule of thumb for a shift."""


@dataclass(frozen=True)
class Bar:
    """One twentieth of the scores.

    Attributes:
        low: its lower edge.
        live: height of the share of live scores.
        calibrated: height of the share of the calibration's.
        n: live scores in it.
    """

    low: float
    live: float
    calibrated: float
    n: int


def bars(live: "Sequence[int]", reference: "Sequence[float]") -> list[Bar]:
    """Return both distributions as shares, scaled so that the highest bar fills the chart."""
    counted, _ = np.histogram(np.asarray(reference, np.float64), bins=BARS, range=(0, 1))
    ours = np.asarray(live, np.float64) / max(1, sum(live))
    theirs = counted / max(1, counted.sum())
    most = max(float(ours.max()), float(theirs.max()), 1e-9)
    return [Bar(k / BARS, HIGH * float(ours[k]) / most, HIGH * float(theirs[k]) / most, live[k]) for k in range(BARS)]


def status_page(service: "Service") -> str:
    """Return the page."""
    answered = service.n_answered
    n = sum(answered.values())
    shift = service.drift()
    return _environment().get_template("status.html.j2").render(
        service=service,
        bundle=service.bundle,
        promised=promise_text(service.bundle),
        own=service.engine.threshold == service.bundle.threshold,
        n=n,
        share=answered["large"] / n if n else None,
        bars=bars(service.history.last_day(), service.bundle.scores),
        n_day=sum(service.history.last_day()),
        drift=shift,
        shifted=shift is not None and shift.psi > ALARM_PSI,
        least=LEAST,
        counters=service.engine.counters(),
        priced=service.options.small_price is not None and service.large.model.price is not None,
        down=service.large.unavailable(),
        high=HIGH,
    )  # fmt: skip


@functools.cache
def _environment() -> Environment:
    made = Environment(loader=PackageLoader("relope.serve"), undefined=StrictUndefined, autoescape=True,
                       trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    made.filters["percent"] = lambda value: "—" if value is None else f"{100 * value:.1f} %"
    made.filters["counted"] = lambda value: f"{value:,}"
    return made
