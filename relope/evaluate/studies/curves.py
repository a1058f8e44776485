"""Figure 2 and the data-efficiency curve: their numbers as tables, drawn by `figures`."""

import re
from collections.abc import Sequence

from relope.errors import InvalidInputError
from relope.evaluate.numbers.draws import resample_aucs
from relope.evaluate.numbers.persample import StoredReport
from relope.evaluate.numbers.records import Metric
from relope.evaluate.numbers.routing import MARKS, mark_key
from relope.evaluate.pages.report_tables import fields_of
from relope.evaluate.pages.table import Cell, Record, Table, columns, hundred, row
from relope.evaluate.pages.wording import DASH, NO_INTERVAL, between, between_percent, fraction, listed, percent
from relope.evaluate.studies import figures
from relope.evaluate.studies.cells import PAIRED, SEEDS, record, shows
from relope.evaluate.studies.inputs import Study, StudyInputs

METRICS = {
    **{f"accuracy_at_{mark_key(mark)}": f"at {mark} %" for mark in MARKS},
    "apgr": "APGR",
    "cpt_50": "CPT(50 %)",
    "cpt_80": "CPT(80 %)",
    "qnc": "QNC",
}


def figure2(inputs: StudyInputs) -> Study:
    """Figure 2: system accuracy against the share of questions sent to the large model."""
    hybrid = [report for report in inputs.reports if report.report.has_system]
    if not hybrid:
        raise InvalidInputError(
            "figure2 needs reports with a large model", hint="make some with `relope evaluate … --large-store`"
        )
    rows, records = [], []
    for report in hybrid:
        for method in inputs.methods(hybrid):
            if method not in report.scores:
                continue
            metrics = report.report.row(method).metrics
            rows.append(row(report.model, report.dataset, method, *(_cell(name, metrics[name]) for name in METRICS)))
            records += [_record(report, method, name, metrics[name]) for name in METRICS]
    named = columns(["model", "data", "method"], list(METRICS.values()), grouped=True)
    title = "Accuracy of the whole system at 10, 20 and 50 % escalated, and routing metrics"
    unknown = [(report, report.report.methods[0].metrics["apgr"].null_reason) for report in hybrid]
    notes = [f"APGR, CPT and QNC, {report.model} on {report.dataset}: {why}." for report, why in unknown if why]
    table = Table("figure2", title, named, rows, records, [PAIRED, *notes])
    about = (
        "The lowest-scored share of the questions goes to the large model. The dashed line is random escalation, the "
        "dotted one an oracle that knows every grade beforehand."
    )
    text = f"accuracy of the system by share escalated.{_left_out(inputs, hybrid)}"
    drawn = figures.routing_figures(inputs, hybrid)
    captioned = [(svg, f"{model}: {text}") for model, svg in drawn.items()]
    return Study("Figure 2: routing curves", inputs.described(), shows(inputs, about), [table], captioned)


def _left_out(inputs: StudyInputs, reports: Sequence[StoredReport]) -> str:
    """Say which methods are in none of the figures."""
    controls = {row.method for report in reports for row in report.report.methods if row.is_control}
    left_out = sorted(controls & set(inputs.methods(reports)))
    return f" Not drawn, since they are controls: {listed(left_out)}." if left_out else ""


def _cell(name: str, metric: Metric) -> Cell:
    write, interval = (fraction, between) if name == "apgr" else (percent, between_percent)
    if metric.value is None:
        return Cell(DASH)
    return Cell(write(metric.value), (NO_INTERVAL if metric.ci95 is None else interval(metric.ci95),))


def _record(report: StoredReport, method: str, name: str, metric: Metric) -> Record:
    label = {"model": report.model, "large_model": report.report.large_name, "data": report.report.dataset}
    return {**label, "method": method, "n": report.report.n, "metric": name, **fields_of(metric)}


def data_efficiency(inputs: StudyInputs) -> Study:
    """AUC against the number of labelled samples, from routers named METHOD@nN."""
    rows, records, panels = [], [], []
    for number, report in enumerate(inputs.reports):
        lines: dict[str, figures.Line] = {}
        for name, auc in resample_aucs(report, inputs.request.bootstrap, inputs.request.seed + number).items():
            if match := re.fullmatch(r"(.+)@n(\d+)", name):
                lines.setdefault(match[1], {})[int(match[2])] = auc
        for method, line in lines.items():
            for n, auc in sorted(line.items()):
                rows.append(row(report.model, report.dataset, method, f"{n:,}", hundred(auc.known, auc.ci95)))
                records.append(record(report, f"{method}@n{n}", auc, labelled=n))
        if lines:
            panels.append((report, lines))
    if not panels:
        raise InvalidInputError(
            "no method of these reports is named METHOD@nN", hint="fit some with --cap N into …routers/METHOD@nN"
        )
    named = columns(["model", "data", "method"], ["labelled samples", "AUC × 100"], grouped=True)
    table = Table("data_efficiency", "AUC × 100 by labelled samples", named, rows, records, [PAIRED, SEEDS])
    about = (
        "A smaller training set is a part of every larger one (whole image groups, drawn at random). The curve tells "
        "how many labelled questions a router needs; it says nothing beyond its last point."
    )
    figure = figures.efficiency_panels(panels)
    caption = "Test AUC by number of labelled training samples; bands: 95 % intervals."
    return Study("Data efficiency", inputs.described(), shows(inputs, about), [table], [(figure, caption)])
