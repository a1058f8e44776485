"""The log of decisions, outcomes and thresholds: one record each, as JSON Lines in a file or Parquet parts in a folder.

No text of a prompt or an answer is in it unless the operator asks for prompts. JSON escapes what could end a line, so
no client writes a line of its own.
"""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from relope.errors import InvalidInputError, OutputError, RelopeError
from relope.provenance import cannot_write, write_frame

PART_ROWS = 4096
FIELDS = {
    "time": "str", "kind": "str", "request_id": "str", "route": "str", "decided": "str", "reason": "str",
    "score": "float", "p_correct": "float", "threshold": "float", "bundle": "str", "model": "str", "status": "int",
    "ended": "str", "stream": "bool", "prompt_tokens": "int", "answer_tokens": "int", "decision_ms": "float",
    "first_ms": "float", "total_ms": "float", "usd": "float", "correct": "bool", "session": "str", "messages": "str",
}  # fmt: skip
"""Field → its type; ``kind`` is ``decision``, ``feedback`` or ``threshold``; a record has what applies to its kind."""


class Unlogged(OSError):
    """A log that the system refused, with several records lost at once."""

    def __init__(self, why: RelopeError, n_records: int) -> None:
        super().__init__(str(why))
        self.n_records = n_records


class Log(Protocol):
    """Where records go; one thread writes."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Take a record.

        Raises:
            OSError: it cannot be kept; of `Unlogged` some before it, too.
        """

    def close(self) -> None:
        """Put everything in its place.

        Raises:
            OSError: as `write`.
        """


class NoLog:
    """Keeps nothing."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Take a record."""

    def close(self) -> None:
        """Close nothing."""


class LinesLog:
    """A file of JSON Lines, appended to; each line is written whole."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = _appended(path)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write a line."""
        self._file.write(json.dumps(record, ensure_ascii=True, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PartsLog:
    """A folder of Parquet parts, each sealed when it is full or the server ends."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)  # others may not read it: it says who asked when
        except OSError as error:
            raise cannot_write(folder, error) from error
        self._folder, self._rows = folder, list[Mapping[str, Any]]()
        self._number, self._run = 0, uuid.uuid4().hex[:12]

    def write(self, record: Mapping[str, Any]) -> None:
        """Keep a row, and seal a part of them when there are enough."""
        self._rows.append(record)
        if len(self._rows) >= PART_ROWS:
            self._seal()

    def close(self) -> None:
        """Seal what is left."""
        if self._rows:
            self._seal()

    def _seal(self) -> None:
        import polars as pl

        kinds = {"str": pl.String, "float": pl.Float64, "int": pl.Int64, "bool": pl.Boolean}
        schema = {name: kinds[kind] for name, kind in FIELDS.items()}
        rows, self._rows = self._rows, []
        self._number += 1
        frame = pl.DataFrame([{name: row.get(name) for name in FIELDS} for row in rows], schema=schema)
        try:
            write_frame(self._folder / f"{rows[0]['time'][:10]}-{self._run}-{self._number:06d}.parquet", frame)
        except OutputError as error:
            raise Unlogged(error, len(rows)) from error


def open_log(path: Path | None) -> Log:
    """Return the log at a path: JSON Lines where its name ends in .jsonl, Parquet parts in a folder else.

    Raises:
        OutputError: it cannot be written.
        InvalidInputError: the name has another ending.
    """
    if path is None:
        return NoLog()
    if path.suffix in (".jsonl", ".ndjson"):
        return LinesLog(path)
    if path.suffix:
        raise InvalidInputError(
            f"a log is a .jsonl file or a folder, not {path}", hint="e.g. --log runs/decisions.jsonl, or --log runs/log"
        )
    return PartsLog(path)


def _appended(path: Path) -> TextIO:
    """Open a file that others may not read: it says who asked when."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error
