"""Questions the best router was surest about: kept rightly, kept wrongly, escalated."""

import base64
import html
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from relope.evaluate.numbers.analysis import Analysis
from relope.evaluate.numbers.metrics import Ints
from relope.evaluate.numbers.routing import escalation_order, n_escalated
from relope.evaluate.pages.routing_figures import SHOWN

if TYPE_CHECKING:
    from PIL.Image import Image

EACH = 6
SIDE = 96
"""Pixels of a picture's longer side."""

LONGEST = 110
"""Characters of a question or answer that are shown."""


@dataclass(frozen=True)
class Shelf:
    """One row of the gallery."""

    title: str
    explanation: str
    places: tuple[int, ...]


def shelves(analysis: Analysis) -> list[Shelf]:
    """Choose the samples; no image comes twice in a row."""
    order = escalation_order(analysis.inputs.scores[analysis.best], analysis.inputs.seed)
    cut = n_escalated(len(order), SHOWN)
    kept, correct = order[cut:][::-1], analysis.inputs.correct
    return [
        Shelf("Kept, and right", "Highest scores among the right answers.", _first(analysis, kept[correct[kept]])),
        Shelf(
            "Kept, but wrong",
            "Highest scores among the wrong answers: the router's worst mistakes.",
            _first(analysis, kept[~correct[kept]]),
        ),
        Shelf(
            "Escalated",
            f"Lowest scores of all: first to leave when {SHOWN} % are escalated.",
            _first(analysis, order[:cut]),
        ),
    ]


def _first(analysis: Analysis, places: Ints) -> tuple[int, ...]:
    groups = analysis.inputs.groups[places]
    _, first = np.unique(groups, return_index=True)
    return tuple(int(place) for place in places[np.sort(first)][:EACH])


def gallery(analysis: Analysis) -> str:
    """Return the three shelves as HTML."""
    return "".join(_shelf(analysis, shelf) for shelf in shelves(analysis))


def _shelf(analysis: Analysis, shelf: Shelf) -> str:
    cards = "".join(_card(analysis, place) for place in shelf.places)
    body = f'<div class="cards">{cards}</div>' if cards else '<p class="muted">There are none.</p>'
    return f'<h3>{shelf.title}</h3><p class="muted">{shelf.explanation}</p>{body}'


def _card(analysis: Analysis, place: int) -> str:
    inputs = analysis.inputs
    row = inputs.labels.row(place, named=True)
    image = inputs.pictures(row["id"])
    picture = _picture(image) if image is not None else '<div class="none">no picture</div>'
    facts = [
        ("said", f"{html.escape(shorten(row['response']))} {_mark(row['correct'])}"),
        ("gold", html.escape(shorten(" / ".join(_spelt(row, answer) for answer in row["answers"] or [])))),
        ("score", f"{inputs.scores[analysis.best][place]:.3f}"),
    ]
    if inputs.large_correct is not None:
        facts.insert(2, ("large", _mark(bool(inputs.large_correct[place]))))
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    question = html.escape(shorten(row["question"]))
    return f'<div class="card">{picture}<div class="q">{question}</div><dl>{listed}</dl></div>'


def _spelt(row: dict[str, Any], answer: str) -> str:
    """Return a gold answer, an option letter with its text."""
    choices, place = row.get("choices") or [], ord(answer) - ord("A") if len(answer) == 1 else -1
    return f"{answer} ({choices[place]})" if 0 <= place < len(choices) else answer


def _mark(right: bool) -> str:
    return '<span class="yes">✓</span>' if right else '<span class="no">✗</span>'


def shorten(text: str | None) -> str:
    """Return at most ``LONGEST`` characters on one line."""
    line = " ".join((text or "").split()) or "(empty)"
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"


def _picture(image: "Image") -> str:
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    code = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{code}" width="{SIDE}" height="{SIDE}" alt="the question\'s picture">'
