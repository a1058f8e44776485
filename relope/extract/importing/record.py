"""What a file of another tool says of one sample: the answer, the verdict on it, and what was asked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relope.errors import InvalidInputError
from relope.types import Usage

_MOST_TOKENS = 1 << 40
_RIGHT = {**dict.fromkeys(("true", "yes", "right", "correct"), True), **dict.fromkeys(("1", "1.0"), True)}
_WRONG = {**dict.fromkeys(("false", "no", "wrong", "incorrect"), False), **dict.fromkeys(("0", "0.0"), False)}
_SAID = _RIGHT | _WRONG
_NOTHING = ("", "none", "null", "nan")


@dataclass(frozen=True)
class Record:
    """What a file says of one sample; None is what it does not say.

    Attributes:
        where: file and row, as messages name it.
        id: of the sample, as the tool's data set calls it; ``""`` where there is none.
        numbered: whether the id may be no more than a place in a file: it is then believed only beside the question
            and the images.
        response: the answer.
        correct: the tool's verdict.
        parsed: what the tool has read in the answer.
        question: the question's own text.
        choices: the options, in their order.
        images: sha256 (hex) of each image's encoded bytes; () where there is none.
        pictured: whether there were images, though the file may not tell which.
        answers: what counts as right.
        split: as the file calls it.
        model: that has answered.
        usage: what the answer took.
        finish_reason: ``stop``, ``length`` or ``""``.
        failed: why there is no answer: the tool's error. Such a record is no answer, whatever else it says.
    """

    where: str
    id: str = ""
    numbered: bool = False
    response: str | None = None
    correct: bool | None = None
    parsed: str = ""
    question: str | None = None
    choices: tuple[str, ...] | None = None
    images: tuple[str, ...] | None = None
    pictured: bool = False
    answers: tuple[str, ...] | None = None
    split: str = ""
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = ""
    failed: str = ""


@dataclass(frozen=True)
class Reading:
    """What was read of a file.

    Attributes:
        records: one a sample and model.
        notes: what a user should know of how it was read, a line each.
    """

    records: list[Record]
    notes: tuple[str, ...] = ()


def text_cell(cells: Mapping[str, Any], column: str, where: str) -> str | None:
    """Return the text of a cell, None where it is empty or not there; a number is written out.

    Raises:
        InvalidInputError: it is neither text nor a number.
    """
    value = plain(cells.get(column))
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(column, where, value, "text")
    return str(value)


def id_cell(cells: Mapping[str, Any], column: str, where: str) -> str:
    """Return the id in a cell, ``""`` where there is none.

    Raises:
        InvalidInputError: it is neither text nor a whole number.
    """
    value = plain(cells.get(column))
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise _wrong(column, where, value, "text or a whole number")
    return str(value)


def verdict_cell(cells: Mapping[str, Any], column: str, where: str) -> bool | None:
    """Return a verdict: true or false, 1 or 0; None where it is empty or not there.

    Raises:
        InvalidInputError: it is anything else, a half among them.
    """
    said = str("" if cells.get(column) is None else cells[column]).strip().casefold()
    if said in _NOTHING:
        return None
    if said not in _SAID:
        raise _wrong(column, where, cells[column], "true or false (or 1 or 0)")
    return _SAID[said]


def binary(value: Any) -> bool | None:
    """Return a number or truth value that is a verdict, 1 or 0; None for any other value, e.g. a share."""
    return {0.0: False, 1.0: True}.get(value) if isinstance(value, (bool, int, float)) else None


def number_cell(cells: Mapping[str, Any], column: str, where: str) -> float | None:
    """Return a number of 0 or more, None where it is empty or not there.

    Raises:
        InvalidInputError: it is no number, infinite or below 0.
    """
    value = plain(cells.get(column))
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise _wrong(column, where, value, "a number of 0 or more")
    return number


def count_cell(cells: Mapping[str, Any], column: str, where: str) -> int | None:
    """Return a number of tokens, None where it is empty or not there.

    Raises:
        InvalidInputError: it is no whole number of 0 or more.
    """
    number = number_cell(cells, column, where)
    if number is None:
        return None
    if not number.is_integer() or number > _MOST_TOKENS:
        raise _wrong(column, where, cells[column], f"a whole number up to {_MOST_TOKENS:,}")
    return int(number)


def plain(value: Any) -> Any:
    """Return a cell as it was before pandas stored it: nothing as NaN or ``""``, whole numbers beside one as 7.0."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return None if value == "" else value


def missing(column: str, where: str, cells: Mapping[str, Any]) -> InvalidInputError:
    """Build the error for a column that is not there."""
    has = ", ".join(map(str, cells)) or "nothing"
    return InvalidInputError(f"{column} is missing in {where} (it has: {has if len(has) < 200 else has[:200] + '…'})")


def _wrong(column: str, where: str, value: Any, allowed: str) -> InvalidInputError:
    what = f"{type(value).__name__} {str(value)[:60]!r}"
    return InvalidInputError(f"column {column!r} in {where} holds {what}; it must be {allowed}")
