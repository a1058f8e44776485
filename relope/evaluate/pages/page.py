"""The report as one HTML file: what happened first, how it was computed last."""

from dataclasses import dataclass
from typing import Any

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.records import Report
from relope.evaluate.pages import detail_tables, wording
from relope.evaluate.pages.cost_figures import cost_curves
from relope.evaluate.pages.findings import findings
from relope.evaluate.pages.gallery import shelves
from relope.evaluate.pages.render import render
from relope.evaluate.pages.routing_figures import all_curves, best_curve
from relope.evaluate.pages.score_figures import histograms, reliability_diagrams
from relope.evaluate.pages.tables import methods_table, slice_tables
from relope.evaluate.pages.wording import NARROW


def render_report(analysis: Analysis, report: Report) -> str:
    """Return the whole page."""
    return render(
        "report.html.j2",
        title=report.title,
        report=report,
        tiles=tiles(report),
        findings=findings(report),
        caveat=_caveat(report),
        best_curve=best_curve(analysis),
        best_caption=_best_caption(report),
        methods=methods_table(report),
        all_curves=all_curves(analysis),
        routing=detail_tables.routing_table(report),
        budgets=detail_tables.budget_table(report),
        cost_curves=cost_curves(analysis),
        prices=detail_tables.price_tables(report),
        unknown_axes=detail_tables.unknown_axes(report),
        paid=detail_tables.paid(report),
        histograms=histograms(analysis),
        reliability=reliability_diagrams(analysis),
        calibration=detail_tables.calibration_table(report),
        slices=slice_tables(report),
        costs=detail_tables.cost_table(report),
        shelves=shelves(analysis),
        how=_how(report),
    )


@dataclass(frozen=True)
class Tile:
    """A number of the first screen: what it is, its value, and what stands below it."""

    label: str
    value: str
    under: str
    main: bool = False


def tiles(report: Report) -> list[Tile]:
    """Return the four numbers that say what happened."""
    hybrid, best = report.hybrid, report.best_row
    auc = _interval(wording.between(best.ci95)) if best.auc is not None else best.auc_null_reason or ""
    large = "not run, and not guessed"
    words = f"small model right on the 80{NARROW}% it keeps"
    if report.has_system:
        large = _interval(wording.between_percent(hybrid.large_accuracy_ci95))
        words = f"system right when 20{NARROW}% are escalated"
    return [
        Tile(
            f"{report.small_name} alone, right",
            wording.percent(hybrid.small_accuracy),
            _interval(wording.between_percent(hybrid.small_accuracy_ci95)),
        ),
        Tile(f"{report.large_name or 'large model'} alone, right", wording.percent(hybrid.large_accuracy), large),
        Tile(f"best router's AUC: {best.method}", wording.fraction(best.auc), auc, main=True),
        Tile(words, wording.percent(best.accuracy_at["0.2"]), _lead(report), main=True),
    ]


def _interval(text: str) -> str:
    return f"95 % interval {text}"


def _lead(report: Report) -> str:
    """Say what random escalation reaches, and how far the best method is ahead of it."""
    gain = report.best_row.metrics["gain_over_random_at_0.2"]
    text = f"random {wording.percent(report.hybrid.random_accuracy_at['0.2'])}"
    if gain.value is None or gain.ci95 is None:
        return text
    bounds = wording.between_signed([100 * bound for bound in gain.ci95], 1)
    return f"{text}, lead {wording.signed(100 * gain.value, 1)}\n{_interval(bounds)}"


def _best_caption(report: Report) -> str:
    share = report.hybrid.best_oracle_area_share
    of_oracle = "" if share is None else f", {wording.percent(share, 0)} of the oracle's"
    area = wording.signed(report.hybrid.best_area_over_random, 1)
    lead = f"Its mean lead over random {_random(report)} is {area} points{of_oracle}."
    if report.has_system:
        return f"The lowest scores of {report.best} go to the large model first. Bars: 95 % intervals. {lead}"
    return (
        f"The large model was not run, so this is no system's accuracy: it is the small model's on the questions "
        f"that {report.best} lets it keep. Bars: 95 % intervals. {lead}"
    )


def _random(report: Report) -> str:
    return "escalation" if report.has_system else "selection"


def _caveat(report: Report) -> str:
    chosen = (
        "The best method was picked on the same samples that its numbers come from, which flatters it a little."
        if sum(not method.is_control for method in report.methods) > 1
        else ""
    )
    return " ".join(part for part in (report.caveat, chosen) if part)


def _how(report: Report) -> list[tuple[str, str]]:
    rows: list[tuple[str, Any]] = [
        ("data", f"{report.dataset}: {report.n:,} test samples in {report.n_groups:,} image groups"),
        ("intervals", wording.intervals(report)),
        ("differences", "paired: on the same samples and groups; two-sided p, Holm's correction"),
        ("calibrated", "isotonic regression, each fifth of the groups calibrated by the other four"),
        ("routing", "k = ⌈r·n⌉ lowest scores are escalated, equal scores in the order of a seeded permutation"),
        ("bars of the calibration", "Wilson intervals, samples taken as independent"),
        ("calibration error", "15 bins of equal mass, equal scores in one bin"),
        ("versions", report.versions),
        *((name.replace("_", " "), value) for name, value in report.provenance.items() if name != "versions"),
    ]
    return [(name, wording.plain(value)) for name, value in rows]
