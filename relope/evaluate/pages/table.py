"""A table: one record, whether it is shown on a page, written for a paper or read by a program."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relope.evaluate.pages.scale import Scale
from relope.evaluate.pages.wording import DASH, between, between_signed, signed
from relope.types import TextTable

Record = dict[str, Any]
"""A number and everything that says what it is of; JSON values."""

Style = Literal["", "group", "label", "n", "apart"]
"""Text; a name that heads its rows on a page; a name that is never broken; a number; text with room before it."""

Mark = tuple[float, tuple[float, float], str]
"""A value and its interval on the scale of the column, and a CSS colour."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: heading.
        under: second line of it.
        style: what its cells hold.
        scale: of its marks, if it has any.
        means: what the heading stands for, below it on a page.
    """

    title: str
    under: str = ""
    style: Style = ""
    scale: Scale | None = None
    means: str = ""

    @property
    def plain(self) -> str:
        """Return the heading on one line."""
        return f"{self.title}, {self.under}" if self.under else self.title


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: the number or name.
        under: what qualifies it, smaller: an interval, the paper's number.
        word: a word beside it, of the CSS class ``tone``.
        note: a remark that only a page has room for.
        strong: whether it is the number to look at.
        mark: what is drawn in it.
    """

    text: str = ""
    under: tuple[str, ...] = ()
    word: str = ""
    tone: str = "muted"
    note: str = ""
    strong: bool = False
    mark: Mark | None = None

    @property
    def plain(self) -> str:
        """Return it on one line."""
        text = " ".join(part for part in (self.text, self.word) if part)
        return f"{text} ({'; '.join(self.under)})" if self.under else text


@dataclass(frozen=True)
class Row:
    """Cells, one a column.

    Attributes:
        style: CSS class on a page: ``best`` or ``base``.
        apart: whether it belongs to the rows that are set apart at the end.
    """

    cells: tuple[Cell, ...]
    style: str = ""
    apart: bool = False


@dataclass(frozen=True)
class Table:
    """A table for people, with the numbers behind it for programs.

    Attributes:
        name: of its files.
        title: what it shows.
        records: one a number: what it is of, the value, its interval, its reason when it is null.
        notes: what a reader must know, below the table.
        caption: what stands above it on a page, where that is more than the title.
        apart: what is said above the rows that are set apart.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    records: Sequence[Record] = ()
    notes: Sequence[str] = ()
    caption: str = ""
    apart: str = ""

    @property
    def skipped(self) -> int:
        """Return how many columns a page leaves out, since they head the rows instead."""
        return int(self.columns[0].style == "group")

    def bodies(self) -> list[tuple[str, bool, list[Row]]]:
        """Return the rows that stand together, with their heading and whether they are set apart."""

        def key(row: Row) -> tuple[str, bool]:
            return row.cells[0].plain if self.skipped else "", row.apart

        return [(*both, list(rows)) for both, rows in itertools.groupby(self.rows, key)]

    @property
    def scale(self) -> Scale | None:
        """Return the scale that its marks are drawn on; a table has one at most."""
        return next((column.scale for column in self.columns if column.scale), None)

    @property
    def headings(self) -> list[str]:
        """Return the headings of the columns that hold text."""
        return [column.plain for column in self.columns if column.scale is None]

    @property
    def texts(self) -> list[list[str]]:
        """Return the rows, one text a cell, without what is drawn."""
        written = [index for index, column in enumerate(self.columns) if column.scale is None]
        return [[row.cells[index].plain for index in written] for row in self.rows]

    @property
    def text(self) -> TextTable:
        """Return it as a terminal shows it."""
        return TextTable(self.title, self.headings, self.texts)

    def to_json(self) -> Record:
        """Return the table as JSON values."""
        return {
            "name": self.name,
            "title": self.title,
            "columns": self.headings,
            "rows": self.texts,
            "records": list(self.records),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Table":
        """Return a table that was read back; its cells are text alone."""
        columns = [Column(title) for title in value["columns"]]
        rows = [row(*cells) for cells in value["rows"]]
        return cls(value["name"], value["title"], columns, rows, value["records"], value["notes"])


def row(*cells: Cell | str, style: str = "", apart: bool = False) -> Row:
    """Return a row of cells; what is only a text may be given as one."""
    return Row(tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells), style, apart)


def columns(labels: Sequence[str], numbers: Sequence[str], grouped: bool = False) -> list[Column]:
    """Return columns of names and columns of numbers; the first name may head its rows."""
    named = [Column(title, style="label") for title in labels]
    if grouped:
        named[0] = Column(labels[0], style="group")
    return [*named, *(Column(title, style="n") for title in numbers)]


def hundred(value: float | None, bounds: Sequence[float] | None = None) -> Cell:
    """Write an AUC times 100 as the paper prints it, with its interval."""
    if value is None:
        return Cell(DASH)
    return Cell(f"{100 * value:.1f}", () if bounds is None else (between([100 * bound for bound in bounds], 1),))


def signed_hundred(value: float | None, bounds: Sequence[float] | None = None) -> Cell:
    """Write a difference of AUCs times 100, with its interval."""
    if value is None:
        return Cell(DASH)
    under = () if bounds is None else (between_signed([100 * bound for bound in bounds], 1),)
    return Cell(signed(100 * value, 1), under)
