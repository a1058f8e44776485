"""What a step did, shown: tables and text on stdout, notes on stderr, or JSON."""

import os
from collections.abc import Sequence

import typer

from relope.commands import console
from relope.fields import Spec
from relope.steps import run, step_of
from relope.types import Outcome, ResultWarning, TextTable, silent


def run_and_show(spec: Spec, as_json: bool, quiet: bool) -> None:
    """Run a step and show its outcome; exit with its code when what it looked at is not in order."""
    outcome = run(spec, silent if quiet else console.progress)
    if os.environ.get("RANK", "0") == "0":  # under torchrun the first process speaks for all
        show(outcome, as_json, quiet)
    if outcome.failed:
        raise typer.Exit(outcome.code)


def show(outcome: Outcome, as_json: bool, quiet: bool) -> None:
    """Show an outcome."""
    if as_json:
        console.out_json(outcome.to_json())
        return
    _show_tables(outcome.warnings, outcome.tables)
    if outcome.text:
        console.out(outcome.text)
    if outcome.note and not quiet:
        console.note(outcome.note)


def show_rows(table: TextTable, as_json: bool) -> None:
    """Show a table, or its rows as a list of JSON objects."""
    if as_json:
        console.out_json([dict(zip(table.columns, row, strict=True)) for row in table.rows])
        return
    console.table(table.title, table.columns, table.rows)


def show_last(specs: Sequence[Spec], outcomes: Sequence[Outcome], quiet: bool) -> None:
    """Show the table of the last report of a pipeline, or of every study when there is one."""
    done = list(zip(specs, outcomes, strict=True))
    studies = [(spec, outcome) for spec, outcome in done if spec.step == "study"]
    reports = [(spec, outcome) for spec, outcome in done if spec.step == "evaluate"]
    for spec, outcome in studies or reports[-1:]:
        step = step_of(spec)
        _show_tables(step.warnings(outcome.path), step.tables(outcome.path))
        if not quiet:
            console.note(f"→ {outcome.path}")


def _show_tables(warnings: Sequence[ResultWarning], tables: Sequence[TextTable]) -> None:
    for warning in warnings:
        console.warning(warning.text, severe=warning.severity == "wrong")
    for table in tables:
        console.table(table.title, table.columns, table.rows)
