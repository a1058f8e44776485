"""What Prometheus reads: counters and histograms of requests, gauges that are computed when it asks.

Source: https://prometheus.io/docs/practices/naming/ (units in names, ``_total`` on counters).
"""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from relope.serve.drift import Drift
    from relope.serve.engine import Counters

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TWENTIETHS = tuple(n / 20 for n in range(1, 21))


class Metrics:
    """One server's metrics; each has a registry of its own, so that several servers live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = functools.partial(Counter, registry=self.registry)
        histogram = functools.partial(Histogram, registry=self.registry)
        self.requests = counter(
            "relope_requests", "Requests that were answered, by who answered and why", ["route", "reason"]
        )
        self.decided = counter("relope_decided", "Decisions of the router, whoever answered", ["route"])
        self.problems = counter("relope_problems", "Requests that were refused or failed", ["status", "code"])
        self.cancelled = counter("relope_cancelled", "Requests whose client went away")
        self.scores = histogram("relope_score", "Scores of the router", buckets=_TWENTIETHS)
        self.stage = histogram("relope_stage_seconds", "Where the time of a request goes", ["stage"], buckets=_SECONDS)
        self.tokens = counter("relope_tokens", "Tokens of answered requests", ["route", "kind"])
        self.spent = counter("relope_spent_usd", "Dollars of answered requests, by prices of the operator", ["route"])
        self.saved = counter(
            "relope_saved_usd",
            "What kept requests would have cost more at the large model, by the small one's tokens",
        )
        self.unpriced = counter("relope_unpriced", "Answers of the large model that no tokens were told of")
        self.upstream = counter("relope_upstream_errors", "Failed attempts at the large model", ["kind"])
        self.unlogged = counter("relope_unlogged", "Records that the log could not take")

    def watch(self, gauges: Callable[[], Iterator[tuple[str, str, float]]]) -> None:
        """Add gauges, which are computed when they are asked for: name, help and value."""
        self.registry.register(_Gauges(gauges))

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)


class _Gauges:
    def __init__(self, gauges: Callable[[], Iterator[tuple[str, str, float]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for name, text, value in self._gauges():
            yield GaugeMetricFamily(f"relope_{name}", text, value=value)


def engine_gauges(counters: "Counters") -> Iterator[tuple[str, str, float]]:
    """Yield what the engine is at."""
    yield "engine_waiting", "Queries that no batch has taken yet", counters.waiting
    yield "engine_deciding", "Queries in the batch that is being read", counters.deciding
    yield "engine_answering", "Rows that are being decoded", counters.answering


def drift_gauges(drift: "Drift | None") -> Iterator[tuple[str, str, float]]:
    """Yield how live scores differ from the calibration's; nothing while there are too few."""
    if drift is None:
        return
    yield "drift_scores", "Live scores that are compared with the calibration's", drift.n
    yield "drift_psi", "Population stability index of live scores over the calibration's deciles", drift.psi
    yield "drift_ks", "Largest distance of the two distribution functions", drift.ks
    yield "drift_ks_p_value", "Of the two-sample Kolmogorov-Smirnov test, for independent requests", drift.p_value
