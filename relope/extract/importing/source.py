"""A file of another tool: its columns, its rows, or its JSON, read with suspicion and once."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.extract.data.bounded import WHOLE_BYTES, read_bounded
from relope.extract.data.rows import SUFFIXES, Row, read_rows
from relope.extract.importing.sheets import sheet_rows
from relope.locations import uri_of_path

SHEET = ".xlsx"
_TABLES = (*SUFFIXES, SHEET)


@dataclass(frozen=True)
class Source:
    """A file.

    Attributes:
        path: where it lies.
    """

    path: Path

    @property
    def suffix(self) -> str:
        """What its name ends in, in small letters."""
        return self.path.suffix.lower()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns of its first row, or the keys of its JSON object; nothing where it has neither.

        Raises:
            RelopeError: there is no such file, or its first row cannot be read.
        """
        if not self.path.exists():
            if uri := uri_of_path(self.path):
                raise NotFoundError(f"{uri} is not on this machine", hint="download it, then import the file")
            raise NotFoundError(f"there is no file {self.path}")
        if self.suffix == ".json" and isinstance(self.json, dict):
            return tuple(map(str, self.json))
        if self.suffix not in _TABLES:
            return ()
        return next((tuple(map(str, row.cells)) for row in self.rows()), ())

    @cached_property
    def json(self) -> Any:
        """The value that a JSON file holds.

        Raises:
            InvalidInputError: it is no JSON, or larger than what is read whole.
        """
        try:
            return parsed(read_bounded(self.path, WHOLE_BYTES), self.path.name)
        except OSError as error:
            raise InvalidInputError(f"{self.path} cannot be read: {error.strerror}") from error

    def rows(self) -> Iterator[Row]:
        """Yield its rows.

        Raises:
            RelopeError: it is no table, or a row is none.
        """
        if self.suffix == SHEET:
            yield from sheet_rows(self.path)
        elif self.suffix == ".json":
            yield from self._items()
        elif self.suffix in _TABLES:
            yield from read_rows(self.path)
        else:
            raise InvalidInputError(f"{self.path} is no table; its name must end in {', '.join(_TABLES)}")

    def _items(self) -> Iterator[Row]:
        if not isinstance(self.json, list):
            raise InvalidInputError(f"{self.path} must hold a JSON list of objects, not {type(self.json).__name__}")
        root = self.path.parent.resolve()
        for number, item in enumerate(self.json, 1):
            where = f"item {number} of {self.path.name}"
            if not isinstance(item, dict):
                raise InvalidInputError(f"{where} must be an object, not {type(item).__name__}")
            yield Row(where, item, "", self.path.parent, root, item.get)


def parsed(content: bytes, where: str) -> Any:
    """Return the JSON value of some bytes.

    Raises:
        InvalidInputError: they are none.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{where} is no UTF-8 text: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{where} is no JSON: {error}") from error


def mapping_in(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under a key, an empty one where there is none."""
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def columns_or_none(source: Source) -> tuple[str, ...] | None:
    """Return the columns of a file, None where it cannot be read as one that has any."""
    try:
        return source.columns
    except NotFoundError:
        raise
    except RelopeError:
        return None
