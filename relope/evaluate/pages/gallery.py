"""Questions the best router was surest about: kept rightly, kept wrongly, escalated."""

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.metrics import Ints
from relope.evaluate.numbers.routing import escalation_order, n_escalated
from relope.evaluate.pages.wording import share

if TYPE_CHECKING:
    from PIL.Image import Image

EACH = 6
SIDE = 96
"""Pixels of an image's longer side."""

LONGEST = 110
"""Characters of a question or answer that are shown."""


@dataclass(frozen=True)
class Card:
    """A question with its image, as a data URI.

    Attributes:
        image: None when there is none.
        correct: whether the small model's answer is right.
        large_correct: None when the large model was not run.
    """

    image: str | None
    question: str
    response: str
    correct: bool
    answers: str
    large_correct: bool | None
    score: float


@dataclass(frozen=True)
class Shelf:
    """One row of the gallery."""

    title: str
    explanation: str
    cards: list[Card]


def shelves(analysis: Analysis) -> list[Shelf]:
    """Choose the samples; no image comes twice in a row."""
    order = escalation_order(analysis.inputs.scores[analysis.best], analysis.inputs.seed)
    cut = n_escalated(len(order), analysis.inputs.budget_percent)
    kept, correct = order[cut:][::-1], analysis.inputs.correct
    rows = [
        ("Kept, and right", "Highest scores among the right answers.", kept[correct[kept]]),
        (
            "Kept, but wrong",
            "Highest scores among the wrong answers: the router's worst mistakes.",
            kept[~correct[kept]],
        ),
        (
            "Escalated",
            f"Lowest scores of all: first to leave when {share(analysis.inputs.budget)} are escalated.",
            order[:cut],
        ),
    ]
    return [
        Shelf(title, explanation, [_card(analysis, index) for index in _first(analysis, indices)])
        for title, explanation, indices in rows
    ]


def _first(analysis: Analysis, indices: Ints) -> list[int]:
    _, first = np.unique(analysis.inputs.groups[indices], return_index=True)
    return [int(index) for index in indices[np.sort(first)][:EACH]]


def _card(analysis: Analysis, index: int) -> Card:
    inputs = analysis.inputs
    row = inputs.labels.row(index, named=True)
    image = inputs.images(row["id"])
    return Card(
        image=None if image is None else _data_uri(image),
        question=shorten(row["question"]),
        response=shorten(row["response"]),
        correct=row["correct"],
        answers=shorten(" / ".join(_spelt(row, answer) for answer in row["answers"] or [])),
        large_correct=None if inputs.large_correct is None else bool(inputs.large_correct[index]),
        score=float(inputs.scores[analysis.best][index]),
    )


def _spelt(row: dict[str, Any], answer: str) -> str:
    """Return a gold answer, an option letter with its text."""
    choices, number = row.get("choices") or [], ord(answer) - ord("A") if len(answer) == 1 else -1
    return f"{answer} ({choices[number]})" if 0 <= number < len(choices) else answer


def shorten(text: str | None) -> str:
    """Return at most ``LONGEST`` characters on one line."""
    line = " ".join((text or "").split()) or "(empty)"
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"


def _data_uri(image: "Image") -> str:
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
