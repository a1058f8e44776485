"""The report's main table, with intervals drawn beside the numbers."""

import html
import math
from collections.abc import Sequence

from relope.evaluate.numbers.inputs import BASELINE
from relope.evaluate.pages import wording
from relope.evaluate.pages.wording import DASH, Json

STRIP_WIDTH, STRIP_HEIGHT, STRIP_PAD = 184, 26, 16

TICKS = ((0.05, 44), (0.1, 32), (0.2, 32))
"""Steps of a scale, and the pixels that its numbers must stand apart to be read at a glance."""

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
        span, room = self.high - self.low, STRIP_WIDTH - 2 * STRIP_PAD
        step = next((step for step, apart in TICKS if step / span * room >= apart), 0.5)
        self.digits = 2 if step < 0.1 else 1
        first = math.ceil(self.low / step - 1e-9)
        self.ticks = [step * place for place in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def x(self, value: float) -> str:
        """Return where a value stands, in pixels."""
        share = (value - self.low) / (self.high - self.low)
        return f"{STRIP_PAD + share * (STRIP_WIDTH - 2 * STRIP_PAD):.1f}"

    def header(self) -> str:
        """Draw the numbers of the scale."""
        texts = [
            f'<text x="{self.x(tick)}" y="14" text-anchor="middle" font-size="12" fill="var(--muted)">'
            f"{tick:.{self.digits}f}</text>"
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


def table(caption: str, head: Sequence[tuple[str, bool]], bodies: str, strip: Strip | None = None) -> str:
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
        "Differences are paired; a verdict says higher or lower only where p stays below 0.05 after Holm's correction "
        f"for all rows.{_seeds(report)}"
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
    return table(caption, head, f"<tbody>{body}</tbody>{controls}", strip)


def _seeds(report: Json) -> str:
    if not any(len(row["seeds"]) > 1 for row in report["methods"]):
        return ""
    return (
        " Rows with several seeds are means over the seeds; their spread (± standard deviation) is shown apart, "
        "since the intervals cover the sampling of questions only."
    )


def _over_seeds(row: Json) -> str:
    if row["auc_sd_over_seeds"] is None:
        return ""
    return f'<div class="under">± {row["auc_sd_over_seeds"]:.3f} over {len(row["seeds"])} seeds</div>'


def _method(report: Json, row: Json, strip: Strip) -> str:
    best, base = row["method"] == report["best"], row["method"] == BASELINE
    colour = "var(--s1)" if best else "var(--grey)" if row["is_control"] else "currentColor"
    style = ' class="best"' if best else ' class="base"' if base else ""
    note = f'<div class="note">{html.escape(row["note"])}</div>' if row["note"] else ""
    if row["auc"] is None:
        figure = f'{DASH}<div class="note">{html.escape(row["auc_null_reason"])}</div>'
    else:
        figure = f'<b>{row["auc"]:.3f}</b><div class="under">{wording.between(row["ci95"])}</div>{_over_seeds(row)}'
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
    detail = f"{wording.between_signed(difference['ci95'])}, {wording.p_value(difference['p_holm'])}"
    if difference["p_delong"] is not None:
        detail += f" (DeLong {wording.p_value(difference['p_delong'])})"
    return (
        f"{wording.signed(difference['value'])} <span{style}>{word}</span>"
        f'<div class="under">{detail.replace("<", "&lt;")}</div>'
    )
