"""Cards of routers and stores: what their records say, and the AUCs of a report on them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from relope.cards.facts import Measured, Origin
from relope.cards.page import card, router_front, store_front
from relope.errors import InvalidInputError
from relope.evaluate.numbers.intervals import Interval, grouped_share_interval
from relope.evaluate.numbers.persample import REPORT, open_report, read_report
from relope.evaluate.numbers.records import MethodRow, Report
from relope.grouped import group_names
from relope.probes.router import Router
from relope.steps.outputs import report_folder
from relope.store import ActivationStore, open_store
from relope.store.grades import counting, read_grades, split_counts
from relope.store.share.readme import Put

NO_REPORT = "no report was there when this was shared"


def told_of(put: Put, what: str, uri: str) -> list[str]:
    """Return what is told of a card that was to be put beside a router or a store."""
    if put != "another's":
        return []
    return [f"the README.md at {uri} is not one that relope made: it stays, and the {what} has no other card"]


@dataclass(frozen=True)
class Known:
    """What a report says of how well routers rank; and why it says nothing, where it does not."""

    measured: tuple[Measured, ...]
    missing: str


@dataclass(frozen=True)
class SplitRow:
    """What a card says of a split: its samples, and how often the small model is right on those that were judged."""

    name: str
    n: int
    n_judged: int
    share: float | None
    ci95: Interval | None


def router_card(router: Router, uri: str, known: Known, license: str | None) -> str:
    """Return the card of a router.

    Args:
        router: it.
        uri: where it is shared.
        known: how well it ranks, as `rank_of_router` tells.
        license: of the router, where one was given.
    """
    record, measured = router.record, next(iter(known.measured), None)
    origin = Origin.of(record.origin, record.dataset, record.identity)
    return card(
        "router",
        router_front(f"{record.method} for {origin.model}", record.method, origin, license, measured),
        record=record,
        before_answer=not router.probe.traits.reads_answer,
        origin=origin,
        measured=measured,
        missing=known.missing,
        uri=uri,
        license=license,
    )


def rank_of_router(folder: Path, router: Router, asked: Path | None) -> Known:
    """Return how well a router ranks.

    Args:
        folder: where it lies.
        router: it.
        asked: a report on it; None = the one beside its store, where there is one.

    Raises:
        NotFoundError: no such report.
        InvalidInputError: the report that was given is not about this router.
    """
    beside = report_folder(folder.absolute().parent.as_posix().removesuffix(".routers"))
    if asked is None and not (beside / REPORT).is_file():
        return Known((), NO_REPORT)
    report = read_report(asked or beside)
    routers: dict[str, list[str | None]] = report.provenance.get("routers", {})
    name = next((name for name, prints in routers.items() if router.record.fingerprint in prints), None)
    if name is None and asked is not None:
        raise InvalidInputError(
            f"the report in {asked} is not about the router in {folder}, or an older relope wrote it",
            hint="make it of this router's scores: relope predict, then relope evaluate",
        )
    if name is None:
        return Known((), "the report beside its store is not about it")
    row = report.row(name)
    if row.seen:
        return Known((), "it was evaluated on samples that it had learned from")
    return Known(_measured(report, [row]), row.auc_null_reason or "")


def store_card(shared: ActivationStore, uri: str, known: Known, license: str | None) -> str:
    """Return the card of a shared store, of all that is in it.

    Args:
        shared: the store where it is shared.
        uri: where that is.
        known: how well routers rank its samples, as `ranks_of_store` tells.
        license: of the store, where one was given.
    """
    manifest, recorded = shared.manifest, shared.manifest.recorded
    origin = Origin.of(recorded, str(recorded.get("dataset", "unnamed data")), manifest.identity)
    grader = counting(shared)
    return card(
        "store",
        store_front(origin, len(shared), license),
        origin=origin,
        manifest=manifest,
        splits=_splits(shared, grader),
        grader=grader,
        known=known,
        uri=uri,
        license=license,
    )


def ranks_of_store(folder: Path, asked: Path | None) -> Known:
    """Return how well routers rank a store's samples.

    Args:
        folder: of the store.
        asked: a report on it; None = the one beside it, where there is one.

    Raises:
        NotFoundError: no such store or report.
        InvalidInputError: the report that was given is about other samples.
    """
    beside = report_folder(folder.as_posix())
    if asked is None and not (beside / REPORT).is_file():
        return Known((), NO_REPORT)
    report, store = open_report(asked or beside), open_store(folder)
    recipe_id, ids = report.report.provenance.get("recipe_id"), store.samples["id"].to_list()
    if recipe_id == store.recipe_id and set(report.ids) <= set(ids):
        rows = [row for row in report.report.methods if not row.seen]
        return Known(_measured(report.report, rows), "the report has no AUC of a router that had not seen the samples")
    if asked is not None:
        raise InvalidInputError(
            f"the report in {asked} is about other samples than {folder} holds",
            hint="give the report that `relope evaluate` made of this store",
        )
    return Known((), "the report beside it is about other samples")


def _measured(report: Report, rows: Iterable[MethodRow]) -> tuple[Measured, ...]:
    """Return what some rows of a report come to; those without an AUC are left out."""
    return tuple(
        Measured(
            method=row.method,
            auc=row.auc,
            ci95=row.ci95,
            n=row.n,
            n_groups=row.n_groups,
            dataset=report.dataset,
            splits=tuple(report.provenance.get("split", ())),
            grader=str(report.provenance.get("grader") or "a grader that is not named"),
            n_fits=len(row.seeds),
        )
        for row in rows
        if row.auc is not None
    )


def _splits(store: ActivationStore, grader: str | None) -> list[SplitRow]:
    """Return what is said of each split; accuracies of what the grader that counts has judged."""
    samples = store.samples
    groups = group_names(samples) if "group" in samples.columns else samples["id"].alias("group")
    table = samples.select("id", "split", groups)
    right = {} if grader is None else dict(read_grades(store, grader).table.select("id", "correct").rows())
    table = table.with_columns(pl.Series("right", [right.get(name) for name in table["id"]], pl.Boolean))
    return [_split(name, n, table.filter(pl.col("split") == name)) for name, n in split_counts(store).items()]


def _split(name: str, n: int, table: pl.DataFrame) -> SplitRow:
    judged = table.filter(pl.col("right").is_not_null())
    if judged.is_empty():
        return SplitRow(name, n, 0, None, None)
    right = judged["right"].to_numpy()
    interval = grouped_share_interval(right, judged["group"].to_list())
    return SplitRow(name, n, len(right), float(right.mean()), interval)
