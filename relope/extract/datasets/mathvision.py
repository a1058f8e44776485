"""MATH-Vision: competition mathematics with images (test 3,040, in 5 folds).

There is no training split, and testmini is part of test, so that test is cut into folds: ``train``
stands for folds 1–4, ``test`` for fold 0. Nothing is ever learned from what is tested on. testmini is
there for whoever asks for it; its questions are in the folds too, with the same images but other
ids, so that a fit on the folds of a store that holds testmini leaves them out.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from relope.errors import InvalidInputError
from relope.extract.data import tables
from relope.extract.data.dataset import DataSet
from relope.extract.data.gold import letter_or_flaw
from relope.extract.data.groups import FOLD_ALIASES, FOLDS, in_folds
from relope.extract.data.prompts import BOXED
from relope.types import Sample

REPOSITORY = "MathLLMs/MathVision"
COLUMNS = {"id": "text", "question": "text", "options": "list", "decoded_image": "image", "answer": "text"}
MINI = "testmini"
_TAG = re.compile(r"<image\d*>\s?")


def load(split: str, limit: int | None) -> list[Sample]:
    """Return the questions of a fold, or of testmini."""
    samples = _all(tables.hub_folder(REPOSITORY))
    return _mini(samples)[:limit] if split == MINI else [sample for sample in samples if sample.split == split][:limit]


def _mini(samples: Sequence[Sample]) -> list[Sample]:
    """Return the questions of testmini: those of test that it names, in the same groups."""
    by_id = {sample.id: sample for sample in samples}
    names = [str(name) for name in tables.hub_table(REPOSITORY, "data", MINI, {"id": "text"})["id"]]
    if strange := [name for name in names if name not in by_id]:
        raise InvalidInputError(
            f"testmini of {REPOSITORY} has question {strange[0]!r}, which is not in test; its layout has changed"
        )
    return [replace(by_id[name], id=f"{MINI}-{name}", split=MINI) for name in names]


@functools.lru_cache(maxsize=1)
def _all(folder: Path) -> list[Sample]:
    table = tables.hub_table(REPOSITORY, "data", "test", COLUMNS)
    return in_folds([_sample(table, row) for row in range(len(table))])


def _sample(table: tables.Table, row: int) -> Sample:
    cells = table[row]
    choices = tuple(cells["options"] or ())
    answers, flaw = letter_or_flaw((cells["answer"] or "").strip(), choices)
    shown = tables.cell_image(table, row, "decoded_image")
    return Sample(
        id=str(cells["id"]),
        dataset="mathvision",
        split="",
        question=_TAG.sub("", cells["question"] or "").strip(),
        answers=answers,
        choices=choices,
        images=(shown,) if shown else (),
        instruction=BOXED,
        meta={**flaw, "kind": str(cells.get("subject") or "")},
    )


DATASET = DataSet(
    name="mathvision",
    splits=FOLDS,
    load=load,
    identity={"repository": REPOSITORY, "split": "test"},
    resolve=lambda: tables.hub_revision(REPOSITORY),
    license=lambda: tables.hub_license(REPOSITORY),
    grader="mathvision",
    max_new_tokens=2048,
    aliases={**FOLD_ALIASES, MINI: (MINI,)},
)
