"""Answers in a file of your own: JSON Lines, JSON, CSV, TSV, Parquet or Excel with id and response.

Further columns that are read: ``correct``, ``model``, ``question``, ``choices``, ``answer``, ``image`` or ``images``,
``split``, ``finish_reason``, ``prompt_tokens``, ``completion_tokens``, ``cached_tokens``, ``latency_s`` and
``cost_usd`` (or ``cost``); ``error`` says why there is no answer.
"""

from typing import Any

from relope.errors import InvalidInputError
from relope.extract.data.own_files import images_of
from relope.extract.data.rows import Row
from relope.extract.importing.record import (
    Reading,
    Record,
    count_cell,
    id_cell,
    missing,
    number_cell,
    text_cell,
    verdict_cell,
)
from relope.extract.importing.source import Source
from relope.types import Usage
from relope.words import first_of

NEEDS = "the column response, and id or question"

_SHOWN = 8
_READ = frozenset(
    (
        *("id", "response", "correct", "model", "question", "choices", "answer", "image", "images", "split", "error"),
        *("finish_reason", "prompt_tokens", "completion_tokens", "cached_tokens", "latency_s", "cost_usd", "cost"),
    )
)


def recognises(source: Source) -> bool:
    """Return whether a file has our columns."""
    has = set(source.columns)
    return "response" in has and bool({"id", "question"} & has) and "doc_id" not in has


def read(source: Source) -> Reading:
    """Return the answers of a file.

    Raises:
        InvalidInputError: a row lacks a column, or a cell holds what its column does not.
    """
    unread: dict[str, None] = {}
    records = []
    for row in source.rows():
        unread.update(dict.fromkeys(name for name in map(str, row.cells) if name not in _READ))
        records.append(_record(row))
    names = list(unread)
    return Reading(records, (f"columns not read: {first_of(names, _SHOWN)}",) if names else ())


def _record(row: Row) -> Record:
    cells, where = row.cells, row.where
    failed = text_cell(cells, "error", where) or ""
    if "response" not in cells and not failed:
        raise missing("the column response", where, cells)
    if not {"id", "question"} & set(cells):
        raise missing("the column id (or question)", where, cells)
    response, correct = _response(row), verdict_cell(cells, "correct", where)
    if response is None and correct is None and not failed:
        failed = "its response is missing"
    pictured = {"image", "images"} & set(cells)
    return Record(
        where,
        id=id_cell(cells, "id", where),
        response=response,
        correct=correct,
        question=text_cell(cells, "question", where),
        choices=_texts(cells, "choices", where),
        images=_images(row) if pictured else None,
        answers=_texts(cells, "answer", where) if "choices" not in cells else None,
        split=text_cell(cells, "split", where) or "",
        model=text_cell(cells, "model", where) or "",
        usage=Usage(
            count_cell(cells, "prompt_tokens", where),
            count_cell(cells, "completion_tokens", where),
            count_cell(cells, "cached_tokens", where),
            number_cell(cells, "latency_s", where),
            number_cell(cells, "cost_usd" if "cost_usd" in cells else "cost", where),
        ),
        finish_reason=text_cell(cells, "finish_reason", where) or "",
        failed=failed,
    )


def _images(row: Row) -> tuple[str, ...]:
    """Return the digests of a row's images.

    Raises:
        InvalidInputError: one lies outside the file's folder, or is no image's cell.
    """
    try:
        return tuple(image.digest for image in images_of(row))
    except InvalidInputError as error:
        raise InvalidInputError(str(error), hint=error.hint.partition(", or add")[0]) from error


def _response(row: Row) -> str | None:
    """Return the answer; None where there is none. Text files do not tell an empty one from none; JSON does."""
    response = row.cells.get("response")
    if isinstance(response, str):
        return response
    return text_cell(row.cells, "response", row.where)


def _texts(cells: Any, column: str, where: str) -> tuple[str, ...] | None:
    value = cells.get(column)
    if value is None or value == "":
        return None
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(item, bool) or not isinstance(item, (str, int, float)) for item in items):
        raise InvalidInputError(f"column {column!r} in {where} holds {str(value)[:60]!r}; it must be texts or numbers")
    return tuple(str(text_cell({column: item}, column, where) or "") for item in items)
