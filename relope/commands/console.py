"""The terminal: tables to stdout, progress and notes to stderr. Only cli.py uses this."""

import codecs
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from relope.commands.heartbeat import Heartbeat, heartbeat
from relope.types import Progress, no_progress


def note(text: str) -> None:
    """Write one line for a person to stderr, if anybody can be told anything there."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        sys.stderr = nowhere()  # what is left in the old one would fail again at the end


def nowhere() -> TextIO:
    """Return a stream that takes everything and keeps nothing."""
    return open(os.devnull, "w", encoding="utf-8")


def out(text: str) -> None:
    """Write a result to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def warning(text: str, *, severe: bool) -> None:
    """Write a warning about numbers to stdout, where the numbers go; red or yellow on a terminal."""
    colour, end = ("\x1b[31m" if severe else "\x1b[33m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    out(f"{colour}warning: {text}{end}")


def out_json(value: Any) -> None:
    """Write a result to stdout as JSON, which a stdout that is not UTF-8 gets escaped."""
    named = codecs.lookup(sys.stdout.encoding or "ascii").name
    out(json.dumps(value, indent=2, ensure_ascii=named != "utf-8"))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout; columns after the first are right-aligned when numeric."""
    from rich.console import Console
    from rich.table import Table

    # Names in titles and cells are nobody's markup.
    shown = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        numeric = number > 0 and all(_is_number(row[number]) for row in rows)
        shown.add_column(column, justify="right" if numeric else "left", no_wrap=number == 0)
    for row in rows:
        shown.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False)
    console.print(shown)


def _is_number(text: str) -> bool:
    return not text or text[0] in "+-−–.0123456789[" or text in ("—", "null")


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Show a progress bar on stderr while the block runs; when that is no terminal, a line now and then."""
    if not sys.stderr.isatty():
        with heartbeat(note) as beat:
            yield beat.begin(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


class Board:
    """One display for a pipeline: what has ended scrolls by, what runs has a line, below it the whole."""

    def __init__(self, bars: Any, total: int, beat: Heartbeat | None = None) -> None:
        """Show on rich's ``Progress``, or on plain lines when it is None; on nothing without a heartbeat either."""
        self._bars, self._beat = bars, beat
        self._tasks: dict[int, Any] = {}
        self._all = bars.add_task("all steps", total=total) if bars else None

    def begin(self, number: int, label: str) -> Progress:
        """Add a line for a step and return what its progress is told to."""
        if self._bars is None:
            return no_progress if self._beat is None else self._beat.begin(label)
        task = self._tasks[number] = self._bars.add_task(_plain(label), total=None)
        return lambda done, total: self._bars.update(task, completed=done, total=total)

    def end(self, number: int, label: str, text: str) -> None:
        """Write what a step did, and take its line away."""
        if self._bars is None:
            if self._beat is not None:
                self._beat.end(label)
                note(f"{label}: {text}")
            return
        self._bars.console.print(f"{label}: {text}", markup=False, highlight=False, soft_wrap=True)
        if (task := self._tasks.pop(number, None)) is not None:
            self._bars.remove_task(task)
        self._bars.advance(self._all)


def _plain(label: str) -> str:
    from rich.markup import escape

    return escape(label)


@contextmanager
def board(total: int, quiet: bool = False) -> Iterator[Board]:
    """Show the steps of a pipeline on stderr while the block runs; lines only when it is no terminal."""
    if quiet:
        yield Board(None, total)
        return
    if not sys.stderr.isatty():
        with heartbeat(note) as beat:
            yield Board(None, total, beat)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<36}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield Board(bars, total)
