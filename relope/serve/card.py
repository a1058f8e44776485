"""The model card of a bundle, as the Hub reads them: what it routes, what it was measured on, what it promises."""

from pathlib import Path

from relope.cards.facts import Measured, Origin, hub_id
from relope.cards.page import card, router_front
from relope.evaluate.numbers.guarantee import Promise
from relope.provenance import write_bytes
from relope.serve.bundle import CARD, LIVE, Bundle

QUOTED = (5, 10, 20, 30, 50)
"""Percent escalated that the card's table shows; ``bundle.json`` has them all."""


def write_card(folder: Path, bundle: Bundle, license: str | None = None) -> None:
    """Write ``README.md`` into the folder of a bundle."""
    write_bytes(folder / CARD, card_text(bundle, license).encode())


def card_text(bundle: Bundle, license: str | None = None) -> str:
    """Return the card: YAML front matter as the Hub reads it, then Markdown.

    Args:
        bundle: what it is of.
        license: of the bundle, where one was given.
    """
    made = bundle.made
    origin = Origin(
        model=bundle.model,
        source=bundle.source,
        revision=bundle.revision,
        dataset=made.dataset,
        repository=hub_id(made.repository),
        data_license=made.data_license,
    )
    measured = _measured(bundle)
    return card(
        "bundle",
        router_front(f"{bundle.method} for {bundle.model}", bundle.method, origin, license, measured),
        bundle=bundle,
        rows=[row for row in bundle.table if row.percent in QUOTED],
        told=promise_text(bundle),
        origin=origin,
        measured=measured,
        missing="outcomes of both kinds are needed, and are not known here",
        license=license,
    )


def _measured(bundle: Bundle) -> Measured | None:
    """Return how well the router ranks the samples that thresholds were set on."""
    made = bundle.made
    if made.auc is None:
        return None
    return Measured(
        method=bundle.method,
        auc=made.auc,
        ci95=made.auc_ci95,
        n=made.n,
        n_groups=made.n_groups,
        dataset=made.dataset,
        splits=made.splits,
        grader=made.grader,
    )


def goal_text(promise: Promise) -> str:
    """Say what is promised: ``error among kept at most 10 %``."""
    side = "at least" if promise.holds.startswith("accuracy") else "at most"
    return f"{promise.holds} {side} {100 * promise.bound:.3g} %"


def promise_text(bundle: Bundle) -> str:
    """Say in one sentence what the threshold promises, and on what that rests."""
    promise, made = bundle.promise, bundle.made
    answered = f" that {made.large} answers" if made.n_refused else ""
    grouped = f" where one query of each {group_word(bundle)} counts" if made.n_groups < made.n else ""
    on_all = "" if promise.on_all is None else f", {100 * promise.on_all:.1f} % where all of each count"
    confident = f"with {100 * promise.confidence:.3g} % confidence{grouped}"
    return (
        f"{goal_text(promise)} on queries like these{answered}, {confident} "
        f"({100 * (promise.observed or 0):.1f} % on the {promise.n:,} independent samples it rests on{on_all})"
    )


def group_word(bundle: Bundle) -> str:
    """Return what the samples of a bundle are grouped by."""
    return "conversation" if bundle.made.dataset == LIVE else "image group"
