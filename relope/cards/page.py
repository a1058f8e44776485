"""A card as text: YAML that the Hub reads, then Markdown in which nothing that users named can be anything but text."""

import functools
from typing import TYPE_CHECKING, Any

from relope.cards.facts import Measured, Origin, hub_id

if TYPE_CHECKING:
    from huggingface_hub import CardData
    from jinja2 import Environment

_LONGEST = 200
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(template: str, front: "CardData", **facts: Any) -> str:
    """Return a card.

    Args:
        template: name of one of ``templates/``.
        front: what the Hub reads.
        facts: what the template says.
    """
    text = _environment().get_template(f"{template}.md.j2").render(**facts)
    return f"---\n{front.to_yaml()}\n---\n\n{text}"


def router_front(name: str, method: str, origin: Origin, license: str | None, measured: Measured | None) -> "CardData":
    """Return what the Hub reads of a router: its base model, its data set, its licence, and its AUC as an evaluation.

    Args:
        name: of the router.
        method: its method.
        origin: where it comes from.
        license: of the router, where one was given.
        measured: how well it ranks, where that is known.
    """
    from huggingface_hub import ModelCardData

    return ModelCardData(
        base_model=hub_id(origin.source) or None,
        datasets=[origin.repository] if origin.repository else None,
        eval_results=[_evaluation(measured, origin)] if measured else None,
        library_name="relope",
        license=license,
        metrics=["roc_auc"] if measured else None,
        model_name=line(name) if measured else None,
        tags=["relope", "routing", method],
    )


def _evaluation(measured: Measured, origin: Origin) -> Any:
    from huggingface_hub import EvalResult

    low_high = {"ci95": [round(bound, 4) for bound in measured.ci95]} if measured.ci95 else {}
    return EvalResult(
        task_type="text-classification",
        task_name="Is the model's answer right?",
        dataset_type=origin.repository or line(measured.dataset),
        dataset_name=line(measured.dataset),
        dataset_split=", ".join(map(line, measured.splits)),
        metric_type="roc_auc",
        metric_name="AUC of P(correct)",
        metric_value=round(measured.auc, 4),
        metric_args={**low_high, "n": measured.n, "grader": line(measured.grader)},
    )


def store_front(origin: Origin, n: int, license: str | None) -> "CardData":
    """Return what the Hub reads of a store; its viewer shows the samples, not the grades.

    Args:
        origin: where it comes from.
        n: samples.
        license: of the store, where one was given.
    """
    from huggingface_hub import DatasetCardData

    return DatasetCardData(
        license=license,
        size_categories=[next((size for most, size in _SIZES if n < most), "1M<n<10M")],
        source_datasets=[origin.repository] if origin.repository else None,
        tags=["relope", "hidden-states", "routing"],
        configs=[{"config_name": "samples", "data_files": "parts/*/samples.parquet"}],
    )


def line(text: object) -> str:
    """Return a text in one line, of letters that show."""
    shown = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return " ".join(shown.split())[:_LONGEST]


@functools.cache
def _environment() -> "Environment":
    """Markdown is made here, not HTML; whatever users named is put into code spans, where it is nothing but text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("relope.cards"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["code"] = _code
    made.filters["codes"] = lambda texts: ", ".join(map(_code, texts))
    made.filters["percent"] = lambda value: "—" if value is None else f"{100 * value:.1f} %"
    made.filters["interval"] = lambda pair: "—" if pair is None else f"{100 * pair[0]:.1f}–{100 * pair[1]:.1f}"
    made.filters["count"] = lambda n: f"{n:,}"
    return made


def _code(text: object) -> str:
    return f"`{line(text).replace('`', chr(39)) or ' '}`"
