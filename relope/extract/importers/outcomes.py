"""Outcome tables: one row a sample, ``<model>_correct`` and ``<model>_cost`` of each model, as MMR-Bench has them.

A model is one that has a column ``<model>_correct``; ``<model>_cost`` (dollars), ``<model>_prediction`` or
``<model>_response`` (the answer), ``<model>_prompt_tokens`` and ``<model>_completion_tokens`` may stand beside it. The
sample is called by ``id``, ``sample_id``, ``index`` or ``dataset_idx``. Without an answer there is the verdict alone.

Source: https://github.com/Hunter-Wrynn/MMR-Bench src/mmrbench/data/mllm_data.py (``_infer_model_names_from_columns``,
``MMData``), 2026-01. There costs are in any unit; here they are taken for dollars.
"""

from collections.abc import Iterable

from relope.errors import InvalidInputError
from relope.extract.data.rows import Row
from relope.extract.importing.record import (
    Reading,
    Record,
    count_cell,
    id_cell,
    missing,
    number_cell,
    text_cell,
    verdict_cell,
)
from relope.extract.importing.source import Source
from relope.types import Usage
from relope.words import first_of

NEEDS = "columns <model>_correct, and id, sample_id, index or dataset_idx"

_IDS = ("id", "sample_id", "index", "dataset_idx")
_CORRECT, _COST = "_correct", "_cost"
_SHOWN = 8
_ANSWERS = ("_response", "_prediction")


def recognises(source: Source) -> bool:
    """Return whether a file has verdicts of models by name, and no column of answers of one model."""
    return bool(models_in(source.columns)) and not {"response", "prediction"} & set(source.columns)


def models_in(columns: Iterable[str]) -> list[str]:
    """Return the models that a table has verdicts of, in the order of its columns."""
    names = [name.removesuffix(_CORRECT).removesuffix("_is") for name in columns if name.endswith(_CORRECT)]
    return [name for name in names if name not in ("", "is")]


def read(source: Source) -> Reading:
    """Return what a table says of every sample and model.

    Raises:
        InvalidInputError: a column is missing, or a cell holds what its column does not.
    """
    models = models_in(source.columns)
    where = f"the header of {source.path.name}"
    cells = dict.fromkeys(source.columns)
    if not models:
        raise missing("a column <model>_correct", where, cells)
    column = next((name for name in _IDS if name in source.columns), "")
    if not column:
        raise missing("a column id, sample_id, index or dataset_idx", where, cells)
    if twice := next((name for name in models if models.count(name) > 1), ""):
        raise InvalidInputError(f"{where} has both {twice}_correct and {twice}_is_correct")
    priceless = [name for name in models if f"{name}{_COST}" not in source.columns]
    records = [_record(row, column, model) for row in source.rows() for model in models]
    notes = (f"no column <model>_cost of {first_of(priceless, _SHOWN)}",) if priceless else ()
    return Reading([record for record in records if record is not None], notes)


def _record(row: Row, column: str, model: str) -> Record | None:
    """Return what a row says of a model; None where it says nothing of it."""
    cells, where = row.cells, f"{row.where} ({model})"
    verdict = f"{model}{_CORRECT}" if f"{model}{_CORRECT}" in cells else f"{model}_is{_CORRECT}"
    correct = verdict_cell(cells, verdict, where)
    answers = [cells[f"{model}{end}"] for end in _ANSWERS if cells.get(f"{model}{end}") is not None]
    if correct is None and not answers:
        return None
    return Record(
        where,
        id=id_cell(cells, column, where),
        response=text_cell({"response": answers[0]}, "response", where) or "" if answers else None,
        correct=correct,
        question=text_cell(cells, "question", where),
        split=text_cell(cells, "split", where) or "",
        model=model,
        usage=Usage(
            count_cell(cells, f"{model}_prompt_tokens", where),
            count_cell(cells, f"{model}_completion_tokens", where),
            cost_usd=number_cell(cells, f"{model}{_COST}", where),
        ),
    )
