"""The model card of a bundle, as the Hub reads them: what it routes, what it was measured on, what it promises."""

import functools
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from relope.evaluate.numbers.guarantee import Promise
from relope.provenance import write_bytes
from relope.serve.bundle import CARD, Bundle

QUOTED = (5, 10, 20, 30, 50)
"""Percent escalated that the card's table shows; ``bundle.json`` has them all."""


def write_card(folder: Path, bundle: Bundle) -> None:
    """Write ``README.md`` into the folder of a bundle."""
    write_bytes(folder / CARD, card_text(bundle).encode())


def card_text(bundle: Bundle) -> str:
    """Return the card: YAML front matter as the Hub reads it, then Markdown."""
    front = {"library_name": "relope", "tags": ["relope", "routing", bundle.method]}
    if "/" in bundle.source:
        front["base_model"] = bundle.source
    rows = [row for row in bundle.table if row.percent in QUOTED]
    text = _environment().get_template("card.md.j2").render(bundle=bundle, rows=rows, told=promise_text(bundle))
    return f"---\n{yaml.safe_dump(front, sort_keys=True)}---\n\n{text}"


def goal_text(promise: Promise) -> str:
    """Say what is promised: ``error among kept at most 10 %``."""
    side = "at least" if promise.holds.startswith("accuracy") else "at most"
    return f"{promise.holds} {side} {100 * promise.bound:.3g} %"


def promise_text(bundle: Bundle) -> str:
    """Say in one sentence what the threshold promises, and on what that rests."""
    promise = bundle.promise
    return (
        f"{goal_text(promise)} on queries like these, with {100 * promise.confidence:.3g} % confidence "
        f"({100 * (promise.observed or 0):.1f} % on the {promise.n:,} independent samples it rests on)"
    )


@functools.cache
def _environment() -> Environment:
    """Markdown is made here, not HTML; names of models and data sets are put into code spans."""
    made = Environment(
        loader=PackageLoader("relope.serve"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["code"] = lambda text: "`" + " ".join(str(text).replace("`", "'").split()) + "`"
    made.filters["percent"] = lambda value: "—" if value is None else f"{100 * value:.1f} %"
    made.filters["interval"] = lambda pair: "—" if pair is None else f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}"
    return made
