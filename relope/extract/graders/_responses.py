"""A file of responses and gold answers, judged row by row."""

from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError, NotFoundError
from relope.extract.datasets._rows import Row, read_rows
from relope.extract.graders import Grader, gold_answers

Verdict = dict[str, Any]


def grade_file(path: Path, grader: Grader) -> list[Verdict]:
    """Return ``correct``, ``parsed`` and ``parse_status`` for every row of a file, in its order.

    Raises:
        NotFoundError: there is no such file, or a row lacks ``response`` or ``gold``.
        InvalidInputError: a row is of the wrong shape; row and column are named.
    """
    return [_verdict(row, grader) for row in read_rows(path)]


def _verdict(row: Row, grader: Grader) -> Verdict:
    for column in ("response", "gold"):
        if column not in row.cells:
            has = ", ".join(map(str, row.cells)) or "nothing"
            raise NotFoundError(f"column {column!r} is missing in {row.where} (it has: {has})")
    response, choices = row.cells["response"], row.cells.get("choices") or []
    if response is not None and not isinstance(response, str):
        raise InvalidInputError(f"column 'response' in {row.where} holds {type(response).__name__}; it must be text")
    if not isinstance(choices, (list, tuple)):
        raise InvalidInputError(f"column 'choices' in {row.where} holds {type(choices).__name__}; it must be a list")
    options = tuple(str(choice) for choice in choices)
    try:
        answers = gold_answers(row.cells["gold"], options)
    except InvalidInputError as error:
        raise InvalidInputError(f"column 'gold' in {row.where}: {error}") from error
    verdict = grader.grade(response or "", answers, options)
    return {"correct": verdict.correct, "parsed": verdict.parsed, "parse_status": verdict.parse_status}
