"""The step ``store info``: what a store holds."""

from pathlib import Path
from typing import Any

import polars as pl

from relope.extract.data.flaws import read_skipped
from relope.spec import StoreInfoSpec
from relope.steps.step import Step
from relope.steps.store_verbs import folder_of
from relope.store import ActivationStore, info, info_rows, open_store
from relope.store.grade_files import Grades, orders
from relope.store.grades import counting, read_grades
from relope.store.made import made_json
from relope.types import Outcome, TextTable, Watch


def output(spec: StoreInfoSpec) -> Path:
    """Return the store: nothing is written."""
    return Path(spec.store)


def run(spec: StoreInfoSpec, watch: Watch) -> Outcome:
    """Show identity, layers, samples, tokens, bytes and accuracy of a store."""
    path = folder_of(spec.store)
    facts = _facts(open_store(path))
    return Outcome(path, False, "", facts, (TextTable(spec.store, ("", ""), info_rows(facts)),), payload=facts)


def _facts(store: ActivationStore) -> dict[str, Any]:
    """Return the store's numbers, and its accuracy by split."""
    facts = {**info(store), "skipped": len(read_skipped(store.path))}
    counted = counting(store)
    grades = [_judged(read_grades(store, name), name == counted) for name in orders(store.path)]
    accuracy = next((entry["accuracy"] for entry in grades if entry["counts"]), None)
    return {**facts, "accuracy": accuracy, "grades": grades, "made": made_json(store.path)}


def _judged(grades: Grades, counts: bool) -> dict[str, Any]:
    """Return what a grader says of a store, and whether its grades are those that count."""
    means = grades.table.group_by("split").agg(pl.col("correct").mean()).sort("split")
    accuracy = dict(zip(means["split"], means["correct"], strict=True))
    return {"name": grades.name, "counts": counts, "n": len(grades.table), "accuracy": accuracy}


STEP = Step(run, output, version=1)
