"""The words put around a question. They belong to a store's identity."""

from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SELECT = "Please select the correct answer from the options above."

TRUE_OR_FALSE = "Is the answer above correct? Reply True or False."
"""The follow-up turn of ``p-true``, asked after the model's own answer."""

DIRECT = "The answer is"
"""MoT's direct style: fed after the generation prompt."""

CHAIN_OF_THOUGHT = "Let us think step by step."
"""MoT's second style: fed after the generation prompt; the answer follows ``DIRECT``."""

VERSION = "1"


def multiple_choice(question: str, choices: Sequence[str], hint: str = "") -> str:
    """Return the paper's multiple-choice prompt, its last newline included.

    Source: ReLope, appendix (prompt of the multiple-choice data sets).
    """
    lines = [f"Hint: {hint}"] if hint else []
    lines += [f"Question: {question}", "Options:"]
    lines += [f"{LETTERS[place]}. {choice}" for place, choice in enumerate(choices)]
    return "\n".join([*lines, SELECT]) + " \n"


def build(question: str, choices: Sequence[str] = (), hint: str = "") -> str:
    """Return the text of the user's turn for a question with or without choices."""
    if choices:
        return multiple_choice(question, choices, hint)
    return f"Hint: {hint}\n{question}" if hint else question
