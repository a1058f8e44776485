"""A table as HTML, Markdown, LaTeX and CSV; the latter three are written beside a page."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from relope.evaluate.pages.escape import csv_cell, latex_text, markdown_text
from relope.evaluate.pages.table import Table
from relope.provenance import write_bytes


def markdown(table: Table) -> str:
    """Return a table in GitHub's Markdown."""
    rules = ["---:" if column.style == "n" else "---" for column in table.columns if column.scale is None]
    under = f"| {' | '.join(rules)} |"
    lines = [f"**{markdown_text(table.title)}**", "", _pipes(table.headings), under, *map(_pipes, table.texts)]
    return "\n".join([*lines, *(f"\n{markdown_text(note)}" for note in table.notes)]) + "\n"


def latex(table: Table) -> str:
    """Return a table environment for the booktabs package."""
    layout = "".join("r" if column.style == "n" else "l" for column in table.columns if column.scale is None)
    lines = [r"\begin{table}", rf"\caption{{{latex_text(table.title)}}}", rf"\begin{{tabular}}{{{layout}}}"]
    lines += [r"\toprule", _ampersands(table.headings), r"\midrule", *map(_ampersands, table.texts), r"\bottomrule"]
    lines += [r"\end{tabular}", *(rf"\par {latex_text(note)}" for note in table.notes), r"\end{table}"]
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """Return the records as comma-separated values; null is an empty field."""
    keys = list(dict.fromkeys(key for record in table.records for key in record))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(csv_cell, keys))
    writer.writerows([csv_cell(record.get(key)) for key in keys] for record in table.records)
    return buffer.getvalue()


RENDERERS = {"md": markdown, "tex": latex, "csv": comma_separated}
"""Ending → what makes the file; HTML is made with its page, by the macro ``table`` of the templates."""


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Write every table in three forms into ``<folder>/tables``."""
    for table in tables:
        for ending, render in RENDERERS.items():
            write_bytes(folder / "tables" / f"{table.name}.{ending}", render(table).encode())


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"
