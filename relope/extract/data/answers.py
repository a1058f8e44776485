"""Which option an answer of a user's own file means: by its letter, its text, or its number counted from 0."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from relope.errors import InvalidInputError
from relope.extract.data.gold import gold_or_flaw, listed
from relope.types import LETTERS

AnswerIs = Literal["text", "index", "letter"]
_WHOLE = re.compile(r"([+-]?[0-9]{1,9})(\.0*)?")
_ASK = "say which it is: --answer-is text, index or letter"


@dataclass
class AnswerColumn:
    """Reads the answers of one data set, row by row, and notices when they cannot all be meant in one way.

    Unless it is told what they are, a number names an option by its text or by its place from 0, whichever
    there is. Where both are there and differ, or where some rows leave only the one reading and others only the
    other, no guess is right: the data set is refused.

    Attributes:
        answer_is: what every answer to a question with choices is; None = what fits.
        first: reading of a number → the first row in which there is no other.
    """

    answer_is: AnswerIs | None = None
    first: dict[str, str] = field(default_factory=dict)

    def read(
        self, answer: Any, choices: Sequence[str], where: str, *, typed: bool
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the gold answers of a row, and what a sample's ``meta`` says when they make no sense.

        Args:
            answer: text, a number, or a list of them.
            choices: the options; the answers are then letters.
            where: the row, as errors name it.
            typed: whether the file tells text from numbers, as CSV does not.

        Raises:
            InvalidInputError: a number is one option's text and another one's place.
        """
        if not choices:
            return gold_or_flaw(answer)
        if self.answer_is:
            return _told(self.answer_is, listed(answer), choices)
        return gold_or_flaw([self._meant(item, choices, where, typed) for item in listed(answer)], choices)

    def check(self) -> None:
        """Make sure that all numbers that were read can be meant in one way.

        Raises:
            InvalidInputError: two rows contradict each other, or they seem to be counted from 1.
        """
        if {"text", "index"} <= set(self.first):
            raise InvalidInputError(
                f"the answer in {self.first['text']} is an option's text but no option's place from 0; that in "
                f"{self.first['index']} is a place but no text",
                hint=_ASK,
            )
        if {"end", "index"} <= set(self.first) and "zero" not in self.first:
            raise InvalidInputError(
                f"answers are places among the choices counted from 0, but that in {self.first['end']} is their number "
                "and none is 0: they seem to be counted from 1",
                hint="subtract 1 from each, or give letters",
            )

    def _meant(self, item: Any, choices: Sequence[str], where: str, typed: bool) -> Any:
        """Return an answer as `gold_answers` reads it: text or place, whichever a number is here."""
        number = whole_number(item)
        if number is None:
            return item
        texts = [index for index, choice in enumerate(choices) if choice.strip() in (str(number), str(item).strip())]
        is_place = 0 <= number < len(choices)
        if isinstance(item, str) and typed and texts:
            return item
        if is_place and texts and texts != [number]:
            raise InvalidInputError(
                f"answer {item!r} in {where} is the text of option {LETTERS[texts[0]]} and, counted from 0, the place "
                f"of option {LETTERS[number]} among {_shown(choices)}",
                hint=_ASK,
            )
        for reading, is_only in {
            "text": bool(texts) and not is_place,
            "index": is_place and not texts,
            "zero": number == 0,
            "end": number == len(choices) and not texts,
        }.items():
            if is_only:
                self.first.setdefault(reading, where)
        return number if is_place else choices[texts[0]] if len(texts) == 1 else item


def whole_number(item: Any) -> int | None:
    """Return the whole number that an answer is or is written as, with ``.0`` behind it or not; else None."""
    if isinstance(item, bool) or not isinstance(item, (int, float, str)):
        return None
    match = _WHOLE.fullmatch(str(item).strip())
    return int(match[1]) if match else None


def _told(answer_is: AnswerIs, items: Sequence[Any], choices: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the letters of answers that are all of one kind, and what is wrong with the first that is not."""
    letters = []
    for item in items:
        indices = _PLACES[answer_is](item, choices)
        if len(indices) != 1:
            how = "more than one" if indices else "none"
            return (), {"flaw": f"answer {item!r} is the {answer_is} of {how} of the choices {_shown(choices)}"}
        letters.append(LETTERS[indices[0]])
    return tuple(letters), {}


def _by_text(item: Any, choices: Sequence[str]) -> list[int]:
    number = whole_number(item)
    spelt = {str(item).strip(), *([] if number is None else [str(number)])}
    return [index for index, choice in enumerate(choices) if choice.strip() in spelt]


def _by_index(item: Any, choices: Sequence[str]) -> list[int]:
    number = whole_number(item)
    return [number] if number is not None and 0 <= number < len(choices) else []


def _by_letter(item: Any, choices: Sequence[str]) -> list[int]:
    text = str(item).strip().upper()
    return [index for index in range(len(choices)) if LETTERS[index] == text]


_PLACES = {"text": _by_text, "index": _by_index, "letter": _by_letter}


def _shown(choices: Sequence[str]) -> str:
    text = ", ".join(choices)
    return text if len(text) <= 60 else f"{text[:60]}…"
