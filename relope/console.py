"""The terminal: tables to stdout, progress and notes to stderr. Only cli.py uses this."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from relope.types import Progress


def note(text: str) -> None:
    """Write one line for a person to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def out(text: str) -> None:
    """Write a result to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout; columns after the first are right-aligned when numeric."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        numeric = place > 0 and all(_is_number(row[place]) for row in rows)
        shown.add_column(column, justify="right" if numeric else "left", no_wrap=place == 0)
    for row in rows:
        shown.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(shown)


def _is_number(text: str) -> bool:
    return not text or text[0] in "+-−–.0123456789[" or text in ("—", "null")


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Show a progress bar on stderr while the block runs; silent when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
