"""ScienceQA: school science questions; the hint is shown, lecture and solution never are."""

from collections.abc import Sequence

from relope.extract.data import tables
from relope.extract.data.dataset import DataSet
from relope.extract.data.gold import choice_or_flaw
from relope.types import Sample

REPOSITORY = "lmms-lab/ScienceQA"
SPLITS = ("train", "validation", "test")
COLUMNS = {
    "image": "image",
    "question": "text",
    "choices": "list",
    "answer": "integer",
    "hint": "text",
    "subject": "text",
}


def dataset(name: str, config: str, text_only_rows: bool = False) -> DataSet:
    """Return one subset of ScienceQA.

    Args:
        name: its CLI name.
        config: ``ScienceQA-IMG`` or ``ScienceQA-FULL``.
        text_only_rows: keep only the questions without an image.
    """

    def load(split: str, limit: int | None) -> list[Sample]:
        table = tables.hub_table(REPOSITORY, config, split, COLUMNS)
        rows: Sequence[int] = range(len(table))
        if text_only_rows:
            rows = [row for row, empty in enumerate(table.data.column("image").is_null().to_pylist()) if empty]
        return [_sample(table, row, split, name) for row in rows[:limit]]

    return DataSet(
        name=name,
        splits=SPLITS,
        load=load,
        identity={"repository": REPOSITORY, "config": config, "without_pictures": text_only_rows},
        resolve=lambda: tables.hub_revision(REPOSITORY),
        license=lambda: tables.hub_license(REPOSITORY),
        grader="multiple-choice",
    )


def _sample(table: tables.Table, row: int, split: str, name: str) -> Sample:
    cells = table[row]
    choices = tuple(cells["choices"] or ())
    answers, flaw = choice_or_flaw(cells["answer"], choices)
    shown = tables.cell_image(table, row, "image")
    return Sample(
        id=f"{split}-{row}",
        dataset=name,
        split=split,
        question=cells["question"] or "",
        answers=answers,
        choices=choices,
        images=(shown,) if shown else (),
        hint=cells["hint"] or "",
        meta={**flaw, "kind": cells["subject"] or ""},
    )
