"""Answers judged by a model at an endpoint: what a store or a file holds becomes cases, its verdicts become grades."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from relope.errors import InvalidInputError
from relope.evaluate.numbers.agreement import Agreement, agreement
from relope.extract.grading.answer_text import unified
from relope.extract.grading.case import Case
from relope.extract.grading.grader import Grader, open_grader
from relope.extract.judging import Judge, Judged, Ruling, judge_all
from relope.spec import GradeSpec
from relope.steps.outputs import judged_path
from relope.steps.prices import known_cost, price_of
from relope.store import ActivationStore
from relope.store.grade_names import grades_path, grades_stem, is_judge
from relope.store.grades import judged_table, keep_grades, some_samples
from relope.types import Grade, Watch
from relope.words import counted

READ_BY = "auto"
"""Grader that says what an answer is, where the model has said whether it is right."""

COMPARED = "exact"
"""Grader that the model's verdicts are held against."""

_MODEL_FLAGS = ("judge_model", "endpoint", "api_key_env", "max_usd", "max_requests", "costs")
_PARSED_CHARACTERS = 200
_NAME_CHARACTERS = 210
"""Of the name of a file of grades at most: no system takes more than 255, and what is written beside it has more."""


@dataclass(frozen=True)
class Verdicts:
    """What a model made of some answers.

    Attributes:
        name: ``judge:MODEL@version``.
        cases: the answers.
        grades: one each.
        judged: what the model said, and what it took.
        agreed: with the grader `COMPARED`, on the answers that both can judge; None where there is none.
    """

    name: str
    cases: Sequence[Case]
    grades: Sequence[Grade]
    judged: Judged
    agreed: Agreement | None

    @property
    def unread(self) -> dict[str, str]:
        """Sample → why there is no verdict on it, of those that the model was asked about."""
        rulings = zip(self.cases, self.judged.rulings, strict=True)
        return {case.id: ruling.why for case, ruling in rulings if ruling is not None and ruling.right is None}

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "requests": self.judged.requests,
            "dollars": self.judged.dollars,
            "dollars_in_doubt": self.judged.dollars_in_doubt,
            "no_verdict": self.unread,
            "answered_by": sorted({ruling.answered_by for ruling in self.judged.rulings if ruling} - {""}),
            "agreement": {"with": _compared()[1], **self.agreed.facts()} if self.agreed else None,
        }

    def text(self) -> str:
        """Return what is told beside the accuracy: verdicts that are none, agreement, and what it took."""
        lines = [counted(self.judged.requests, "request")]
        if self.judged.dollars is not None:
            lines[0] += f", ${self.judged.dollars:.4f} in all"
        if self.judged.dollars_in_doubt:
            lines[0] += f", and up to ${self.judged.dollars_in_doubt:.4f} for requests without an answer"
        if self.unread:
            first, why = next(iter(self.unread.items()))
            lines.append(
                f"{counted(len(self.unread), 'answer')} without a verdict count as wrong (first: {first}: {why})"
            )
        return "; ".join([*lines, _agreement_text(self.agreed)])


def check_judge(spec: GradeSpec, grader: Grader | None) -> None:
    """Refuse a grader that asks a model of which nobody says what it is called or where it is, and the reverse.

    Raises:
        InvalidInputError: the two do not go together.
    """
    if grader is None or grader.asking is None:
        if given := [name for name in _MODEL_FLAGS if getattr(spec, name) is not None]:
            what = grader.name if grader else "of the store"
            raise InvalidInputError(f"{given[0]} is given, and the grader {what} asks no model", hint="--grader judge")
        return
    lacking = ", ".join(name for name in ("judge_model", "endpoint") if getattr(spec, name) is None)
    if lacking:
        raise InvalidInputError(
            f"the grader {grader.name} asks a model; what is not given: {lacking}",
            hint="--judge-model MODEL --endpoint URL, and --api-key-env VARIABLE where it wants a key",
        )
    name = judge_name(grader, spec)
    if not is_judge(name):
        raise InvalidInputError(
            f"judge_model {spec.judge_model!r:.100} must be at most 80 letters, digits and _ . + : / @ -"
        )
    if (length := len(grades_path(Path(), name, grader.version).name)) > _NAME_CHARACTERS:
        raise InvalidInputError(
            f"judge_model {spec.judge_model!r} makes a file's name of {length} characters, more than "
            f"{_NAME_CHARACTERS}: each of + : / @ takes three"
        )


def judge_name(grader: Grader, spec: GradeSpec) -> str:
    """Return what a judge's grades are called, without its version."""
    return f"{grader.name}:{spec.judge_model}"


def judge_store(
    spec: GradeSpec, store: ActivationStore, grader: Grader, watch: Watch
) -> tuple[Path, pl.DataFrame, bool, Verdicts]:
    """Judge every answer of a store; return its file, table, whether anything was written, and the verdicts.

    Raises:
        RelopeError: as `judge_all`; then no grade is written.
    """
    rows = some_samples(store)
    verdicts = _judge(spec, grader, _cases(rows), rows["group"].to_numpy(), watch)
    read = judged_table(store, open_grader(READ_BY).grade)
    by = [ruling.answered_by if ruling else "" for ruling in verdicts.judged.rulings]
    table = read.with_columns(
        pl.Series("correct", [grade.correct for grade in verdicts.grades], pl.Boolean),
        pl.Series("parsed", [grade.parsed for grade in verdicts.grades], pl.String),
        pl.Series("parse_status", [grade.parse_status for grade in verdicts.grades], pl.String),
        pl.Series("answered_by", by, pl.String),
    )
    path = grades_path(store.path, judge_name(grader, spec), grader.version)
    return path, table, keep_grades(store, path, table, count=True), verdicts


def judge_cases(spec: GradeSpec, cases: Sequence[Case], grader: Grader, watch: Watch) -> Verdicts:
    """Judge the answers of a file, each a group of its own."""
    return _judge(spec, grader, cases, np.arange(len(cases)), watch)


def _cases(rows: pl.DataFrame) -> list[Case]:
    columns = ["question", "response", "answers", "choices"]
    stops = rows["finish_reason"] if "finish_reason" in rows.columns else [""] * len(rows)
    return [
        Case(question, response, answers, choices, stop or "", name)
        for (question, response, answers, choices), stop, name in zip(
            rows.select(columns).iter_rows(), stops, rows["id"], strict=True
        )
    ]


def _judge(spec: GradeSpec, grader: Grader, cases: Sequence[Case], groups: Any, watch: Watch) -> Verdicts:
    from relope.extract.endpoint.address import open_endpoint

    assert grader.asking is not None and spec.endpoint is not None and spec.judge_model is not None
    price = price_of(known_cost(spec.costs, spec.judge_model, spec.max_usd))
    name = f"{judge_name(grader, spec)}@{grader.version}"
    endpoint = open_endpoint(spec.endpoint, spec.judge_model, spec.api_key_env, spec.timeout)
    cache = judged_path(spec.store or spec.responses or Path(), grades_stem(name))
    judge = Judge(name, grader.asking, endpoint, cache, spec.workers, price, spec.max_usd, spec.max_requests)
    with closing(endpoint), watch(f"judge by {spec.judge_model}") as progress:
        judged = judge_all(judge, cases, progress)
    grades = [_grade(grader, case, ruling) for case, ruling in zip(cases, judged.rulings, strict=True)]
    return Verdicts(name, cases, grades, judged, _agreed(cases, judged.rulings, groups))


def _grade(grader: Grader, case: Case, ruling: Ruling | None) -> Grade:
    """Return a ruling as a grade; where there is none, what the grader says of an answer that nobody has judged."""
    if ruling is None or ruling.right is None:
        return grader.grade(case.response, case.answers, case.choices, case.finish_reason)
    read = open_grader(READ_BY).grade(case.response, case.answers, case.choices, case.finish_reason).parsed
    said = " ".join(unified(case.response).casefold().split())[:_PARSED_CHARACTERS]
    return Grade(ruling.right, read or said, "parsed")


def _compared() -> tuple[Grader, str]:
    """Return the grader that verdicts are held against, and its name with its version."""
    grader = open_grader(COMPARED)
    return grader, f"{grader.name}@{grader.version}"


def _agreed(cases: Sequence[Case], rulings: Sequence[Ruling | None], groups: Any) -> Agreement | None:
    """Return how the verdicts agree with rules, on the free-form answers that the rules can read."""
    ours, theirs, kept, rule = list[bool](), list[bool](), list[int](), _compared()[0]
    for number, (case, ruling) in enumerate(zip(cases, rulings, strict=True)):
        if ruling is None or ruling.right is None or case.choices:
            continue
        grade = rule.grade(case.response, case.answers, (), case.finish_reason)
        if grade.parse_status == "parsed":
            ours.append(ruling.right)
            theirs.append(bool(grade.correct))
            kept.append(number)
    return agreement(np.array(ours, dtype=bool), np.array(theirs, dtype=bool), groups[kept])


def _agreement_text(agreed: Agreement | None) -> str:
    label = _compared()[1]
    if agreed is None:
        return f"{label} applies to none of them"
    share, low, high = agreed.share, agreed.low, agreed.high
    return (
        f"agrees with {label} on {share:.1%} of the {counted(agreed.n, 'answer')} that both can judge "
        f"(95 % interval {low:.1%} to {high:.1%}; {agreed.first_only} right by the judge alone, "
        f"{agreed.second_only} by {COMPARED} alone)"
    )
