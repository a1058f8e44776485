"""MMMU: college-level questions with up to seven pictures (dev 150 + validation 900, in 5 folds).

The answers of the test split are withheld and there is no training split, so that the labelled
questions are cut into folds: ``train`` stands for folds 1–4, ``test`` for fold 0.
"""

import ast
import functools
import re
from pathlib import Path
from typing import Any

from relope.errors import InvalidInputError
from relope.extract.datasets import DataSet, _tables, letter_or_flaw
from relope.extract.datasets._groups import FOLD_ALIASES, FOLDS, in_folds
from relope.types import Picture, Sample

REPOSITORY = "lmms-lab/MMMU"
OFFICIAL = ("dev", "validation")
IMAGES = tuple(f"image_{number}" for number in range(1, 8))
COLUMNS = {"id": "text", "question": "text", "options": "text", "answer": "text", "question_type": "text",
           **dict.fromkeys(IMAGES, "image")}  # fmt: skip
_TAG = re.compile(r"<image (\d+)>")
_SUBJECT = re.compile(r"^(?:dev|validation|test)_(.+)_\d+$")


def load(split: str, limit: int | None) -> list[Sample]:
    """Return the questions of a fold."""
    return [sample for sample in _all(_tables.hub_folder(REPOSITORY)) if sample.split == split][:limit]


@functools.lru_cache(maxsize=1)
def _all(folder: Path) -> list[Sample]:
    samples = []
    for official in OFFICIAL:
        table = _tables.hub_table(REPOSITORY, "data", official, COLUMNS)
        samples += [_sample(table, row) for row in range(len(table))]
    return in_folds(samples)


def _sample(table: Any, row: int) -> Sample:
    cells = table[row]
    choices = parse_options(cells["options"], cells["id"])
    if cells["question_type"] == "open":
        choices = ()
    (question, *shown), pictures = by_tag([cells["question"], *choices], table, row)
    answers, flaw = letter_or_flaw(cells["answer"], choices)
    subject = _SUBJECT.match(cells["id"])
    return Sample(
        id=cells["id"],
        dataset="mmmu",
        split="",
        question=question,
        answers=answers,
        choices=tuple(shown),
        pictures=pictures,
        meta={**flaw, "kind": subject[1] if subject else ""},
    )


def parse_options(text: str, where: str) -> tuple[str, ...]:
    """Return the options, which MMMU keeps as the text of a Python list.

    Raises:
        InvalidInputError: it is no list of texts.
    """
    try:
        read = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InvalidInputError(f"options of MMMU question {where} are no list: {text[:80]!r}") from error
    if not isinstance(read, list):
        raise InvalidInputError(f"options of MMMU question {where} are no list: {text[:80]!r}")
    return tuple(str(option) for option in read)


def by_tag(texts: list[str], table: Any, row: int) -> tuple[list[str], tuple[Picture, ...]]:
    """Return texts and the pictures that their tags name, in the order in which they first appear.

    ``<image 3>`` names the column ``image_3``. Tags are numbered anew so that ``<image 1>`` is the
    first picture that the model sees; a picture named twice is shown once. Where no text has a
    tag, every picture of the row is shown, in the order of the columns.
    """
    pictures: dict[str, Picture] = {}
    for column in [f"image_{number}" for text in texts for number in _TAG.findall(text)] or IMAGES:
        if column in IMAGES and column not in pictures and (found := _tables.cell_picture(table, row, column)):
            pictures[column] = found
    places = {column: place for place, column in enumerate(pictures, 1)}

    def renumbered(match: re.Match[str]) -> str:
        place = places.get(f"image_{match[1]}")
        return f"<image {place}>" if place else ""

    return [_TAG.sub(renumbered, text).strip() for text in texts], tuple(pictures.values())


DATASET = DataSet(
    name="mmmu",
    splits=FOLDS,
    load=load,
    identity={"repository": REPOSITORY},
    resolve=lambda: _tables.hub_revision(REPOSITORY),
    grader="mmmu",
    aliases=FOLD_ALIASES,
)
