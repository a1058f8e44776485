"""Rows of an Excel sheet, by openpyxl; formulas are never reckoned, and a bomb is not unpacked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.bounded import WHOLE_BYTES, check_plain_file
from relope.extract.data.rows import Row
from relope.extract.importing.zips import check_zip

_ROWS = 2_000_000


def sheet_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of the first sheet of a workbook; its first row names the columns.

    Raises:
        NotFoundError: there is no such file, or openpyxl is not installed.
        InvalidInputError: it is no workbook, is too large once unpacked, or names a column twice or not at all.
    """
    if not path.exists():
        raise NotFoundError(f"there is no file {path}")
    check_plain_file(path, WHOLE_BYTES)
    try:
        import openpyxl
    except ImportError as error:
        raise NotFoundError(
            f"{path.name} is an Excel workbook, which openpyxl reads, and that is not installed",
            hint="pip install 'relope[excel]', or save it as .tsv or .json",
        ) from error
    check_zip(path)
    try:
        with path.open("rb") as file:  # openpyxl leaves a file open whose content it cannot read
            sheet = openpyxl.load_workbook(file, read_only=True, data_only=True).worksheets[0]
            yield from _rows(path, sheet.iter_rows(values_only=True, max_row=_ROWS))
    except InvalidInputError:
        raise
    except Exception as error:  # parsers raise anything on damaged workbooks
        reason = str(error).splitlines()
        raise InvalidInputError(f"{path} is no Excel workbook: {reason[0] if reason else type(error)}") from error


def _rows(path: Path, rows: Iterator[tuple[Any, ...]]) -> Iterator[Row]:
    names = [None if name is None else str(name) for name in next(rows, ())]
    while names and names[-1] is None:
        names.pop()
    if twice := next((name for name in names if name is not None and names.count(name) > 1), None):
        raise InvalidInputError(f"column {twice!r} stands twice in the header of {path.name}")
    for number, values in enumerate(rows, 2):
        if all(value is None for value in values):
            continue
        where = f"row {number} of {path.name}"
        if any(value is not None for value in values[len(names) :]):
            raise InvalidInputError(f"{where} has more cells than the header")
        cells = {name: value for name, value in zip(names, values, strict=False) if name is not None}
        yield Row(where, cells, "", path.parent, path.parent.resolve(), cells.get, typed=False)
