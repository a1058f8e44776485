"""A-OKVQA: multiple choice about photographs that needs outside knowledge (17,056 / 1,145).

The test labels are withheld: the official validation split is what is tested on.
"""

from relope.extract.data import tables
from relope.extract.data.dataset import DataSet
from relope.extract.data.gold import choice_or_flaw
from relope.types import Sample

REPOSITORY = "HuggingFaceM4/A-OKVQA"
OFFICIAL = {"train": "train", "test": "validation"}
COLUMNS = {
    "question_id": "text",
    "image": "image",
    "question": "text",
    "choices": "list",
    "correct_choice_idx": "integer",
}


def load(split: str, limit: int | None) -> list[Sample]:
    """Return the questions of a split."""
    table = tables.hub_table(REPOSITORY, "data", OFFICIAL[split], COLUMNS)
    return [_sample(table, row, split) for row in tables.limited(table, limit)]


def _sample(table: tables.Table, row: int, split: str) -> Sample:
    cells = table[row]
    choices = tuple(cells["choices"] or ())
    answers, flaw = choice_or_flaw(cells["correct_choice_idx"], choices)
    shown = tables.cell_image(table, row, "image")
    return Sample(
        id=cells["question_id"],
        dataset="aokvqa",
        split=split,
        question=cells["question"] or "",
        answers=answers,
        choices=choices,
        images=(shown,) if shown else (),
        meta=flaw,
    )


DATASET = DataSet(
    name="aokvqa",
    splits=tuple(OFFICIAL),
    load=load,
    identity={"repository": REPOSITORY},
    resolve=lambda: tables.hub_revision(REPOSITORY),
    license=lambda: tables.hub_license(REPOSITORY),
    grader="multiple-choice",
    aliases={"validation": ("test",)},
)
