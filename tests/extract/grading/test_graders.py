"""Graders against worked cases; nothing is guessed, and no answer takes long."""

import csv
import time
from pathlib import Path

import numpy as np
import pytest

from relope import registry
from relope.errors import InvalidInputError
from relope.extract.data.gold import gold_answers
from relope.extract.graders import auto, exact, multiple_choice
from relope.extract.grading.grader import bounded, open_grader

DATA = Path(__file__).parents[2] / "data"


def read(name):
    """Return the rows of a table of worked cases."""
    with (DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


LETTERS, VALUES, PUBLISHED = read("multiple_choice_cases.csv"), read("value_cases.csv"), read("grader_cases.csv")


def shown(case):
    """Return a short name for a case."""
    return repr(case["response"])[:40]


@pytest.mark.parametrize("case", LETTERS, ids=shown)
def test_multiple_choice_cases(case):
    assert (multiple_choice.parse(case["response"], case["choices"].split("|")) or "NONE") == case["letter"]


@pytest.mark.parametrize("case", VALUES, ids=shown)
def test_value_cases(case):
    choices = [choice for choice in case["choices"].split("|") if choice]
    verdict = open_grader(case["grader"]).grade(case["response"], gold_answers(case["gold"], choices), choices)
    assert verdict.correct is (case["correct"] == "1"), verdict


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"{case['dataset']}-{shown(case)}-{case['gold'][:12]}")
def test_the_cases_that_public_suites_disagree_on(case):
    response, gold = case["response"], case["gold"]
    if case["dataset"] == "multiple_choice":
        choices = [option.split("=")[1] for option in gold.removeprefix("options ").split("|")]
        assert (multiple_choice.parse(response, choices) or "NONE") == case["ours"]
        return
    name, choices = case["dataset"].replace("_", "-").replace("scienceqa", "multiple-choice"), []
    if "option text" in gold:
        gold, choices = "B", ["10", "12", "14", "16", "18"]
    elif name == "multiple-choice":
        gold, choices = "B", ["x", "y", "z"]
    assert open_grader(name).grade(response, (gold,), choices).correct is (case["ours"] == "1")


def test_cases_are_there():
    assert len(LETTERS) >= 230 and len(VALUES) >= 300 and len(PUBLISHED) >= 50


@pytest.mark.parametrize(
    ("response", "right"), [("blue", True), (" Blue. ", True), ("**blue**", True), ("light blue", False), ("", False)]
)
def test_exact(response, right):
    assert exact.grade(response, ("blue",)).correct is right


def test_exact_parses_what_the_last_answer_is():
    parsed = [exact.grade(text, ()).parsed for text in ("So the answer is: **Blue**, since x.", "Blue.", "The sky is.")]
    assert parsed == ["blue", "blue", "the sky is"]


def test_with_options_a_stated_value_is_parsed_and_a_chain_without_one_is_not():
    judge, choices = open_grader("mathvision").grade, ("10", "12")
    parsed = {
        text: judge(text, ("B",), choices).parsed for text in ("\\boxed{20.0}", "so it is (B)", "12", "We add them.")
    }
    assert parsed == {"\\boxed{20.0}": "20", "so it is (B)": "B", "12": "B", "We add them.": ""}


def test_without_options_the_gold_letter_may_be_spelled_in_any_way():
    assert all(multiple_choice.grade("**B**", (gold,), ()).correct for gold in ("B", "b", "(B)", "B."))
    assert not multiple_choice.grade("A", ("a cat",), ()).correct


@pytest.mark.parametrize("name", registry.names("graders"))
def test_an_empty_answer_is_unparsed_and_wrong(name):
    for empty in ("", " \n ", "\\boxed{}"):
        verdict = open_grader(name).grade(empty, ("",), ("x", "y"))
        assert not verdict.correct
        assert verdict.parse_status == "unparsed" or empty.startswith("\\")


def test_auto_looks_at_the_choices():
    assert auto.grade("red B.", ("B",), ("blue", "red")).correct
    assert auto.grade("red", ("B",), ("blue", "red")).parsed == "B"
    assert auto.grade("red", ("red",), ()).correct


def test_equal_values_parse_to_equal_text():
    judge = open_grader("mathvision").grade
    spellings = ["\\boxed{\\frac{1}{2}}", "\\boxed{0.50}", "The answer is 1/2.", "x = 0.5 cm", "\\boxed{\\dfrac12}"]
    assert {judge(spelling, ("1",), ()).parsed for spelling in spellings} == {"0.5"}
    assert judge("\\boxed{(2, 1)}", ("1",), ()).parsed == "(2, 1)"
    assert judge("\\boxed{2, 1}", ("1",), ()).parsed == judge("1 and 2", ("1",), ()).parsed == "{1, 2}"


def test_several_charts_answers_are_one_list():
    judge = open_grader("chartqa").grade
    assert judge("Blue, Red", ("Red", "Blue"), ()).correct
    assert not judge("Red", ("Red", "Blue"), ()).correct


@pytest.mark.parametrize(
    ("gold", "choices", "answers"),
    [
        ("B", "xyz", ("B",)),
        ("b", "xyz", ("B",)),
        (1, "xyz", ("B",)),
        ("y", "xyz", ("B",)),
        (["A", "z"], "xyz", ("A", "C")),
        ("['24/7', '3.429']", "", ("24/7", "3.429")),
        ("[Red, Blue]", "", ("[Red, Blue]",)),
        (3, "", ("3",)),
        ("2", ["1", "2", "3"], ("B",)),
    ],
)
def test_gold_answers(gold, choices, answers):
    assert gold_answers(gold, list(choices)) == answers


@pytest.mark.parametrize("gold", ["D", 3, -1, "q", "", None, True, {"a": 1}, float("nan")])
def test_a_gold_answer_that_is_no_option_is_refused(gold):
    with pytest.raises(InvalidInputError, match="answer"):
        gold_answers(gold, ["x", "y", "z"])


def test_a_letter_that_could_be_two_options_is_refused():
    with pytest.raises(InvalidInputError, match="could be two of"):
        gold_answers("A", ["B", "A"])


def test_long_answers_keep_their_beginning_and_their_end():
    assert multiple_choice.parse("B. because " + "x " * 500_000, ["p", "q", "r"]) == "B"
    assert multiple_choice.parse("x " * 500_000 + "\\boxed{C}", ["p", "q", "r"]) == "C"
    assert len(bounded("x" * 1_000_000)) <= 20_001


WORDS = (
    "answer is ",
    "A",
    "A ",
    " ",
    "\n",
    "not ",
    "'",
    "=",
    ". ",
    "(A",
    "is ",
    "$",
    "A or ",
    "A, ",
    "e+",
    "^",
    "ﷺ",
    "\u0301\u0316",
)
MATHS = ("\\boxed{", "\\frac{", "\\sqrt{", "(", "1", "1,", "1 ", "9^", "-", "\\text{", "1/")
HOSTILE = [
    *(unit * (1_000_000 // len(unit)) for unit in WORDS + MATHS),
    "\\boxed{" + "9^{" * 100 + "}" * 101,
    "\\boxed{" + "(" * 250 + ")" * 250 + "}",
    "\\boxed{9^{9^{9^{9^{9}}}}}",
    "\\boxed{" + "x," * 9_000 + "}",
    "\\boxed{1e400}",
    "\\boxed{" + "9" * 400 + "!}",
    "\\boxed{1" + "/0" * 200 + "}",
    "\\boxed{" + "{" * 9_000 + "}" * 9_000 + "}",
    "\\boxed{" + "\\sqrt" * 100 + "2}",
    "9**9**9**9",
    "[1, " * 200_000,
]


@pytest.mark.parametrize("name", registry.names("graders"))
def test_a_megabyte_or_a_hostile_answer_is_graded_within_a_second(name):
    grader = open_grader(name)
    for answer in HOSTILE:
        begun = time.perf_counter()
        grader.grade(answer, ("A", "[Red, Blue]", "\\frac{1}{3}"), ("x", "y", "a" * 2_000))
        grader.grade(answer, ("\\frac{1}{3}", answer[:100]), ())
        assert time.perf_counter() - begun < 2.0, answer[:40]  # two answers


FRAGMENTS = [
    *WORDS,
    *MATHS,
    "((((",
    "^^^^",
    "1,1,1,",
    "1e9",
    "}",
    "**",
    "B and ",
    "(A) ",
    "none of ",
    "<think>",
    "<|a",
    "red fox ",
    "A. cat B. dog",
    "Vitamin C",
    "million ",
    "\\in ",
    "\\mathrm{m",
    "\\pm",
    "Thus, ",
    "it's ",
    "₹",
    "²",
    "½",
    "\u200b",
    "\u0301",
    "\ud800",
    "是",
    "Ｂ",
    "\x00",
]


@pytest.mark.parametrize("name", registry.names("graders"))
def test_any_text_is_graded_and_what_is_parsed_is_not_empty(name):
    grader, random = open_grader(name), np.random.default_rng(0)
    for turn in range(80):
        pieces = random.choice(FRAGMENTS, size=random.integers(1, 5)).tolist()
        text = "".join(pieces) * int(random.choice([1, 3, 40]))
        text += "".join(map(chr, random.integers(0, 0xD800, size=5))) if turn % 2 else ""
        for choices in (
            (),
            ("", "red fox"),
            ("cat", "dog", "cow", "red fox"),
            ("Vitamin C", "1,1,1", "A only", "(((("),
        ):
            for answer in (text, f"\\boxed{{{text}}}"):
                verdict = grader.grade(answer, ("A", "1e999") if choices else (text,), choices)
                assert verdict.parse_status == ("parsed" if verdict.parsed else "unparsed"), answer
                assert not verdict.correct or verdict.parsed, answer
