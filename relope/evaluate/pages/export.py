"""Tables that are shown as HTML and written as Markdown, LaTeX and CSV."""

import csv
import html
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relope.evaluate.pages import wording
from relope.evaluate.pages.wording import DASH, Json
from relope.provenance import write_bytes

HEADINGS = ("model", "backbone")
"""First columns that become headings of groups of rows on a page."""

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "–": "--", "—": "---", "±": r"$\pm$",
    "Δ": r"$\Delta$", "β": r"$\beta$", "×": r"$\times$", "≤": r"$\leq$",
    "→": r"$\to$", "\N{NARROW NO-BREAK SPACE}": r"\,",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table for people, with the numbers behind it for programs.

    Attributes:
        name: of its files.
        title: what it shows.
        columns: headings; the first ``n_labels`` name the row.
        rows: one text a cell.
        records: one row a number: what it is of, the value, its interval, its reason when it is null.
        n_labels: columns that hold names and not numbers.
        notes: what a reader must know, below the table.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    records: Sequence[Json]
    n_labels: int = 1
    notes: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> Json:
        """Return the table as JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "records": list(self.records),
            "notes": list(self.notes),
        }

    def to_html(self) -> str:
        """Return a table with its notes; the model, where rows begin with it, is a heading above its rows."""
        skipped = int(self.n_labels > 1 and self.columns[0] in HEADINGS)
        head = "".join(
            f"<th{self._style(place + skipped)}>{_heading(text)}</th>"
            for place, text in enumerate(self.columns[skipped:])
        )
        bodies = ""
        for name, rows in itertools.groupby(self.rows, key=lambda row: row[0] if skipped else ""):
            above = f'<tr class="group"><th colspan="{len(self.columns) - 1}">{html.escape(name)}</th></tr>'
            lines = "".join(f"<tr>{self._cells(row, skipped)}</tr>" for row in rows)
            bodies += f"<tbody>{above if skipped else ''}{lines}</tbody>"
        notes = "".join(f'<p class="muted">{html.escape(note)}</p>' for note in self.notes)
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead>{bodies}</table></div>{notes}'

    def _style(self, place: int) -> str:
        return ' class="label"' if place < self.n_labels else ' class="n"'

    def _cells(self, row: Sequence[str], skipped: int) -> str:
        cells = list(enumerate(row))[skipped:]
        return "".join(f"<td{self._style(place)}>{_lines(text)}</td>" for place, text in cells)

    def to_markdown(self) -> str:
        """Return a table in GitHub's Markdown."""
        lines = [f"**{self.title}**", "", _pipes(self.columns)]
        lines.append(_pipes(["---" if place < self.n_labels else "---:" for place in range(len(self.columns))]))
        lines += [_pipes(row) for row in self.rows]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)]) + "\n"

    def to_latex(self) -> str:
        """Return a table environment for the booktabs package."""
        n = len(self.columns)
        layout = "l" * self.n_labels + "r" * (n - self.n_labels)
        lines = [r"\begin{table}", rf"\caption{{{latex(self.title)}}}", rf"\begin{{tabular}}{{{layout}}}", r"\toprule"]
        lines += [" & ".join(map(latex, self.columns)) + r" \\", r"\midrule"]
        lines += [" & ".join(map(latex, row)) + r" \\" for row in self.rows]
        lines += [r"\bottomrule", r"\end{tabular}", *(rf"\par {latex(note)}" for note in self.notes), r"\end{table}"]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """Return the records as comma-separated values; null is an empty field."""
        keys = list(dict.fromkeys(key for record in self.records for key in record))
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        return buffer.getvalue()


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Write every table in three forms into ``<folder>/tables``."""
    for table in tables:
        for ending, text in (("md", table.to_markdown()), ("tex", table.to_latex()), ("csv", table.to_csv())):
            write_bytes(folder / "tables" / f"{table.name}.{ending}", text.encode())


def latex(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _heading(text: str) -> str:
    """Put the number of samples on a line of its own."""
    return html.escape(text).replace(", n=", "<br>n=")


def _lines(text: str) -> str:
    """Put what stands in brackets at a cell's end below the number, smaller, one line a part."""
    found = re.fullmatch(r"(.+?) \((.+)\)", text)
    if not found:
        return html.escape(text)
    under = "".join(f'<div class="under">{html.escape(part)}</div>' for part in found[2].split("; "))
    return html.escape(found[1]) + under


def hundred(value: float | None, bounds: Sequence[float] | None = None, digits: int = 1) -> str:
    """Write an AUC times 100 as the paper prints it, with its interval."""
    if value is None:
        return DASH
    text = f"{100 * value:.{digits}f}"
    if bounds is None:
        return text
    return f"{text} ({100 * bounds[0]:.{digits}f}{wording.RANGE}{100 * bounds[1]:.{digits}f})"


def signed_hundred(value: float | None, bounds: Sequence[float] | None = None) -> str:
    """Write a difference of AUCs times 100, with its interval."""
    if value is None:
        return DASH
    text = wording.signed(100 * value, 1)
    return text if bounds is None else f"{text} ({wording.between_signed([100 * one for one in bounds], 1)})"


def report_tables(report: Json) -> list[Table]:
    """Return the tables of a report: every number with its interval, or the reason why it is null."""
    label = {"model": report["small_name"], "large_model": report["large_name"], "data": report["dataset"]}
    every = [
        {**label, "method": row["method"], "n": row["n"], "groups": row["n_groups"], "metric": name, **_spread(metric)}
        for row in report["methods"]
        for name, metric in row["metrics"].items()
    ]
    return [
        _methods(report, label),
        Table("metrics", f"Every metric on {report['n']:,} samples", *_metrics(report), records=every),
        _slices(report, label),
        _costs(report, label),
    ]


def _spread(metric: Json) -> Json:
    low, high = metric["ci95"] or (None, None)
    return {"value": metric["value"], "ci95_low": low, "ci95_high": high, "null_reason": metric["null_reason"]}


def _methods(report: Json, label: Json) -> Table:
    columns = ["method", "AUC × 100", "± over seeds", "difference to probe", "p (Holm)", "verdict"]
    rows, records = [], []
    for row in report["methods"]:
        gap = row["difference_to_probe"]
        low, high = row["ci95"] or (None, None)
        rows.append([
            row["method"], hundred(row["auc"], row["ci95"]),
            DASH if row["auc_sd_over_seeds"] is None else f"{100 * row['auc_sd_over_seeds']:.1f}",
            DASH if gap is None else signed_hundred(gap["value"], gap["ci95"]),
            DASH if gap is None else f"{gap['p_holm']:.3f}", DASH if gap is None else gap["verdict"],
        ])  # fmt: skip
        more = {} if gap is None else {f"difference_{key}": value for key, value in gap.items() if key != "ci95"}
        records.append({
            **label, "method": row["method"], "n": row["n"], "auc": row["auc"], "ci95_low": low, "ci95_high": high,
            "null_reason": row["auc_null_reason"], "sd_over_seeds": row["auc_sd_over_seeds"],
            "seeds": len(row["seeds"]), **more,
        })  # fmt: skip
    title = f"AUC of P(correct): {report['small_name']} on {report['dataset']}, {report['n']:,} samples"
    return Table("methods", title, columns, rows, records, notes=[report["caveat"]])


def _metrics(report: Json) -> tuple[list[str], list[list[str]]]:
    names = list(report["methods"][0]["metrics"])
    rows = [
        [row["method"], *(wording.fraction(row["metrics"][name]["value"]) for name in names)]
        for row in report["methods"]
    ]
    return ["method", *names], rows


def _slices(report: Json, label: Json) -> Table:
    columns = [
        "column",
        "value",
        "samples",
        "small right",
        "large right",
        "escalated",
        "right of the kept",
        "AUC × 100",
    ]
    rows = [
        [row["column"], row["value"], f"{row['n']:,}", wording.percent(row["small_accuracy"]),
         wording.percent(row["large_accuracy"]), wording.percent(row["escalated"]),
         wording.percent(row["kept_accuracy"]), hundred(row["auc"], row["ci95"])]
        for row in report["slices"]
    ]  # fmt: skip
    records: list[dict[str, Any]] = [
        {**label, "method": report["best"], **{key: value for key, value in row.items() if key != "ci95"},
         "ci95_low": (row["ci95"] or [None])[0], "ci95_high": (row["ci95"] or [None])[-1]}
        for row in report["slices"]
    ]  # fmt: skip
    return Table("slices", f"Parts of the data, scored by {report['best']}", columns, rows, records, n_labels=2)


def _costs(report: Json, label: Json) -> Table:
    keys = ("seconds_fit", "bytes_read_fit", "seconds_predict_each", "bytes_read_each")
    rows = [
        [row["method"], wording.seconds(row["seconds_fit"]), wording.size(row["bytes_read_fit"]),
         wording.milliseconds(row["seconds_predict_each"]), wording.size(row["bytes_read_each"])]
        for row in report["methods"]
    ]  # fmt: skip
    records = [{**label, "method": row["method"], **{key: row[key] for key in keys}} for row in report["methods"]]
    columns = ["method", "training", "read for training", "overhead a query", "read a query"]
    return Table("costs", "What the methods cost", columns, rows, records)
