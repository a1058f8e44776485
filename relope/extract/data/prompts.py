"""The words put around a question. They belong to a store's identity."""

import re
from collections.abc import Sequence

from relope.types import LETTERS

SELECT = "Please select the correct answer from the options above."

ONE_PHRASE = "Answer the question using a single word or phrase."
"""What ChartQA's questions end in."""

BOXED = (
    r"Please solve the problem step by step and put your final answer in \boxed{}. "
    r"If there are options, put only the letter of the right one in \boxed{}."
)
"""What MathVision's questions end in. Choice: the wording; the paper asks for the answer in a box."""

TRUE_OR_FALSE = "Is the answer above correct? Reply True or False."
"""The follow-up turn of ``p-true``, asked after the model's own answer."""

DIRECT = "The answer is"
"""MoT's direct style: fed after the generation prompt."""

CHAIN_OF_THOUGHT = "Let us think step by step."
"""MoT's second style: fed after the generation prompt; the answer follows ``DIRECT``."""

VERSION = "2"


def multiple_choice(question: str, choices: Sequence[str], hint: str = "", instruction: str = SELECT) -> str:
    """Return the paper's multiple-choice prompt, its last space and newline included.

    Source: ReLope, appendix (prompt of the multiple-choice data sets).
    """
    lines = [f"Hint: {hint}"] if hint else []
    lines += [f"Question: {question}", "Options:"]
    lines += [f"{LETTERS[index]}. {choice}" for index, choice in enumerate(choices)]
    return "\n".join([*lines, instruction]) + " \n"


def build(question: str, choices: Sequence[str] = (), hint: str = "", instruction: str = "") -> str:
    """Return the text of the user's turn for a question with or without choices.

    Args:
        question: the question's own text.
        choices: the options of a multiple-choice question.
        hint: put before the question.
        instruction: how to answer, put last; with choices, in the place of ``SELECT``.
    """
    if choices:
        return multiple_choice(question, choices, hint, instruction or SELECT)
    lines = [f"Hint: {hint}"] if hint else []
    return "\n".join([*lines, question, *([instruction] if instruction else [])])


_LISTED = re.compile(
    r"(?:Hint: [^\n]*\n)?Question: (?P<question>.*?)\nOptions:\n(?P<options>(?:[A-Z]\. [^\n]*\n)+).*", re.DOTALL
)
_OPTION = re.compile(r"^([A-Z])\. ([^\n]*)$", re.MULTILINE)


def read(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the question and the choices that a user's turn was built of; any other text is a question as it is."""
    listed = _LISTED.fullmatch(text)
    options = _OPTION.findall(listed["options"]) if listed else []
    if not listed or [letter for letter, _ in options] != list(LETTERS[: len(options)]):
        return text, ()
    return listed["question"], tuple(choice for _, choice in options)
