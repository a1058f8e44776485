"""Templates to pages: everything that is filled in is escaped, and no page holds a script or a style of its own."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from relope.evaluate.numbers.metrics import Ints
from relope.evaluate.pages.attention import Patches, Word, scale
from relope.view.board import Board
from relope.view.details import answer_of, brief, choices_of, decisions_of
from relope.view.query import SORTS, Query, subjects
from relope.view.tally import tallies
from relope.view.verdicts import Verdicts

PACKAGE = "relope.view"
BLOCK = 60
"""Rows of the list that are sent at once."""

STATIC = {"view.css": "text/css", "view.js": "text/javascript", "icon.svg": "image/svg+xml"}
_INKS = 10
_SHADE = 0.75
"""How dark a patch without weight is: what a router looks at most stands in the light, and even weights stay even."""


@dataclass(frozen=True)
class Looks:
    """What a router looks at in a sample.

    Attributes:
        router: its name.
        note: where its weight lies, in words.
        words: of the prompt, with their weights.
        patches: one grid an image, with its weights.
    """

    router: str
    note: str
    words: Sequence[Word]
    patches: Sequence[Patches]


@functools.cache
def static_file(name: str) -> bytes:
    """Return the content of one of `STATIC`."""
    return files(PACKAGE).joinpath("static", name).read_bytes()


@functools.cache
def _environment() -> Environment:
    made = Environment(loader=PackageLoader(PACKAGE), undefined=StrictUndefined, autoescape=True,
                       trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    made.filters["percent"] = lambda value: "—" if value is None else f"{100 * value:.1f} %"
    made.filters["counted"] = lambda value: f"{value:,}"
    return made


def _render(template: str, **context: Any) -> Markup:
    """Return a piece of a page; it is escaped, so a page that holds it takes it as it is."""
    return Markup(_environment().get_template(template).render(context))


def page(
    board: Board, verdicts: Verdicts, query: Query, chosen: Ints, number: int | None, looks: str, reading: bool
) -> str:
    """Return the whole page.

    Args:
        board: what is looked at.
        verdicts: what holds of the answers.
        query: what is wanted.
        chosen: indices of the samples that are, in order.
        number: index of the sample that is shown; None where none is.
        looks: the router whose weights can be laid over an image; ``""`` for none.
        reading: whether a narrow screen begins with the sample, not with the list.
    """
    return _render(
        "page.html.j2",
        board=board,
        query=query,
        large="large" in verdicts.sides,
        splits=[(split, split) for split in board.samples["split"].unique().sort()],
        subjects=list(subjects(board)),
        sorts=list(SORTS.items()),
        routers=[(queue.name, queue.name) for queue in board.queues],
        quick_links=list(_quick_links(verdicts, query)),
        reading=reading,
        total=len(chosen),
        block=BLOCK,
        summary=summary(board, verdicts, query, chosen),
        rows=rows(board, verdicts, query, chosen, 0),
        sample="" if number is None else sample(board, verdicts, query, chosen, number, looks),
        shown="" if number is None else board.samples["id"][number],
    )


def _quick_links(verdicts: Verdicts, query: Query) -> Iterator[tuple[str, str, str]]:
    """Yield the questions that are asked most: a word, what it means, the address."""
    plain = Query(router=query.router, budget=query.budget, split=query.split)
    yield "All", "every sample", plain.link()
    if query.router:
        yield (
            "Kept, wrong",
            "wrong answers that the router keeps, those it is surest of first",
            plain.link(decision="kept", grade="wrong", sort="high"),
        )
    if query.router and "large" in verdicts.sides:
        sent = replace(plain, decision="escalated", sort="low")
        yield (
            "Mended",
            "escalated, and the large model is right where the small one is not",
            sent.link(grade="wrong", large="right"),
        )
        yield (
            "Spoilt",
            "escalated, and the large model is wrong where the small one is right",
            sent.link(grade="right", large="wrong"),
        )
    if query.router:
        yield "Routers disagree", "some keep it and some escalate it", plain.link(differ="1", sort="spread")
    yield "Unparsed", "answers in which the grader could read none", plain.link(grade="unparsed")
    yield "Corrected", "grades that were corrected by hand", plain.link(grade="corrected")


def summary(board: Board, verdicts: Verdicts, query: Query, chosen: Ints) -> str:
    """Return how many samples are wanted, and what holds of them."""
    counts = list(tallies(board, verdicts, query, chosen))
    n_by_hand = sum(int(by_hand.sum()) for by_hand in verdicts.by_hand.values())
    return _render("summary.html.j2", board=board, query=query, n=len(chosen), counts=counts, n_by_hand=n_by_hand)


def rows(board: Board, verdicts: Verdicts, query: Query, chosen: Ints, start: int) -> str:
    """Return a block of the list."""
    block = brief(board, verdicts, query, chosen[start : start + BLOCK].tolist(), start)
    return _render("rows.html.j2", rows=block, query=query, board=board)


def sample(board: Board, verdicts: Verdicts, query: Query, chosen: Ints, number: int, looks: str) -> str:
    """Return one sample, with its place among those that are wanted."""
    positions = (chosen == number).nonzero()[0]
    at = int(positions[0]) if len(positions) else None
    row = board.samples.row(number, named=True)
    return _render(
        "sample.html.j2",
        board=board,
        query=query,
        number=number,
        row=row,
        at=at,
        total=len(chosen),
        earlier=None if not at else board.samples["id"][int(chosen[at - 1])],
        later=None if at is None or at + 1 == len(chosen) else board.samples["id"][int(chosen[at + 1])],
        subjects=[(column, values[number]) for column, values in board.subjects.items()],
        choices=choices_of(board, verdicts, number),
        answers=[answer_of(verdicts, side, number) for side in verdicts.sides],
        decisions=decisions_of(board, verdicts, query, number),
        looks=looks,
    )


def overlay(looks: Looks) -> str:
    """Return a router's weights, as grids to lay over the images and as words of the prompt."""
    full = scale(looks.patches, looks.words)
    brightest = max((float(grid.weights.max()) for grid in looks.patches), default=1.0) or 1.0
    return _render(
        "overlay.html.j2",
        looks=looks,
        shade=lambda weight: f"{_SHADE * (1 - float(weight) / brightest):.3f}",
        ink=lambda weight: min(_INKS - 1, int(_INKS * float(weight) / full)),
        told=lambda weight: f"{float(weight):.2%}",
    )
