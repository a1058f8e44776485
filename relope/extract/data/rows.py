"""Rows of a user's own file: JSON Lines, JSON, CSV, TSV, Parquet, or a folder of such files."""

import ast
import contextlib
import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, NotFoundError, nearest
from relope.extract.data import tables
from relope.extract.data.bounded import LINE_BYTES, WHOLE_BYTES, check_plain_file

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_MARKS = {".csv": ",", ".tsv": "\t"}
"""What stands between the cells of a row of text."""

_LISTS = ("choices", "images")
_MAYBE_LISTS = ("options", "Options", "Choices")
"""Columns of text files that are read as lists; of the latter, those that are written as one."""

_NAMES = {",": "commas", "\t": "tabs"}
_SPLIT = re.compile(r"(train|training|validation|valid|val|dev|test)(?![a-z])")
_OF_A_SAVED_DATA_SET = ("dataset_info.json", "state.json", "dataset_dict.json")
ALLOW_OUTSIDE = "move it below the folder of the data set, or add --allow-outside if it is meant"
_LITERAL_CHARACTERS = 100_000
"""Longest list that is read as Python writes it, as pandas does; longer ones must be JSON."""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        where: file and line or row, as errors name it.
        cells: column → value.
        split: what the file's name says, or ``""``.
        folder: what relative paths of images are relative to.
        root: the data set's folder, below which its files lie; None where they may lie anywhere.
        again: column → its value, read anew: so that images need not stay in memory.
        typed: whether the file tells text from numbers; CSV and TSV do not.
    """

    where: str
    cells: Mapping[str, Any]
    split: str
    folder: Path
    root: Path | None
    again: Callable[[str], Any]
    typed: bool = True


def read_rows(path: Path, allow_outside: bool = False) -> Iterator[Row]:
    """Yield the rows of a file, or of every file of a folder; a table's images are not kept.

    Args:
        path: of the file or folder.
        allow_outside: whether files of the data set may lie outside its folder.

    Raises:
        NotFoundError: there is nothing at the path, or no such file in the folder.
        InvalidInputError: a file that is not of its kind; the line is named.
    """
    if path.is_dir():
        root = None if allow_outside else path.resolve()
        for name, file in _files(path):
            if root and not file.resolve().is_relative_to(root):
                raise InvalidInputError(f"{file} is a link to outside {path}", hint=ALLOW_OUTSIDE)
            yield from _read(file, name, root)
        return
    check_plain_file(path)
    if not path.is_file():
        hint = f"give a file ({', '.join(SUFFIXES)}) or a folder of such"
        raise NotFoundError(f"there is no data file at {path}{nearest(path.name, _beside(path))}", hint=hint)
    yield from _read(path, "", None if allow_outside else path.parent.resolve())


def _beside(path: Path) -> list[str]:
    """Return the names of the data files in the folder of a path."""
    with contextlib.suppress(OSError):
        return [file.name for file in path.parent.iterdir() if file.suffix in SUFFIXES]
    return []


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return the split that a file's name begins with, and the file, for each file of a folder."""
    listed = [file for part in (folder, folder / "data") if part.is_dir() for file in sorted(part.iterdir())]
    files = [file for file in listed if file.suffix in SUFFIXES and file.name not in _OF_A_SAVED_DATA_SET]
    if not files and (folder / "state.json").is_file():
        return [("", folder)]
    if not files and (folder / "dataset_dict.json").is_file():
        return [(split.name, split) for split in sorted(folder.iterdir()) if (split / "state.json").is_file()]
    if not files:
        raise NotFoundError(f"folder {folder} holds no data file ({', '.join(SUFFIXES)}) and no saved data set")
    named = [(_SPLIT.match(file.stem), file) for file in files]
    return [(match[1] if match else "", file) for match, file in named]


def _read(path: Path, split: str, root: Path | None) -> Iterator[Row]:
    check_plain_file(path) if not path.is_dir() else None
    if path.is_dir() or path.suffix == ".parquet":
        yield from _table_rows(path, split, root)
        return
    readers = {".jsonl": _json_lines, ".json": _json_list, **dict.fromkeys(_MARKS, _csv_rows)}
    if path.suffix not in readers:
        raise InvalidInputError(
            f"{path} is no data file that we read; its name must end in {', '.join(SUFFIXES)}",
            hint="save a table as .csv with commas between its cells, or as .parquet",
        )
    try:
        for where, cells in readers[path.suffix](path):
            yield Row(where, cells, split, path.parent, root, cells.get, typed=path.suffix not in _MARKS)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is no UTF-8 text: {error}", hint="save it as UTF-8") from error


def _table_rows(path: Path, split: str, root: Path | None) -> Iterator[Row]:
    if not path.is_dir() and tables.is_empty(path):
        return
    table = _saved(path) if path.is_dir() else tables.parquet_table((str(path),))
    names = tables.label_names(table)
    for number in range(len(table)):
        again = _cell_reader(table, number)
        cells = tables.with_names(table[number], names)
        yield Row(f"row {number + 1} of {path.name}", cells, split, path.parent, root, again)


def _saved(folder: Path) -> tables.Table:
    import datasets

    try:
        return tables.undecoded(datasets.load_from_disk(str(folder)))
    except Exception as error:
        raise InvalidInputError(f"{folder} is no saved data set: {str(error).splitlines()[0]}") from error


def _cell_reader(table: tables.Table, number: int) -> Callable[[str], Any]:
    return lambda column: table[number][column]


def _json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES + 1), ""), 1):
            where = f"line {number} of {path.name}"
            if len(line) > LINE_BYTES:
                raise InvalidInputError(f"{where} has more than {LINE_BYTES:,} characters")
            if line.strip():
                yield where, _object(where, _parsed(where, line))


def _json_list(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    check_plain_file(path, WHOLE_BYTES)
    held = _parsed(path.name, path.read_text(encoding="utf-8-sig"))
    if not isinstance(held, list):
        raise InvalidInputError(
            f"{path} must hold a JSON list of objects, not {type(held).__name__}",
            hint="a file of one object a line is called .jsonl",
        )
    for number, item in enumerate(held, 1):
        where = f"item {number} of {path.name}"
        yield where, _object(where, item)


def _csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a CSV or TSV file; an empty cell is None, as in a table, and choices are a JSON list."""
    csv.field_size_limit(LINE_BYTES)
    mark, kind = _MARKS[path.suffix], path.suffix[1:].upper()
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True, delimiter=mark)
        try:
            names = reader.fieldnames or []
            _check_marks(path.name, names, mark)
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise InvalidInputError(f"column {twice!r} stands twice in the header of {path.name}")
            for number, cells in enumerate(reader, 1):
                where = f"row {number} of {path.name}"
                if None in cells:
                    more = f"{where} has more cells than the header; quote cells that hold {_NAMES[mark]}"
                    raise InvalidInputError(more)
                yield where, {name: _cell(where, name, text) if text else None for name, text in cells.items()}
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise InvalidInputError(f"a quote after line {reader.line_num} of {path.name} is not closed") from error
            raise InvalidInputError(f"line {reader.line_num} of {path.name} is no {kind}: {error}") from error


def _cell(where: str, name: str, text: str) -> Any:
    if name not in _LISTS and not (name in _MAYBE_LISTS and text.startswith("[")):
        return text
    if text.startswith("['") and len(text) < _LITERAL_CHARACTERS:
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return ast.literal_eval(text)
    if text.lstrip()[:1] not in ("[", "{"):
        raise InvalidInputError(
            f"column {name!r} in {where} holds {text[:60]!r}; it must be a list", hint=as_list(text, in_csv=True)
        )
    return _parsed(f"column {name!r} in {where}", text)


def _check_marks(file: str, names: Sequence[str], mark: str) -> None:
    """Refuse a header that is one cell since another character stands between its names.

    Raises:
        InvalidInputError: it is; the character is named.
    """
    header = names[0] if len(names) == 1 else ""
    if other := next((other for other in (";", "\t", "|", ",") if other != mark and other in header), ""):
        apart = f"its cells are separated by {other!r}, not by {_NAMES[mark]}"
        raise InvalidInputError(
            f"the header of {file} is one cell, {header[:60]!r}: {apart}",
            hint=f"save it with {_NAMES[mark]} between its cells, or as .jsonl or .parquet",
        )


def as_list(value: Any, in_csv: bool = False) -> str:
    """Return how a text that was meant as a list is written as one, or ``""`` where it is no text."""
    if not isinstance(value, str):
        return ""
    mark = next((mark for mark in ("|", ";", "\n", "/", ",") if mark in value), "")
    listed = json.dumps([part.strip() for part in (value.split(mark) if mark else [value])][:4], ensure_ascii=False)
    quoted = listed.replace('"', '""')
    return f'write it as "{quoted}", quotes doubled as CSV has them' if in_csv else f"write it as {listed}"


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where} is no JSON: {error}") from error


def _object(where: str, item: Any) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise InvalidInputError(f"{where} must be an object of columns and values, not {type(item).__name__}")
    return item
