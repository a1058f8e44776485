"""Graders against worked cases; nothing is guessed."""

import csv
import time
from pathlib import Path

import pytest

from relope.extract.graders import auto, exact, multiple_choice, open_grader

TABLE = (Path(__file__).parents[1] / "data" / "multiple_choice_cases.csv").read_text()
CASES = list(csv.DictReader(TABLE.splitlines()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: repr(case["response"])[:40])
def test_multiple_choice_cases(case):
    assert (multiple_choice.parse(case["response"], case["choices"].split("|")) or "NONE") == case["letter"]


def test_cases_are_there():
    assert len(CASES) >= 30


@pytest.mark.parametrize(
    ("response", "right"), [("blue", True), (" Blue. ", True), ("**blue**", True), ("light blue", False), ("", False)]
)
def test_exact(response, right):
    assert exact.grade(response, ("blue",)).correct is right


def test_an_empty_answer_is_unparsed_and_wrong():
    for grader in (exact, multiple_choice, auto):
        verdict = grader.grade("", ("A",), ("x", "y"))
        assert (verdict.correct, verdict.parse_status) == (False, "unparsed")


def test_auto_looks_at_the_choices():
    assert auto.grade("red B.", ("B",), ("blue", "red")).correct
    assert auto.grade("red", ("B",), ("blue", "red")).parsed == "B"
    assert auto.grade("red", ("red",), ()).correct


@pytest.mark.parametrize("name", ["exact", "multiple-choice", "auto"])
def test_a_megabyte_is_graded_within_a_second(name):
    grader = open_grader(name)
    for answer in ("\\boxed{" * 150_000, "(A" * 500_000, "answer is " * 100_000, "A" * 1_000_000):
        begun = time.perf_counter()
        grader.grade(answer, ("A",), ("x", "y"))
        assert time.perf_counter() - begun < 1.0
