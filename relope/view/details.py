"""One sample as its page shows it: options, both answers, and what every router would do with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relope.types import LETTERS
from relope.view.board import RIGHT, UNKNOWN, Board, Queue
from relope.view.query import Query
from relope.view.verdicts import Side, Verdicts

GRADE_WORDS = {RIGHT: "right", 0: "wrong", UNKNOWN: "not judged"}


@dataclass(frozen=True)
class Choice:
    """An option of a multiple-choice question.

    Attributes:
        letter: what it is called.
        text: its own.
        gold: whether it counts as right.
        chosen: who has been read as choosing it.
    """

    letter: str
    text: str
    gold: bool
    chosen: Sequence[str]


@dataclass(frozen=True)
class Answer:
    """A model's answer.

    Attributes:
        side: ``small`` or ``large``.
        model: its name.
        response: what it said; None where its store lacks the sample.
        grade: ``right``, ``wrong`` or ``not judged``.
        by: ``grader@version``, or that a person has said so.
        by_hand: whether a person has.
        read: what the grader read in it.
        cut: whether the answer ended at the limit of tokens.
    """

    side: Side
    model: str
    response: str | None
    grade: str
    by: str
    by_hand: bool
    read: str
    cut: bool


@dataclass(frozen=True)
class Decision:
    """What a router would do with the sample.

    Attributes:
        router: its name.
        score: P(correct); None where it has not scored the sample.
        cut: the highest score that it escalates at this budget.
        escalates: None where the sample is in no queue.
        comes_to: what becomes of the system's answer then.
        good: whether that answer is right; None where nobody knows.
    """

    router: str
    score: float | None
    cut: float | None
    escalates: bool | None
    comes_to: str
    good: bool | None


def answer_of(verdicts: Verdicts, side: Side, number: int) -> Answer:
    """Return a model's answer to the sample of an index."""
    answers, by_hand = verdicts.answers(side), bool(verdicts.by_hand[side][number])
    row = answers.table.row(number, named=True)
    parsed, status = row["parsed"], row["parse_status"]
    return Answer(
        side=side,
        model=answers.model,
        response=row["response"],
        grade=GRADE_WORDS[int(verdicts.right[side][number])],
        by="you, by hand" if by_hand else answers.grader,
        by_hand=by_hand,
        read="" if status is None else f"read as {parsed!r}" if parsed else status,
        cut=row["finish_reason"] == "length",
    )


def choices_of(board: Board, verdicts: Verdicts, number: int) -> list[Choice]:
    """Return the options of the sample of an index."""
    row = board.samples.row(number, named=True)
    read = [(verdicts.answers(side).model, verdicts.answers(side).table["parsed"][number]) for side in verdicts.sides]
    letters = LETTERS[: len(row["choices"] or ())]
    return [
        Choice(letter, text, letter in (row["answers"] or ()), [model for model, parsed in read if parsed == letter])
        for letter, text in zip(letters, row["choices"] or (), strict=False)
    ]


def decisions_of(board: Board, verdicts: Verdicts, query: Query, number: int) -> list[Decision]:
    """Return what each router would do with the sample of an index."""
    right = {side: int(verdicts.right[side][number]) for side in verdicts.sides}
    return [_decision(queue, right, query.budget, number) for queue in board.queues]


def _decision(queue: Queue, right: dict[Side, int], percent: int, number: int) -> Decision:
    score = float(queue.score[number])
    known = None if np.isnan(score) else score
    if queue.order_of[number] < 0:
        return Decision(queue.name, known, None, None, "", None)
    escalates = bool(queue.escalated(percent)[number])
    comes_to, good = _comes_to(escalates, right.get("small", UNKNOWN), right.get("large", UNKNOWN))
    return Decision(queue.name, known, queue.cut(percent, number), escalates, comes_to, good)


def _comes_to(escalates: bool, small: int, large: int) -> tuple[str, bool | None]:
    """Say what a decision comes to, and whether the system's answer is right."""
    if UNKNOWN in (small, large):
        if escalates:
            return {RIGHT: "the small one is right"}.get(small, ""), None if large == UNKNOWN else large == RIGHT
        return {RIGHT: "right", 0: "wrong"}.get(small, ""), None if small == UNKNOWN else small == RIGHT
    told: dict[tuple[bool, int, int], str] = {
        (True, 0, RIGHT): "mended",
        (True, RIGHT, RIGHT): "right either way",
        (True, 0, 0): "wrong either way",
        (True, RIGHT, 0): "spoilt",
        (False, 0, RIGHT): "wrong, could be mended",
        (False, RIGHT, RIGHT): "right",
        (False, 0, 0): "wrong either way",
        (False, RIGHT, 0): "right, well kept",
    }
    return told[escalates, small, large], (large if escalates else small) == RIGHT


def brief(board: Board, verdicts: Verdicts, query: Query, chosen: Sequence[int], start: int) -> list[dict[str, Any]]:
    """Return rows of the list.

    Args:
        board: what is looked at.
        verdicts: what holds of the answers.
        query: whose router and budget decide.
        chosen: indices of the rows, in order.
        start: place of the first among all that are wanted.
    """
    queue = next((queue for queue in board.queues if queue.name == query.router), None)
    goes = None if queue is None else queue.escalated(query.budget)
    rows = []
    for at, number in enumerate(map(int, chosen), start):
        score = None if queue is None or np.isnan(queue.score[number]) else float(queue.score[number])
        ranked = queue is not None and queue.order_of[number] >= 0
        rows.append(
            {
                "at": at,
                "number": number,
                "id": board.samples["id"][number],
                "question": _line(board.samples["question"][number]),
                "response": _line(board.small.table["response"][number]),
                "pictured": board.samples["n_images"][number] > 0,
                "small": GRADE_WORDS[int(verdicts.right["small"][number])],
                "large": GRADE_WORDS[int(verdicts.right["large"][number])] if "large" in verdicts.sides else "",
                "by_hand": any(bool(verdicts.by_hand[side][number]) for side in verdicts.sides),
                "score": score,
                "escalated": bool(goes[number]) if ranked and goes is not None else None,
            }
        )
    return rows


def _line(text: str | None) -> str:
    return " ".join((text or "").split())[:160] or "(empty)"
