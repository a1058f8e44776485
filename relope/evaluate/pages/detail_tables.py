"""The report's further tables: routing, budgets, prices, calibration, costs and parts of the data."""

import html
import math
from collections.abc import Sequence

from relope.evaluate.numbers.routing import MARKS, mark_key
from relope.evaluate.pages import wording
from relope.evaluate.pages.tables import Strip, table
from relope.evaluate.pages.wording import DASH, NARROW, Json

Head = Sequence[tuple[str, bool]]

ROUTING = (
    ("apgr", "APGR", wording.fraction),
    ("cpt_50", "CPT(50&nbsp;%)", wording.percent),
    ("cpt_80", "CPT(80&nbsp;%)", wording.percent),
    ("qnc", "QNC", wording.percent),
    ("auarc", "AUARC", wording.fraction),
    ("tpr_at_fpr_1", "TPR at 1&nbsp;% FPR", wording.percent),
    ("tpr_at_fpr_5", "TPR at 5&nbsp;% FPR", wording.percent),
)
PAID = (
    "A query that is kept costs the small model's prompt and answer. One that is escalated costs the large model's, "
    "and the small model's prompt; a method that decides after the answer has paid that too."
)
SLICE_TITLES = {
    "kind": "kind of question",
    "dataset": "data set",
    "pictures": "pictures shown",
    "question_type": "type of question",
}


def name_cell(report: Json, row: Json) -> str:
    """Return the first cell of a method's row."""
    return f"<td>{html.escape(row['method'])}{' (control)' if row['is_control'] else ''}</td>"


def rows_of(report: Json, cells: Sequence[str]) -> str:
    """Return the body of a table with one row a method, the best one marked."""
    lines = [
        f"<tr{' class=best' if row['method'] == report['best'] else ''}>{name_cell(report, row)}{cell}</tr>"
        for row, cell in zip(report["methods"], cells, strict=True)
    ]
    return f"<tbody>{''.join(lines)}</tbody>"


def _figure(metric: Json, write: "wording.Writer") -> str:
    if metric["value"] is None:
        return f'<td class="n">{DASH}</td>'
    bounds = metric["ci95"]
    spread = wording.between_percent if write is wording.percent else wording.between
    under = "" if bounds is None else f'<div class="under">{spread(bounds)}</div>'
    return f'<td class="n">{write(metric["value"])}{under}</td>'


def routing_table(report: Json) -> str:
    """Return the routing metrics with their intervals."""
    cells = ["".join(_figure(row["metrics"][key], write) for key, _, write in ROUTING) for row in report["methods"]]
    first = report["methods"][0]["metrics"]["apgr"]
    missing = "" if first["value"] is not None else f" APGR, CPT and QNC are undefined: {first['null_reason']}."
    caption = (
        "APGR: mean share of the gap between the two models that is recovered, blind escalation 0.5. CPT(x): least "
        "share of calls to the large model that recovers x of the gap; QNC: that reaches its accuracy. AUARC: mean "
        f"accuracy of the small model on the share it keeps. TPR: share of right answers "
        f"kept when so few wrong ones are. Small figures: 95&nbsp;% intervals.{html.escape(missing)}"
    )
    return table(caption, [("method", False), *((title, True) for _, title, _ in ROUTING)], rows_of(report, cells))


def budget_table(report: Json) -> str:
    """Return requested against realised escalation."""
    held = all(row["budgets_set_on"] == "validation" for row in report["methods"])
    where = "on the validation split" if held else "on the test scores themselves, since validation was not scored"
    cells = [
        "".join(f'<td class="n">{wording.percent(one["realised"])}</td>' for one in row["budgets"])
        for row in report["methods"]
    ]
    caption = f"Share really escalated when the threshold for a budget is set {where}; equal scores move together."
    head: Head = [("method", False), *((f"asked {mark}{NARROW}%", True) for mark in MARKS)]
    return table(caption, head, rows_of(report, cells))


def price_table(report: Json) -> str:
    """Return the mean cost of a query by share escalated, nothing without a price list."""
    if report["methods"][0]["costs"] is None:
        return ""
    marks = (0, *MARKS, 100)
    tables = []
    for axis, unit in (("dollars", "$ per 1,000 queries"), ("latency", "seconds a query")):
        if report["methods"][0]["costs"][axis] is None:
            tables.append(f"<p>{axis}: a price or speed that it needs is unknown, so it is not shown.</p>")
            continue
        factor = 1000 if axis == "dollars" else 1
        costs = [[factor * row["costs"][axis][mark_key(mark)] for mark in marks] for row in report["methods"]]
        digits = _digits(min(map(min, costs)))
        cells = [
            f'<td class="label">{_decides(row)}</td>' + "".join(f'<td class="n">{one:.{digits}f}</td>' for one in line)
            for row, line in zip(report["methods"], costs, strict=True)
        ]
        head: Head = [("method", False), ("decides", False), *((f"{mark}{NARROW}% escalated", True) for mark in marks)]
        tables.append(table(f"Mean cost: {unit}.", head, rows_of(report, cells)))
    known = any(report["methods"][0]["costs"].values())
    paid = f"<p>{PAID}{_not_counted(report)}</p>" if known else ""
    return paid + "".join(tables)


def _digits(smallest: float) -> int:
    """Return the decimals that show three digits of the smallest number."""
    return max(0, 2 - math.floor(math.log10(smallest))) if smallest > 0 else 3


def _decides(row: Json) -> str:
    return "before the answer" if row["decides_before_answer"] else "after the answer"


def _not_counted(report: Json) -> str:
    asking = [row for row in report["methods"] if row["not_counted"]]
    if not asking:
        return ""
    names = wording.listed([row["method"] for row in asking])
    flags = wording.listed(sorted({row["not_counted"].split()[0] for row in asking}))
    text = f" Not counted: what the small model does beside answering for {names} ({flags}), so those cost more."
    return html.escape(text)


def calibration_table(report: Json) -> str:
    """Return Brier scores and calibration errors, before and after calibration."""
    keys = ("brier", "brier_calibrated", "ece", "ece_calibrated")
    titles = ("Brier score", "calibrated", "calibration error", "calibrated")
    cells = ["".join(_figure(row["metrics"][key], wording.fraction) for key in keys) for row in report["methods"]]
    caption = (
        "Lower is better. Scores of methods without training rank answers; nothing made them probabilities. "
        "Calibrated: isotonic regression, cross-fitted, never on the samples it is judged on."
    )
    return table(caption, [("method", False), *((title, True) for title in titles)], rows_of(report, cells))


def cost_table(report: Json) -> str:
    """Return time and reading of each method."""
    cells = [
        f'<td class="n">{wording.seconds(row["seconds_fit"]) if row["needs_training"] else "none"}</td>'
        f'<td class="n">{wording.size(row["bytes_read_fit"])}</td>'
        f'<td class="n">{wording.milliseconds(row["seconds_predict_each"])}</td>'
        f'<td class="n">{wording.size(row["bytes_read_each"])}</td>'
        for row in report["methods"]
    ]
    titles = ("training", "read for training", "overhead a query", "read a query")
    caption = (
        "Training of the first seed; overhead is the time to score a sample from the store, on top of the small "
        "model's own work. Read: bytes of hidden states taken from the store."
    )
    return table(caption, [("method", False), *((title, True) for title in titles)], rows_of(report, cells))


def slice_tables(report: Json) -> str:
    """Return one table a column that the samples were cut by."""
    columns = list(dict.fromkeys(row["column"] for row in report["slices"]))
    shown = [column for column in columns if column != "dataset" or _several(report, column) or len(columns) == 1]
    return "".join(_slice_table(report, column) for column in shown)


def _several(report: Json, column: str) -> bool:
    return len([row for row in report["slices"] if row["column"] == column]) > 1


def _slice_table(report: Json, column: str) -> str:
    rows = [row for row in report["slices"] if row["column"] == column]
    strip = Strip(rows, next(row["auc"] for row in report["methods"] if row["method"] == report["best"]))
    head = [(SLICE_TITLES.get(column, column), False), ("samples", True), ("small right", True), ("large right", True)]
    head += [("escalated", True), ("right of the kept", True)]
    head += [(f'<span class="apart">AUC of {html.escape(report["best"])}</span>', False), (strip.header(), False)]
    body = "".join(_slice_row(row, strip) for row in rows)
    caption = "Dashed: the AUC over all samples. Orange: the whole 95&nbsp;% interval lies below it."
    return table(caption, head, f"<tbody>{body}</tbody>", strip)


def _slice_row(row: Json, strip: Strip) -> str:
    below = strip.reference is not None and row["ci95"] and row["ci95"][1] < strip.reference
    if row["auc"] is None:
        figure = f'{DASH}<div class="note">{html.escape(row["auc_null_reason"])}</div>'
    else:
        figure = f'{row["auc"]:.3f} <span class="muted">{wording.between(row["ci95"])}</span>'
    drawn = strip.draw(row, "var(--s2)" if below else "var(--s1)")
    shares = (row["small_accuracy"], row["large_accuracy"], row["escalated"], row["kept_accuracy"])
    cells = "".join(f'<td class="n">{wording.percent(share)}</td>' for share in shares)
    return (
        f'<tr><td>{html.escape(row["value"])}</td><td class="n">{row["n"]:,}</td>{cells}'
        f'<td class="apart">{figure}</td><td class="strip">{drawn}</td></tr>'
    )
