"""MMMU: college-level questions with up to seven images (dev 150 + validation 900, in 5 folds).

The answers of the test split are withheld and there is no training split, so that the labelled
questions are cut into folds: ``train`` stands for folds 1–4, ``test`` for fold 0.
"""

import ast
import functools
import re
from pathlib import Path

from relope.errors import InvalidInputError
from relope.extract.data import tables
from relope.extract.data.dataset import DataSet
from relope.extract.data.gold import letter_or_flaw
from relope.extract.data.groups import FOLD_ALIASES, FOLDS, in_folds
from relope.types import LazyImage, Sample

REPOSITORY = "lmms-lab/MMMU"
OFFICIAL = ("dev", "validation")
IMAGES = tuple(f"image_{number}" for number in range(1, 8))
TEXTS = ("id", "question", "options", "answer", "question_type")
COLUMNS = dict.fromkeys(TEXTS, "text") | dict.fromkeys(IMAGES, "image")
_TAG = re.compile(r"<image (\d+)>")
_SUBJECT = re.compile(r"^(?:dev|validation|test)_(.+)_\d+$")


def load(split: str, limit: int | None) -> list[Sample]:
    """Return the questions of a fold."""
    return [sample for sample in _all(tables.hub_folder(REPOSITORY)) if sample.split == split][:limit]


@functools.lru_cache(maxsize=1)
def _all(folder: Path) -> list[Sample]:
    samples = []
    for official in OFFICIAL:
        table = tables.hub_table(REPOSITORY, "data", official, COLUMNS)
        samples += [_sample(table, row) for row in range(len(table))]
    return in_folds(samples)


def _sample(table: tables.Table, row: int) -> Sample:
    cells = table[row]
    try:
        choices = () if cells["question_type"] == "open" else parse_options(cells["options"])
        answers, flaw = letter_or_flaw(cells["answer"] or "", choices)
    except InvalidInputError as error:
        choices, answers, flaw = (), (), {"flaw": str(error)}
    (question, *shown), images, missing = by_tag([cells["question"] or "", *choices], table, row)
    if missing:
        flaw = {"flaw": f"it mentions {missing}, which it does not have"}
    subject = _SUBJECT.match(cells["id"])
    return Sample(
        id=cells["id"],
        dataset="mmmu",
        split="",
        question=question,
        answers=answers,
        choices=tuple(shown),
        images=images,
        meta={**flaw, "kind": subject[1] if subject else ""},
    )


def parse_options(text: str | None) -> tuple[str, ...]:
    """Return the options, which MMMU keeps as the text of a Python list.

    Raises:
        InvalidInputError: it is no list, or an empty one.
    """
    try:
        read = ast.literal_eval(text or "")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        read = None
    if not isinstance(read, list) or not read:
        raise InvalidInputError(f"its options are no list: {(text or '')[:80]!r}")
    return tuple(str(option) for option in read)


def by_tag(texts: list[str], table: tables.Table, row: int) -> tuple[list[str], tuple[LazyImage, ...], str]:
    """Return texts, the images that their tags name in the order of first mention, and a tag without an image.

    ``<image 3>`` names the column ``image_3``. Tags are numbered anew so that ``<image 1>`` is the
    first image that the model sees; an image named twice is shown once. Where no text has a
    tag, every image of the row is shown, in the order of the columns.
    """
    named = dict.fromkeys(number for text in texts for number in _TAG.findall(text))
    asked = [number for number in named or range(1, len(IMAGES) + 1) if f"image_{number}" in IMAGES]
    cells = {number: tables.cell_image(table, row, f"image_{number}") for number in asked}
    images = {number: image for number, image in cells.items() if image}
    order = {number: index for index, number in enumerate(images, 1)}
    missing = next((f"<image {number}>" for number in named if number not in images), "")
    shown = [_TAG.sub(lambda tag: f"<image {order.get(tag[1], tag[1])}>", text).strip() for text in texts]
    return shown, tuple(images.values()), missing


DATASET = DataSet(
    name="mmmu",
    splits=FOLDS,
    load=load,
    identity={"repository": REPOSITORY},
    resolve=lambda: tables.hub_revision(REPOSITORY),
    license=lambda: tables.hub_license(REPOSITORY),
    grader="mmmu",
    aliases=FOLD_ALIASES,
)
