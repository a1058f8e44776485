"""A17: a declared answer stands, an unfinished thought is none, and two options named are not one."""

import csv
from pathlib import Path

import pytest

from relope import registry
from relope.extract.data.gold import gold_answers
from relope.extract.graders import exact, multiple_choice
from relope.extract.grading.grader import open_grader
from relope.extract.grading.thoughts import spoken

with (Path(__file__).parent / "data" / "a17_letters.csv").open(newline="", encoding="utf-8") as file:
    LETTERS = list(csv.DictReader(file))

THOUGHTS = (
    "<think>So the answer is 7? Hmm, wait, let me",
    "<thinking>The answer is 7",
    "<reasoning>The answer is 7",
    "<|channel|>analysis<|message|>The answer is 7",
    "[THINK]The answer is 7",
    "◁think▷The answer is 7",
    "<|begin_of_thought|>\\boxed{7}",
    "<THINK>7",
)


@pytest.mark.parametrize("case", LETTERS, ids=lambda case: repr(case["response"])[:50])
def test_a17_letters(case):
    assert multiple_choice.parse(case["response"], case["choices"].split("|")) == case["letter"]


@pytest.mark.parametrize("name", ["multiple-choice", "auto", "mmmu", "mathvision"])
@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is B. If it had wings, the answer would be C.", "B"),
        ("The answer is B. Option C is correct only for birds.", "B"),
        ("The correct option is B. A common wrong answer is A.", "B"),
        ("The picture shows a cat chasing a bird.", ""),
        ("정답은 B입니다.", "B"),
        ("Ответ: В", "B"),
    ],
)
def test_a17_every_grader_of_options_reads_the_same_letter(name, response, letter):
    choices = ("cat", "dog", "bird", "fish")
    verdict = open_grader(name).grade(response, ("B",), choices)
    assert (verdict.parsed, verdict.correct) == (letter, letter == "B")
    assert open_grader(name).grade("B. A", ("B",), ("B", "A", "D", "C")).parsed == "B"


def test_a17_there_are_many_cases():
    assert len(LETTERS) > 200


@pytest.mark.parametrize("name", registry.names("graders"))
@pytest.mark.parametrize("thought", THOUGHTS)
def test_a17_an_unfinished_thought_is_unparsed_by_every_grader(name, thought):
    judge = open_grader(name)
    for answers, choices in ((("7",), ()), (("A",), ("7", "8"))):
        for finish_reason in ("", "stop", "length"):
            verdict = judge.grade(thought, answers, choices, finish_reason)
            assert (verdict.correct, verdict.parsed, verdict.parse_status) == (False, "", "unparsed")


@pytest.mark.parametrize("name", ["exact", "chartqa", "mathvision", "mmmu-open"])
@pytest.mark.parametrize(
    "response",
    [
        "The answer is 7. If there were two more, the answer would be 9.",
        "The answer is 7. A common wrong answer is 9.",
        "<think>It may be 9.</think>The answer is 7.",
        "[THINK]9[/THINK]7",
        "Three and four are 7. So \\boxed{7}. If there were two more, it would be \\boxed{9}.",
        "Die Antwort ist 7. Mit zwei mehr wäre die Antwort 9.",
        "La respuesta es 7. Si hubiera dos más, la respuesta sería 9.",
        "答案是7。如果多两个，答案会是9。",
        "정답은 7",
        "Ответ: 7",
        "<answer>7</answer>",
    ],
)
def test_a17_a_declared_value_is_not_overruled(name, response):
    verdict = open_grader(name).grade(response, ("7",))
    assert (verdict.correct, verdict.parsed) == (True, "7")
    assert not open_grader(name).grade(response, ("9",)).correct


def test_a17_the_exact_grader_takes_no_chain_of_thought_for_the_answer():
    chain = "We count the dogs on the left, then those on the right, and leave out the cats. " * 4
    assert exact.grade(chain, ("7",)).parse_status == "unparsed"
    assert exact.grade(f"{chain} The answer is 7.", ("7",)).parsed == "7"
    assert exact.grade(f"{chain} \\boxed{{7}}", ("7",)).correct
    assert exact.grade(chain, (chain,)).correct  # the gold answer may be long


CHOICES = ("cat", "dog", "bird", "fish")


@pytest.mark.parametrize(
    ("response", "when_stopped", "when_cut"),
    [
        ("B", "B", "B"),
        ("The answer is B. Its ears are those of a", "B", "B"),
        ("It is a dog", "B", "B"),
        ("Let me consider each option. (A) The cat has whiskers and", "A", ""),
        ("I look at the ears. They are long, as those of a dog", "B", ""),
        ("Okay, so the answer is A. But let me", "A", ""),
        ("The answer is A. Hmm, let me recheck the", "A", ""),
        ("It may be the cat.</think>\n\nB", "B", "B"),
    ],
)
def test_a17_finish_reason_reaches_the_grader(response, when_stopped, when_cut):
    for reason, letter in (("stop", when_stopped), ("length", when_cut)):
        assert multiple_choice.grade(response, ("B",), CHOICES, reason).parsed == letter
        assert open_grader("auto").grade(response, ("B",), CHOICES, finish_reason=reason).parsed == letter


def test_a17_finish_reason_reaches_the_grader_from_a_store(store, monkeypatch, tmp_path):
    from relope.store import grades

    monkeypatch.setattr(grades, "keep_grades", lambda *given: False)
    judge, told = open_grader("auto"), []

    def noting(response, answers, choices, finish_reason):
        told.append(finish_reason)
        return judge.grade(response, answers, choices, finish_reason)

    grades.write_grades(store, "auto", judge.version, noting)
    assert told == store.samples["finish_reason"].to_list()


def test_a17_letters_that_are_options_texts_mean_the_option():
    choices = ["B", "A", "D", "C"]
    assert gold_answers(1, choices) == ("B",)
    assert multiple_choice.grade("B. A", ("B",), choices).correct
    assert multiple_choice.grade("A. A", ("B",), choices).parse_status == "unparsed"


def test_a17_thoughts_are_taken_out_wherever_they_stand():
    assert spoken("<think>a<reasoning>b</reasoning>c</think>B") == "B"
    assert spoken("<think><think>a</think>B") == "B"
    assert spoken("opened in the prompt</think>\n\nB") == "B"
    assert spoken("analysis of the picture: B") == "analysis of the picture: B"
