"""Finished reports and studies as tables for a terminal."""

import json
from pathlib import Path
from typing import Any

Table = tuple[str, list[str], list[list[str]]]
"""Title, columns and rows."""


def stored_table(folder: Path) -> Table | None:
    """Return the table of the report or study in a folder, None where there is neither."""
    for name in ("study.json", "report.json"):
        path = folder / name
        if path.is_file():
            return terminal_table(json.loads(path.read_text(encoding="utf-8")))
    return None


def terminal_table(found: dict[str, Any]) -> Table:
    """Return the table of a report or study."""
    from relope.evaluate.report import terminal_rows

    if "study" in found:
        shown = found["tables"][0]
        return shown["title"], shown["columns"], shown["rows"]
    return (f"AUC of P(correct) on {found['n']} samples", *terminal_rows(found))
