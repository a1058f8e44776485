"""Figure 2 and the data-efficiency curve: their numbers as tables, drawn by `study_figures`."""

import re
from typing import Any

from relope.errors import InvalidInputError
from relope.evaluate.numbers.draws import draw_aucs
from relope.evaluate.numbers.persample import Evaluated
from relope.evaluate.numbers.routing import MARKS, mark_key
from relope.evaluate.pages.export import Table, hundred
from relope.evaluate.pages.wording import Json, between, between_percent, fraction, listed, percent
from relope.evaluate.studies import figures as drawings
from relope.evaluate.studies.inputs import Study, StudyInputs
from relope.evaluate.studies.tables import PAIRED, SEEDS, record, shows


def figure2(inputs: StudyInputs) -> Study:
    """Figure 2: system accuracy against the share of questions sent to the large model."""
    hybrid = [one for one in inputs.reports if one.report["accuracy_at_is"] == "system"]
    if not hybrid:
        raise InvalidInputError("figure2 needs reports with a large model: `relope evaluate … --large-store`")
    rows, records = [], []
    for one in hybrid:
        by_name = {row["method"]: row for row in one.report["methods"]}
        for method in inputs.methods(hybrid):
            if method not in by_name:
                continue
            metrics = by_name[method]["metrics"]
            names = [*(f"accuracy_at_{mark_key(mark)}" for mark in MARKS), "apgr", "cpt_50", "cpt_80", "qnc"]
            rows.append([one.model, one.dataset, method, *(_cell(name, metrics[name]) for name in names)])
            records += [_metric(one, method, name, metrics[name]) for name in names]
    columns = ["model", "data", "method", *(f"at {mark} %" for mark in MARKS)]
    columns += ["APGR", "CPT(50 %)", "CPT(80 %)", "QNC"]
    title = "Accuracy of the whole system at 10, 20 and 50 % escalated, and routing metrics"
    table = Table("figure2", title, columns, rows, records, 3, [PAIRED])
    about = (
        "The lowest-scored share of the questions goes to the large model. The dashed line is blind escalation, the "
        "dotted one an oracle that knows every verdict beforehand."
    )
    text = f"accuracy of the system by share escalated; names stand in the order at 50 %.{_unnamed(inputs, hybrid)}"
    drawn = drawings.routing_figures(inputs, hybrid)
    figures = [(svg, f"{model}: {text}") for model, svg in drawn.items()]
    return Study("Figure 2: routing curves", inputs.described(), shows(inputs, about), [table], figures)


def _unnamed(inputs: StudyInputs, reports: list[Evaluated]) -> str:
    """Say which methods have no name in the pictures, or are in none."""
    grey = drawings.unnamed(inputs, reports)
    controls = {row["method"] for one in reports for row in one.report["methods"] if row["is_control"]}
    left_out = sorted(controls & set(inputs.methods(reports)))
    said = f" Thin grey lines without a name: {listed(grey)}." if grey else ""
    return said + (f" Not drawn, since they are controls: {listed(left_out)}." if left_out else "")


def _cell(name: str, metric: Json) -> str:
    write, spread = (fraction, between) if name == "apgr" else (percent, between_percent)
    text = write(metric["value"])
    return text if metric["ci95"] is None else f"{text} ({spread(metric['ci95'])})"


def _metric(one: Evaluated, method: str, name: str, metric: Json) -> Json:
    low, high = metric["ci95"] or (None, None)
    label = {"model": one.model, "large_model": one.report["large_name"], "data": one.report["dataset"]}
    more = {"value": metric["value"], "ci95_low": low, "ci95_high": high, "null_reason": metric["null_reason"]}
    return {**label, "method": method, "n": len(one.correct), "metric": name, **more}


def data_efficiency(inputs: StudyInputs) -> Study:
    """AUC against the number of labelled samples, from routers named METHOD@nN."""
    rows, records, panels = [], [], []
    for place, one in enumerate(inputs.reports):
        drawn = draw_aucs(one, inputs.spec.bootstrap, inputs.spec.seed + place)
        lines: dict[str, list[tuple[int, Any]]] = {}
        for name, value in drawn.items():
            if found := re.fullmatch(r"(.+)@n(\d+)", name):
                lines.setdefault(found[1], []).append((int(found[2]), value))
        for method, points in lines.items():
            for n, value in sorted(points, key=lambda point: point[0]):
                rows.append([one.model, one.dataset, method, f"{n:,}", hundred(value.known, value.ci95)])
                records.append(record(one, f"{method}@n{n}", value, labelled=n))
        if lines:
            panels.append((one, lines))
    if not panels:
        raise InvalidInputError(
            "no method of these reports is named METHOD@nN; fit some with --cap N into …routers/METHOD@nN"
        )
    columns = ["model", "data", "method", "labelled samples", "AUC × 100"]
    table = Table("data_efficiency", "AUC × 100 by labelled samples", columns, rows, records, 3, [PAIRED, SEEDS])
    about = (
        "A smaller training set is a part of every larger one (whole image groups, drawn at random). The curve tells "
        "how many labelled questions a router needs; it says nothing beyond its last point."
    )
    figure = drawings.efficiency_panels(panels)
    caption = "Test AUC by number of labelled training samples; bands: 95 % intervals."
    return Study("Data efficiency", inputs.described(), shows(inputs, about), [table], [(figure, caption)])
