"""The report's tables: methods, calibration and families, with intervals drawn beside the numbers."""

import html
import math
from collections.abc import Sequence

from relope.evaluate import wording
from relope.evaluate.inputs import BASELINE
from relope.evaluate.wording import DASH, Json

STRIP_WIDTH, STRIP_HEIGHT, STRIP_PAD = 220, 26, 18

CONTROLS = (
    "Controls look at no hidden state: they know only the kind of question, or the kind and how confident the "
    "answer was; a router that does not beat them is not shown to read anything inside the model."
)


class Strip:
    """A scale shared by the intervals of one column."""

    def __init__(self, rows: Sequence[Json], reference: float | None) -> None:
        """Span every interval; ``reference`` is marked in every row."""
        bounds = [value for row in rows if row["ci95"] for value in row["ci95"]] or [0.4, 1.0]
        self.low = math.floor((min(bounds) - 0.005) * 20) / 20
        self.high = min(math.ceil((max(bounds) + 0.005) * 20) / 20, 1.0)
        self.reference = reference
        step = 0.05 if self.high - self.low <= 0.3 else 0.1 if self.high - self.low <= 0.6 else 0.2
        first = math.ceil(self.low / step - 1e-9)
        self.ticks = [step * place for place in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def x(self, value: float) -> str:
        """Return where a value stands, in pixels."""
        share = (value - self.low) / (self.high - self.low)
        return f"{STRIP_PAD + share * (STRIP_WIDTH - 2 * STRIP_PAD):.1f}"

    def header(self) -> str:
        """Draw the numbers of the scale."""
        texts = [
            f'<text x="{self.x(tick)}" y="14" text-anchor="middle" font-size="12" fill="var(--muted)">{tick:.2f}</text>'
            for tick in self.ticks
        ]
        return _strip("".join(texts), 18)

    def draw(self, row: Json, colour: str) -> str:
        """Draw one value and its interval."""
        if row["auc"] is None or not row["ci95"]:
            return ""
        low, high = (self.x(value) for value in row["ci95"])
        middle = STRIP_HEIGHT // 2
        return _strip(
            f'<path d="M{low} {middle}H{high}" stroke="{colour}" stroke-width="3" stroke-linecap="round"/>'
            f'<circle cx="{self.x(row["auc"])}" cy="{middle}" r="5.5" fill="{colour}"/>',
            STRIP_HEIGHT,
        )

    def lines(self) -> str:
        """Return the grid as a CSS background, so that it runs through rows of any height."""
        grid = "linear-gradient(var(--grid), var(--grid))"
        plain = [f"{grid} {self.x(tick)}px 0/1px 100% no-repeat" for tick in self.ticks]
        if self.reference is not None:
            dashes = "repeating-linear-gradient(var(--muted) 0 3px, transparent 3px 6px)"
            plain.insert(0, f"{dashes} {self.x(self.reference)}px 0/1px 100% no-repeat")
        return ", ".join(plain)


def _strip(content: str, height: int) -> str:
    box = f'width="{STRIP_WIDTH}" height="{height}" viewBox="0 0 {STRIP_WIDTH} {height}"'
    return f'<svg {box} aria-hidden="true">{content}</svg>'


def _table(caption: str, head: Sequence[tuple[str, bool]], bodies: str, strip: Strip | None = None) -> str:
    cells = "".join(f'<th scope="col"{_numeric(right)}>{text}</th>' for text, right in head)
    caption = f"<caption>{caption}</caption>"
    style = f' style="--lines: {strip.lines()}"' if strip else ""
    return f'<div class="wide"><table{style}>{caption}<thead><tr>{cells}</tr></thead>{bodies}</table></div>'


def _numeric(right: bool) -> str:
    return ' class="n"' if right else ""


def methods_table(report: Json) -> str:
    """Return the main table, controls set apart at its end."""
    rows = report["methods"]
    baseline = next((row["auc"] for row in rows if row["method"] == BASELINE), None)
    strip = Strip(rows, baseline)
    system = report["accuracy_at_is"] == "system"
    caption = (
        f"Ranking of right above wrong answers on {report['n']:,} test samples in {report['n_groups']:,} image groups "
        f"({report['n_correct']:,} answered rightly), the same for every row; 95&nbsp;% intervals. "
        f"AUC 0.5 is chance. {'The dashed line is the probe. ' if baseline is not None else ''}"
        "The intervals of differences are paired and not adjusted for the number of rows."
    )
    head = [
        ("method", False),
        ("AUC", False),
        (strip.header(), False),
        (f"difference to {BASELINE}", False),
        ("system right,<br>20 % escalated" if system else "right of the kept,<br>20 % set aside", True),
        ("time to fit", True),
    ]
    body = "".join(_method(report, row, strip) for row in rows if not row["is_control"])
    controls = "".join(_method(report, row, strip) for row in rows if row["is_control"])
    if controls:
        why = f'<tr class="why"><td colspan="{len(head)}">{CONTROLS}</td></tr>'
        controls = f'<tbody class="controls">{why}{controls}</tbody>'
    return _table(caption, head, f"<tbody>{body}</tbody>{controls}", strip)


def _method(report: Json, row: Json, strip: Strip) -> str:
    best, base = row["method"] == report["best"], row["method"] == BASELINE
    colour = "var(--s1)" if best else "var(--grey)" if row["is_control"] else "currentColor"
    style = ' class="best"' if best else ' class="base"' if base else ""
    note = f'<div class="note">{html.escape(row["note"])}</div>' if row["note"] else ""
    if row["auc"] is None:
        figure = f'{DASH}<div class="note">{html.escape(row["auc_null_reason"])}</div>'
    else:
        figure = f'<b>{row["auc"]:.3f}</b><div class="under">{wording.between(row["ci95"])}</div>'
    fit = html.escape(wording.seconds(row["seconds_fit"])) if row["needs_training"] else "none"
    return (
        f'<tr{style}><td><span class="name">{html.escape(row["method"])}</span>{note}</td><td>{figure}</td>'
        f'<td class="strip">{strip.draw(row, colour)}</td><td>{_difference(row)}</td>'
        f'<td class="n">{wording.percent(row["accuracy_at"]["0.2"])}</td><td class="n">{fit}</td></tr>'
    )


def _difference(row: Json) -> str:
    difference, word = row["difference_to_probe"], wording.verdict(row)
    if difference is None:
        return f'<span class="muted">{word}</span>'
    style = f' class="{word}"' if word in ("higher", "lower") else ' class="muted"'
    detail = f"{wording.between_signed(difference['ci95'])}, {wording.p_value(difference['p'])}"
    return (
        f"{wording.signed(difference['value'])} <span{style}>{word}</span>"
        f'<div class="under">{detail.replace("<", "&lt;")}</div>'
    )


def calibration_table(report: Json) -> str:
    """Return Brier scores and calibration errors."""
    head = [("method", False), ("Brier score", True), ("calibration error", True)]
    rows = [
        f"<tr{' class=best' if row['method'] == report['best'] else ''}><td>{html.escape(row['method'])}</td>"
        f'<td class="n">{row["brier"]:.3f}</td><td class="n">{row["ece"]:.3f}</td></tr>'
        for row in report["methods"]
    ]
    caption = "Lower is better. Scores of methods without training rank answers; nothing made them probabilities."
    return _table(caption, head, f"<tbody>{''.join(rows)}</tbody>")


def families_table(report: Json) -> str:
    """Return accuracy and the best method's AUC for each kind of question."""
    rows = report["families"]
    strip = Strip(rows, next(row["auc"] for row in report["methods"] if row["method"] == report["best"]))
    several = len({row["dataset"] for row in rows}) > 1
    kinds = any(row["kind"] is not None for row in rows)
    labels = (["data set"] if several or not kinds else []) + (["kind of question"] if kinds else [])
    head = [(label, False) for label in labels]
    head += [("samples", True), ("small model right", True), ("large model right", True)]
    head += [(f'<span class="apart">AUC of {html.escape(report["best"])}</span>', False), (strip.header(), False)]
    body = "".join(f"<tr>{_family_names(row, several, kinds)}{_family(row, strip)}</tr>" for row in rows)
    return _table("The dashed line is the AUC over all samples.", head, f"<tbody>{body}</tbody>", strip)


def _family_names(row: Json, several: bool, kinds: bool) -> str:
    names = ([row["dataset"]] if several or not kinds else []) + ([row["kind"] or DASH] if kinds else [])
    return "".join(f"<td>{html.escape(name)}</td>" for name in names)


def _family(row: Json, strip: Strip) -> str:
    if row["auc"] is None:
        figure = f'{DASH}<div class="note">{html.escape(row["auc_null_reason"])}</div>'
    else:
        figure = f'{row["auc"]:.3f} <span class="muted">{wording.between(row["ci95"])}</span>'
    return (
        f'<td class="n">{row["n"]:,}</td><td class="n">{wording.percent(row["small_accuracy"])}</td>'
        f'<td class="n">{wording.percent(row["large_accuracy"])}</td><td class="apart">{figure}</td>'
        f'<td class="strip">{strip.draw(row, "var(--s1)")}</td>'
    )
