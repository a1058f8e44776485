"""The step ``grade``: every answer of a store, or of a file, judged without a model."""

from pathlib import Path

import polars as pl

from relope import registry
from relope.command_line import command_line, now
from relope.errors import InvalidInputError
from relope.extract.grading.grader import Grader, open_grader
from relope.extract.responses import grade_file
from relope.places import local_folder
from relope.spec import GradeSpec
from relope.steps.outcomes import Graded
from relope.steps.step import Step
from relope.store import ActivationStore, open_store
from relope.store.grade_files import bare_grader, orders
from relope.store.grades import counting, write_grades
from relope.store.made import MadeBy, note_made
from relope.types import Watch

FOLDER = "grades"


def output(spec: GradeSpec) -> Path:
    """Return the folder of a store's grades, or the file whose answers are judged."""
    return Path(spec.store) / FOLDER if spec.store is not None else spec.responses or Path(FOLDER)


def run(spec: GradeSpec, watch: Watch) -> Graded:
    """Judge every answer of a store into ``grades/<grader>@<version>.parquet``, or those of a file."""
    if spec.responses is not None and spec.store is None:
        return _grade_responses(spec.responses, spec.grader or "auto")
    if spec.store is None or spec.responses is not None:
        raise InvalidInputError(
            "grade takes a store or a file of responses, one of them",
            hint="give either --store STORE or --responses FILE.jsonl",
        )
    graded = grade_store(open_store(spec.store), spec.grader)
    if not graded.reused and (folder := local_folder(spec.store)) is not None:
        note_made(folder, [MadeBy(now(), command_line(spec))])
    return graded


def grade_store(store: ActivationStore, grader: str | None, *, count: bool = True) -> Graded:
    """Judge every answer of a store by a grader, or by the store's own.

    Args:
        store: the opened store.
        grader: CLI name.
        count: let these grades be the ones that count when none are named, as `write_grades`.
    """
    if not store.manifest.identity.has_answers:
        raise InvalidInputError(
            f"{store.label} holds states only: there is no answer to judge",
            hint="extract with answers (--max-new-tokens above 0) into a new --out",
        )
    name = grader or store.manifest.grader
    judge: Grader = open_grader(name)
    path, table, changed = write_grades(store, name, judge.version, judge.grade, count=count)
    if changed:
        store.save(f"{FOLDER}/{path.name}")
    means = table.group_by("split").agg(pl.col("correct").mean()).sort("split")
    accuracy = table.select(pl.col("correct").mean()).item()
    facts = {
        "samples": len(table),
        "grader": path.stem,
        "accuracy": accuracy,
        "unparsed": int((table["parse_status"] == "unparsed").sum()),
        "by_split": dict(zip(means["split"], means["correct"], strict=True)),
    }
    text = f"{len(table)} answers judged by {path.stem}: accuracy {accuracy:.3f}, {facts['unparsed']} unparsed"
    where = f"{store.label}/{FOLDER}/{path.name}"
    return Graded(path, not changed, f"{text} → {where}", facts, location=where)


def grade_extracted(store: ActivationStore, asked: str | None) -> Graded:
    """Judge what an extraction has added; which grades count stays as `grade` set it.

    Args:
        store: the opened store.
        asked: a grader that the extraction names. Its grades are made as well, and count where it has judged
            nothing here yet.
    """
    counted = counting(store)
    own = bare_grader(counted) if counted else store.manifest.grader
    if own not in registry.names("graders"):
        own = asked or store.manifest.grader
    is_new = all(bare_grader(name) != asked for name in orders(store.path))
    graded = grade_store(store, own, count=False)
    if asked in (None, own):
        return graded
    further = grade_store(store, asked, count=is_new)
    return further if is_new else graded


def _grade_responses(path: Path, name: str) -> Graded:
    grades = grade_file(path, open_grader(name))
    right = sum(grade["correct"] for grade in grades)
    text = f"{len(grades)} answers of {path} judged by {name}: {right} right"
    return Graded(path, False, text, {"samples": len(grades), "right": right}, payload=grades)


def grader_of(spec: GradeSpec) -> list[tuple[str, str]]:
    """Return the grader that a store is judged by when none is named."""
    if spec.grader is not None or spec.store is None or not (Path(spec.store) / "zarr.json").is_file():
        return []
    return [("graders", counted_grader(spec.store))]


def counted_grader(ref: Path | str) -> str:
    """Return the grader whose grades of a store count, or that it would be judged by first."""
    store = open_store(ref)
    counted = counting(store)
    return bare_grader(counted) if counted else store.manifest.grader


STEP = Step(run, output, version=1, plugins=grader_of)
