"""ChartQA: short answers read off charts (28,299 / 1,920 / 2,500)."""

from relope.extract.data import tables
from relope.extract.data.dataset import DataSet
from relope.extract.data.prompts import ONE_PHRASE
from relope.types import Sample

REPOSITORY = "HuggingFaceM4/ChartQA"
OFFICIAL = {"train": "train", "validation": "val", "test": "test"}
COLUMNS = {"image": "image", "query": "text", "label": "list"}
_AUTHORS = ("human", "machine")


def load(split: str, limit: int | None) -> list[Sample]:
    """Return the questions of a split."""
    table = tables.hub_table(REPOSITORY, "data", OFFICIAL[split], COLUMNS)
    return [_sample(table, row, split) for row in tables.limited(table, limit)]


def _sample(table: tables.Table, row: int, split: str) -> Sample:
    cells = table[row]
    author = cells.get("human_or_machine")
    shown = tables.cell_image(table, row, "image")
    return Sample(
        id=f"{split}-{row}",
        dataset="chartqa",
        split=split,
        question=cells["query"] or "",
        answers=tuple(label for label in cells["label"] or () if label),
        images=(shown,) if shown else (),
        instruction=ONE_PHRASE,
        meta={"kind": _AUTHORS[author] if author in (0, 1) else str(author or "")},
    )


DATASET = DataSet(
    name="chartqa",
    splits=tuple(OFFICIAL),
    load=load,
    identity={"repository": REPOSITORY},
    resolve=lambda: tables.hub_revision(REPOSITORY),
    license=lambda: tables.hub_license(REPOSITORY),
    grader="chartqa",
    aliases={"val": ("validation",)},
)
