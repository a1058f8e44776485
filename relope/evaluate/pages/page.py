"""The report as one HTML file: what happened first, how it was computed last."""

import html
from typing import Any

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.pages import wording
from relope.evaluate.pages.cost_figures import cost_curves
from relope.evaluate.pages.detail_tables import (
    budget_table,
    calibration_table,
    cost_table,
    price_table,
    routing_table,
    slice_tables,
)
from relope.evaluate.pages.gallery import gallery
from relope.evaluate.pages.routing_figures import all_curves, best_curve
from relope.evaluate.pages.score_figures import histograms, reliability_diagrams
from relope.evaluate.pages.style import CSS
from relope.evaluate.pages.tables import methods_table
from relope.evaluate.pages.wording import NARROW, Json


def render(analysis: Analysis, report: Json) -> str:
    """Return the whole page."""
    title = html.escape(report["title"])
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{CSS}</style>"
    )
    parts = [
        f'<header><h1>{title}</h1><p class="lead">{html.escape(report["what"])}</p></header>',
        tiles(report),
        *(f'<p class="finding">{html.escape(text)}</p>' for text in wording.finding(report)[:1]),
        _caveat(report),
        _figure(best_curve(analysis), _best_caption(report)),
        *(f"<p>{html.escape(text)}</p>" for text in wording.finding(report)[1:]),
        f"<h2>Methods</h2>{methods_table(report)}",
        _curves(analysis, report),
        _routing(analysis, report),
        _scores(analysis, report),
        _slices(report),
        _costs(report),
        _gallery(analysis, report),
        _how(report),
    ]
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{chr(10).join(parts)}\n</body></html>\n'


def tiles(report: Json) -> str:
    """Return the four numbers that say what happened."""
    hybrid, system = report["hybrid"], report["accuracy_at_is"] == "system"
    best = next(row for row in report["methods"] if row["method"] == report["best"])
    at, gain = best["accuracy_at"]["0.2"], best["metrics"]["gain_over_random_at_0.2"]["value"]
    large = _interval(wording.between_percent(hybrid["large_accuracy_ci95"])) if system else "not run, and not guessed"
    routed = f"blind {wording.percent(hybrid['random_accuracy_at']['0.2'])}"
    bounds = best["metrics"]["gain_over_random_at_0.2"]["ci95"]
    if gain is not None and bounds:
        routed += f", lead {wording.signed(100 * gain, 1)}\n{_interval(_points(bounds))}"
    auc = _interval(wording.between(best["ci95"])) if best["auc"] is not None else best["auc_null_reason"]
    words = f"small model right on the 80{NARROW}% it keeps"
    if system:
        words = f"system right when 20{NARROW}% are escalated"
    return '<div class="tiles">' + "".join([
        _tile(f"{report['small_name']} alone, right", wording.percent(hybrid["small_accuracy"]),
              _interval(wording.between_percent(hybrid["small_accuracy_ci95"]))),
        _tile(f"{report['large_name'] or 'large model'} alone, right",
              wording.percent(hybrid["large_accuracy"]), large),
        _tile(f"best router's AUC: {best['method']}", wording.fraction(best["auc"]), auc, main=True),
        _tile(words, wording.percent(at), routed, main=True),
    ]) + "</div>"  # fmt: skip


def _interval(text: str) -> str:
    return f"95 % interval {text}"


def _points(bounds: list[float]) -> str:
    return f"{wording.signed(100 * bounds[0], 1)} to {wording.signed(100 * bounds[1], 1)}"


def _tile(label: str, value: str, under: str, main: bool = False) -> str:
    return (
        f'<div class="tile{" main" if main else ""}"><div class="label">{html.escape(label)}</div>'
        f'<div class="value">{html.escape(value)}</div><div class="under">{html.escape(under)}</div></div>'
    )


def _figure(svg: str, caption: str) -> str:
    return f'<figure><div class="scroll">{svg}</div><figcaption>{caption}</figcaption></figure>'


def _best_caption(report: Json) -> str:
    hybrid, name = report["hybrid"], html.escape(report["best"])
    share = hybrid["best_oracle_area_share"]
    of_oracle = "" if share is None else f", {wording.percent(share, 0)} of the oracle's"
    area = wording.signed(hybrid["best_area_over_random"], 1)
    blind = "escalation" if report["accuracy_at_is"] == "system" else "selection"
    lead = f"Its mean lead over blind {blind} is {area} points{of_oracle}."
    if report["accuracy_at_is"] == "system":
        return f"The lowest scores of {name} go to the large model first. Bars: 95 % intervals. {lead}"
    return (
        f"The large model was not run, so this is no system's accuracy: it is the small model's on the questions "
        f"that {name} lets it keep. Bars: 95 % intervals. {lead}"
    )


def _caveat(report: Json) -> str:
    chosen = (
        "The best method was picked on the same samples that its numbers come from, which flatters it a little."
        if sum(not row["is_control"] for row in report["methods"]) > 1
        else ""
    )
    text = " ".join(part for part in (report["caveat"], chosen) if part)
    return f'<p class="caveat">{html.escape(text)}</p>' if text else ""


def _curves(analysis: Analysis, report: Json) -> str:
    if report["accuracy_at_is"] == "system":
        text = "Left: accuracy as more questions are escalated. Right: the same, less what blind escalation gives."
    else:
        text = "Left: accuracy on the questions kept. Right: the same, less what blind selection gives."
    return f"<h2>Routing curves of all methods</h2>{_figure(all_curves(analysis), text)}"


def _scores(analysis: Analysis, report: Json) -> str:
    apart = "A good router puts right answers to the right and wrong ones to the left."
    reliable = (
        "Each point holds about as many samples; bars are 95 % intervals. On the dashed line a score of 0.8 means "
        "that 80 % are right."
    )
    return (
        f"<h2>Scores of right and wrong answers</h2>{_figure(histograms(analysis), apart)}"
        f"<h2>Can a score be read as a probability?</h2>"
        f"{_figure(reliability_diagrams(analysis), reliable)}{calibration_table(report)}"
    )


def _slices(report: Json) -> str:
    text = (
        "Where the router fails. A high AUC over all samples can come from telling easy kinds from hard ones; within "
        "one kind it cannot. The threshold is the same for all: the lowest 20&nbsp;% of all scores are escalated."
    )
    return f"<h2>Parts of the data</h2><p>{text}</p>{slice_tables(report)}"


def _routing(analysis: Analysis, report: Json) -> str:
    svg = cost_curves(analysis)
    text = (
        "Dashed: blind escalation. Names stand in the order of accuracy at 50&nbsp;% escalated. A router has paid "
        "for the small model's prompt (and answer, if it reads that) before it escalates; blind escalation has not."
    )
    drawn = _figure(svg, text) if svg else ""
    numbers = f"{routing_table(report)}{budget_table(report)}"
    return f"<h2>Routing in numbers</h2>{numbers}{drawn}{price_table(report)}"


def _costs(report: Json) -> str:
    return f"<h2>What the methods cost</h2>{cost_table(report)}"


def _gallery(analysis: Analysis, report: Json) -> str:
    text = (
        f"What {html.escape(report['best'])} was surest about. <em>Said</em> is the small model's answer, "
        "<em>gold</em> the right one"
    )
    text += (
        ", <em>large</em> whether the large model gets it right." if analysis.inputs.large_correct is not None else "."
    )
    return f"<h2>Examples</h2><p>{text}</p>{gallery(analysis)}"


def _how(report: Json) -> str:
    dropped = report["resamples_dropped"]
    left_out = f", {dropped:,} left out since one class was absent" if dropped else ""
    rows: list[tuple[str, Any]] = [
        ("data", f"{report['dataset']}: {report['n']:,} test samples in {report['n_groups']:,} image groups"),
        ("intervals", f"95 % percentiles of {report['resamples']:,} bootstrap resamples of whole groups{left_out}"),
        ("differences", "paired: both AUCs from the same resamples; two-sided p from the same, Holm's correction"),
        ("calibrated", "isotonic regression, each fifth of the groups calibrated by the other four"),
        ("routing", "k = ⌈r·n⌉ lowest scores are escalated, equal scores in the order of a seeded permutation"),
        ("bars of the calibration", "Wilson intervals, samples taken as independent"),
        ("calibration error", "15 bins of equal mass, equal scores in one bin"),
        ("versions", report["versions"]),
        *((name.replace("_", " "), value) for name, value in report["provenance"].items() if name != "versions"),
    ]
    listed = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(wording.plain(value))}</dd>" for name, value in rows
    )
    note = "The numbers behind this page, and digests in full, are in <code>report.json</code> beside it."
    return f'<h2>How this was computed</h2><dl class="how">{listed}</dl><p class="muted">{note}</p>'
