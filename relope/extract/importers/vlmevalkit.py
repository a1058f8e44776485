"""VLMEvalKit: tables of predictions (``<model>_<dataset>.xlsx``, ``.tsv`` or ``.json``) and of its verdicts on them.

A row has ``index`` and ``prediction`` beside the columns of the data set: ``question``, options ``A``, ``B`` … and
``answer``; tables of verdicts (``…_result.xlsx``, ``…_results.xlsx``) add ``hit`` (0 or 1), or ``eval_score``, of which
0 and 1 are verdicts and a share is none. The images are not in the table. A prediction that begins with
``Failed to obtain answer`` is none.

Source: https://github.com/open-compass/VLMEvalKit vlmeval/inference.py (``infer_data_job``, ``FAIL_MSG``),
vlmeval/smp/file.py (``get_pred_file_path``, ``dump``), vlmeval/dataset/utils/multiple_choice.py
(``mcq_vanilla_eval``) and vlmeval/dataset/image_vqa.py (``eval_score``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relope.extract.data.rows import Row
from relope.extract.importing.record import (
    Reading,
    Record,
    binary,
    id_cell,
    missing,
    number_cell,
    text_cell,
    verdict_cell,
)
from relope.extract.importing.source import Source
from relope.types import LETTERS

NAME = "vlmevalkit"
NEEDS = "the columns index and prediction"

FAILED = "Failed to obtain answer"
"""What it writes where a model gave no answer; more words may follow."""


def recognises(source: Source) -> bool:
    """Return whether a file has an index and a prediction."""
    return {"index", "prediction"} <= set(source.columns)


def read(source: Source) -> Reading:
    """Return the predictions of a table.

    Raises:
        InvalidInputError: a column is missing, or a cell holds what its column does not.
    """
    model = _model(source.path)
    records = [_record(row, model) for row in source.rows()]
    judged = any(record.correct is not None for record in records)
    notes = () if judged else ("it has no verdicts (column hit or eval_score); its …_result file has them",)
    return Reading(records, notes)


def _model(path: Path) -> str:
    """Return the model that has answered: the folder that the table's name begins with; its own name has no end."""
    near = (folder.name for folder in path.resolve().parents[:3])
    return next((name for name in near if name and path.name.startswith(f"{name}_")), "")


def _record(row: Row, model: str) -> Record:
    cells, where = row.cells, row.where
    for column in ("index", "prediction"):
        if column not in cells:
            raise missing(f"the column {column}", where, cells)
    response = text_cell(cells, "prediction", where)
    failed = response[:200] if response is not None and response.startswith(FAILED) else ""
    correct = _verdict(cells, where)
    if response is None and correct is None:
        failed = "its prediction is empty"
    return Record(
        where,
        id=id_cell(cells, "index", where),
        response=response,
        correct=correct,
        question=text_cell(cells, "question", where),
        choices=_options(cells, where),
        pictured=True,
        split=text_cell(cells, "split", where) or "",
        model=model,
        failed=failed,
    )


def _options(cells: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    """Return the options in their columns; None where the table has none of these."""
    columns = [letter for letter in LETTERS if letter in cells]
    if not columns:
        return None
    return tuple(text for letter in columns if (text := text_cell(cells, letter, where)) is not None)


def _verdict(cells: Mapping[str, Any], where: str) -> bool | None:
    if "hit" in cells:
        return verdict_cell(cells, "hit", where)
    return binary(number_cell(cells, "eval_score", where))
