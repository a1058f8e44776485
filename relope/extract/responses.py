"""A file of responses and gold answers, judged row by row."""

from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.gold import gold_answers, number_text
from relope.extract.data.rows import Row, read_rows
from relope.extract.grading.case import Case
from relope.extract.grading.grader import Grader
from relope.types import LETTERS, Grade

GradedRow = dict[str, Any]
"""``correct``, ``parsed`` and ``parse_status`` of a response."""


def grade_file(path: Path, grader: Grader) -> list[GradedRow]:
    """Return ``correct``, ``parsed`` and ``parse_status`` for every row of a file, in its order.

    Raises:
        NotFoundError: there is no such file, or a row lacks ``response`` or ``gold``.
        InvalidInputError: the file is empty, or a row is of the wrong shape; row and column are named.
    """
    return [
        graded_row(grader.grade(case.response, case.answers, case.choices, case.finish_reason))
        for case in file_cases(path)
    ]


def graded_row(grade: Grade) -> GradedRow:
    """Return a grade as a row of the result."""
    return {"correct": grade.correct, "parsed": grade.parsed, "parse_status": grade.parse_status}


def file_cases(path: Path) -> list[Case]:
    """Return the answers of a file, in its order.

    Raises:
        NotFoundError, InvalidInputError: as `grade_file`.
    """
    cases = [_case(row, number) for number, row in enumerate(read_rows(path), 1)]
    if not cases:
        raise InvalidInputError(f"{path} holds no rows; each needs the columns response and gold, and may have choices")
    return cases


def _case(row: Row, number: int) -> Case:
    for column in ("response", "gold"):
        if column not in row.cells:
            has = ", ".join(map(str, row.cells)) or "nothing"
            raise NotFoundError(f"column {column!r} is missing in {row.where} (it has: {has})")
    response = row.cells["response"]
    if response is not None and not isinstance(response, str):
        raise InvalidInputError(f"column 'response' in {row.where} holds {type(response).__name__}; it must be text")
    choices = _choices(row)
    try:
        answers = gold_answers(row.cells["gold"], choices)
    except InvalidInputError as error:
        raise InvalidInputError(f"column 'gold' in {row.where}: {error}") from error
    if not answers or not all(answer.strip() for answer in answers):
        raise InvalidInputError(
            f"column 'gold' in {row.where} is empty; it must be the right answer, or a list of them"
        )
    question, why, name = (str(row.cells.get(column) or "") for column in ("question", "finish_reason", "id"))
    return Case(question, response or "", answers, choices, why, name or f"row {number}")


def _choices(row: Row) -> tuple[str, ...]:
    choices = row.cells.get("choices")
    if choices is None:
        return ()
    if not isinstance(choices, (list, tuple)):
        raise InvalidInputError(f"column 'choices' in {row.where} holds {type(choices).__name__}; it must be a list")
    plain = all(isinstance(choice, (str, int, float)) and not isinstance(choice, bool) for choice in choices)
    if not plain or len(choices) > len(LETTERS):
        raise InvalidInputError(
            f"column 'choices' in {row.where} must hold at most {len(LETTERS)} texts or numbers, "
            f"not {str(choices)[:60]}"
        )
    return tuple(number_text(choice) for choice in choices)
