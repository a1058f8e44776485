r"""Mathematical answers: the last ``\boxed{}``, an option's letter or text, or an equal value.

Without a box the tail of "the answer is" is taken, then what the last line ends in. Values are read
by a restricted parser of our own (`relope.extract.grading.values`); model text is never evaluated.
"""

from collections.abc import Sequence

from relope.extract.graders import multiple_choice
from relope.extract.grading import answer_text
from relope.extract.grading.grader import answer, is_cut
from relope.extract.grading.letters import whole
from relope.extract.grading.values import canonical, same
from relope.types import LETTERS, Grade

VERSION = "4"


def grade(response: str, answers: Sequence[str], choices: Sequence[str] = (), finish_reason: str = "") -> Grade:
    """Judge an answer; with choices the gold answers are letters, and the option's text counts too."""
    if choices:
        return _chosen(response, answers, choices, finish_reason)
    said = final(response, finish_reason)
    if not said:
        return Grade(False, "", "unparsed")
    right = any(same(text, _unboxed(gold)) for gold in answers for text in (said, answer(response, finish_reason)))
    return Grade(right, canonical(said), "parsed")


def _chosen(response: str, answers: Sequence[str], choices: Sequence[str], finish_reason: str) -> Grade:
    """Judge an answer to a question with options: by its box, or by the letter or the value that all of it names."""
    text, said = answer(response, finish_reason), final(response, finish_reason)
    boxes, declared = answer_text.boxed(text), answer_text.final(text)
    letter = multiple_choice.parse(boxes[0] if boxes else response, choices, finish_reason)
    spelled = whole(answer_text.plain(said), multiple_choice.UNKNOWN)  # a letter is no value
    equal = [LETTERS[index] for index, choice in enumerate(choices) if said and not spelled and same(said, choice)]
    right = letter in answers if letter else any(named in answers for named in equal)
    parsed = letter or next(iter(equal), "") or ("" if spelled else canonical(declared))
    return Grade(right, parsed, "parsed" if parsed else "unparsed")


def final(response: str, finish_reason: str = "") -> str:
    """Return the final answer of a response as it was written, or ``""``."""
    text = answer(response, finish_reason)
    said = answer_text.final(text) or ("" if is_cut(text, finish_reason) else answer_text.concluded(text))
    return said if answer_text.plain(said) else ""


def _unboxed(gold: str) -> str:
    boxes = answer_text.boxed(gold)
    return boxes[0] if boxes else gold
