"""MMMU: multiple choice where a question has choices, mmmu-open elsewhere."""

from collections.abc import Sequence

from relope.extract.graders import mmmu_open, multiple_choice
from relope.types import Grade

VERSION = f"{mmmu_open.VERSION}.{multiple_choice.VERSION}"


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = (), finish_reason: str = "") -> Grade:
    """Judge an answer by the rule that its question calls for."""
    judge = multiple_choice.grade if choices else mmmu_open.grade
    return judge(response, answers, choices, finish_reason)
