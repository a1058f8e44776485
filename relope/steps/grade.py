"""The step ``grade``: every answer of a store, or of a file, judged by rules or by a model at an endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from relope import registry
from relope.command_line import command_line, now
from relope.errors import InvalidInputError, NotFoundError
from relope.extract.data.labels import LABEL
from relope.extract.grading.grader import Grader, open_grader, open_rule
from relope.extract.grading.own_grader import source_of
from relope.extract.responses import file_cases, grade_file, graded_row
from relope.locations import local_folder
from relope.spec import ExtractSpec, GradeSpec
from relope.steps.judged import check_judge, judge_cases, judge_store
from relope.steps.outcomes import Graded
from relope.steps.step import Step
from relope.store import ActivationStore, open_store
from relope.store.grade_files import bare_grader, orders
from relope.store.grade_names import grades_name
from relope.store.grades import counting, write_grades
from relope.store.labels import HUMAN, count_labels, has_labels, write_labels
from relope.store.made import MadeBy, note_made
from relope.types import Sample, Watch
from relope.words import counted

FOLDER = "grades"


def output(spec: GradeSpec) -> Path:
    """Return the folder of a store's grades, or the file whose answers are judged."""
    return Path(spec.store) / FOLDER if spec.store is not None else spec.responses or Path(FOLDER)


def run(spec: GradeSpec, watch: Watch) -> Graded:
    """Judge every answer of a store into ``grades/<grader>@<version>.parquet``, or those of a file."""
    grader = None if spec.grader in (None, HUMAN) else open_grader(str(spec.grader))
    check_judge(spec, grader)
    if spec.responses is not None and spec.store is None:
        return _grade_responses(spec, spec.responses, grader or open_grader("auto"), watch)
    if spec.store is None or spec.responses is not None:
        raise InvalidInputError(
            "grade takes a store or a file of responses, one of them",
            hint="give either --store STORE or --responses FILE.jsonl",
        )
    store = open_store(spec.store)
    asks = grader is not None and grader.asking is not None
    graded = _judged(spec, store, grader, watch) if grader and asks else grade_store(store, spec.grader)
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
    _check_answers(store)
    name = grader or store.manifest.grader
    if name == HUMAN:
        return _told(store, *_labels_again(store))
    judge = open_rule(name)
    kept = write_grades(store, judge.name, judge.version, judge.grade, count=count)
    return _told(store, *kept, "by your own code in this process, " if judge.is_own else "")


def _check_answers(store: ActivationStore) -> None:
    if not store.manifest.identity.has_answers:
        raise InvalidInputError(
            f"{store.label} holds states only: there is no answer to judge",
            hint="extract with answers (--max-new-tokens above 0) into a new --out",
        )


def _judged(spec: GradeSpec, store: ActivationStore, grader: Grader, watch: Watch) -> Graded:
    """Let a model judge what a store holds."""
    _check_answers(store)
    path, table, changed, verdicts = judge_store(spec, store, grader, watch)
    graded = _told(store, path, table, changed)
    return replace(graded, text=f"{graded.text}; {verdicts.text()}", facts={**graded.facts, **verdicts.facts()})


def _labels_again(store: ActivationStore) -> tuple[Path, pl.DataFrame, bool]:
    """Let the labels that people gave count again."""
    if not has_labels(store):
        raise NotFoundError(
            f"{store.label} has no labels of people",
            hint="give the data a column correct (true or false) and run the same extract again",
        )
    return count_labels(store)


def label_store(store: ActivationStore, labels: Mapping[str, bool | None], read: Graded) -> Graded:
    """Keep what people say of a store's answers as its grades ``human@1``, beside what a grader read in them."""
    return _told(store, *write_labels(store, labels, read.grades))


def _told(store: ActivationStore, path: Path, table: pl.DataFrame, changed: bool, how: str = "") -> Graded:
    """Return what is told of grades that were written."""
    if changed:
        store.save(f"{FOLDER}/{path.name}")
    means = table.group_by("split").agg(pl.col("correct").mean()).sort("split")
    accuracy = table.select(pl.col("correct").mean()).item()
    facts = {
        "samples": len(table),
        "grader": grades_name(path.stem),
        "accuracy": accuracy,
        "unparsed": int((table["parse_status"] == "unparsed").sum()),
        "unlabelled": table["correct"].null_count(),
        "by_split": dict(zip(means["split"], means["correct"], strict=True)),
    }
    text = f"{counted(len(table), 'answer')} judged by {grades_name(path.stem)}: {how}{accuracy_text(facts)}"
    text += f", {facts['unparsed']} unparsed"
    where = f"{store.label}/{FOLDER}/{path.name}"
    return Graded(path, not changed, f"{text} → {where}", facts, location=where)


def accuracy_text(facts: Mapping[str, Any], by: str = "") -> str:
    """Return the accuracy of graded answers in words, ``by`` behind it; without gold answers there is none."""
    n, unlabelled = facts["samples"], facts["unlabelled"]
    if facts["accuracy"] is None:
        return "no gold answers to judge them by"
    text = f"accuracy {facts['accuracy']:.3f}{by}"
    return f"{text} on {n - unlabelled}, {unlabelled} are without a label" if unlabelled else text


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
    named = open_grader(asked).name if asked else None
    is_new = all(bare_grader(name) != named for name in orders(store.path))
    graded = grade_store(store, own, count=False)
    if asked in (None, own):
        return graded
    further = grade_store(store, asked, count=is_new)
    return further if is_new else graded


def grade_answers(store: ActivationStore, asked: str | None, samples: Sequence[Sample]) -> Graded:
    """Judge what an extraction has added, as `grade_extracted`; what people say of the samples' answers counts then."""
    graded = grade_extracted(store, asked)
    labels = {sample.id: sample.meta[LABEL] for sample in samples if LABEL in sample.meta}
    return label_store(store, labels, graded) if labels else graded


def _grade_responses(spec: GradeSpec, path: Path, grader: Grader, watch: Watch) -> Graded:
    name, verdicts = grader.name, None
    if grader.asking is None:
        rows = grade_file(path, grader)
    else:
        verdicts = judge_cases(spec, file_cases(path), grader, watch)
        name, rows = verdicts.name, [graded_row(grade) for grade in verdicts.grades]
    right = sum(bool(row["correct"]) for row in rows)
    text = f"{counted(len(rows), 'answer')} of {path} judged by {name}: {right} right"
    facts: dict[str, Any] = {"samples": len(rows), "right": right}
    if verdicts is not None:
        text, facts = f"{text}; {verdicts.text()}", facts | verdicts.facts()
    return Graded(path, False, text, facts, payload=rows)


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


def own_source(spec: GradeSpec | ExtractSpec) -> list[Path]:
    """Return the file of the user's own grader, so that another content judges anew."""
    source = source_of(spec.grader) if spec.grader else None
    return [source] if source else []


STEP = Step(run, output, version=1, plugins=grader_of, reads=own_source)
