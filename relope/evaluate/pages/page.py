"""The report as one HTML file: what happened first, how it was computed last."""

from typing import Any

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.decision import decide
from relope.evaluate.numbers.records import Report
from relope.evaluate.pages import detail_tables, wording
from relope.evaluate.pages.cost_figures import cost_curves
from relope.evaluate.pages.findings import findings
from relope.evaluate.pages.first_screen import answers, conclusion, tiles
from relope.evaluate.pages.gallery import shelves
from relope.evaluate.pages.hero_figure import NARROW, hero
from relope.evaluate.pages.making import commands, facts, making_table
from relope.evaluate.pages.render import render
from relope.evaluate.pages.routing_figures import all_curves
from relope.evaluate.pages.score_figures import histograms, reliability_diagrams
from relope.evaluate.pages.several_models import several_figure, several_tables, who_pays
from relope.evaluate.pages.tables import methods_table, slice_tables


def render_report(analysis: Analysis, report: Report) -> str:
    """Return the whole page."""
    return render(
        "report.html.j2",
        title=report.title,
        report=report,
        tiles=tiles(report),
        budget=wording.share(report.budget),
        judged_on=wording.judged_on(report),
        of_first_seed=wording.of_first_seed(report),
        n_right=f"{report.n_correct:,}",
        n_wrong=f"{report.n - report.n_correct:,}",
        conclusion=conclusion(report),
        answers=answers(report),
        findings=findings(report),
        hero=hero(analysis, decide(analysis)),
        hero_narrow=hero(analysis, decide(analysis), NARROW),
        hero_caption=_hero_caption(report),
        methods=methods_table(report),
        all_curves=all_curves(analysis),
        routing=detail_tables.routing_table(report),
        budgets=detail_tables.budget_table(report),
        cost_curves=cost_curves(analysis),
        prices=detail_tables.price_tables(report),
        larges=several_tables(report),
        large_curves=several_figure(report),
        who_pays=who_pays(report),
        unknown_axes=detail_tables.unknown_axes(report),
        paid=detail_tables.paid(report),
        seconds=detail_tables.seconds_table(report),
        histograms=histograms(analysis),
        reliability=reliability_diagrams(analysis),
        calibration=detail_tables.calibration_table(report),
        slices=slice_tables(report),
        costs=detail_tables.cost_table(report),
        shelves=shelves(analysis),
        facts=facts(report),
        making=making_table(report),
        commands=commands(report),
        how=_how(report),
    )


def _hero_caption(report: Report) -> str:
    first = "" if report.has_system else "The large model was not run, so this is no system's accuracy. "
    return f"{first}Lowest scores are escalated first. Bars: 95 % intervals, on {wording.judged_on(report)}."


def _how(report: Report) -> list[tuple[str, str]]:
    rows: list[tuple[str, Any]] = [
        ("data", f"{report.dataset}: {wording.judged_on(report)}, in {report.n_groups:,} image groups"),
        ("intervals", wording.intervals(report)),
        ("differences", "paired: on the same samples and groups; two-sided p, Holm's correction"),
        ("calibrated", "isotonic regression, each fifth of the groups calibrated by the other four"),
        ("routing", "k = ⌈r·n⌉ lowest scores are escalated, equal scores in the order of a seeded permutation"),
        ("bars of the calibration", "Wilson's intervals over image groups"),
        ("calibration error", "15 bins of equal mass, equal scores in one bin"),
        ("versions", report.versions),
        *((name.replace("_", " "), value) for name, value in report.provenance.items() if name != "versions"),
    ]
    return [(name, wording.plain(value)) for name, value in rows]
