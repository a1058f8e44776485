"""A19: the class's name is the gold answer, and 7 is 7.0 wherever a table of floats comes from."""

import json

import datasets
import polars as pl
import pytest

from relope.extract.data.gold import gold_answers
from relope.extract.data.open import open_dataset
from relope.extract.grading.grader import open_grader
from relope.extract.responses import grade_file

NAMES = ["cat", "dog", "bird"]


def labelled_table(path, **columns):
    features = {name: value[0] for name, value in columns.items()}
    rows = {name: value[1] for name, value in columns.items()}
    datasets.Dataset.from_dict(rows, features=datasets.Features(features)).to_parquet(path)
    return path


def loaded(path):
    dataset = open_dataset(str(path))
    return [sample for split in dataset.splits for sample in dataset.load(split, None)]


def test_a19_a_class_label_is_its_name(tmp_path):
    path = labelled_table(
        tmp_path / "labels.parquet",
        id=(datasets.Value("string"), ["a", "b"]),
        question=(datasets.Value("string"), ["What is it?", "And this?"]),
        answer=(datasets.ClassLabel(names=NAMES), [1, 2]),
        kind=(datasets.ClassLabel(names=["easy", "hard"]), [0, 1]),
    )
    samples = {sample.id: sample for sample in loaded(path)}
    assert [samples[name].answers for name in "ab"] == [("dog",), ("bird",)]
    assert samples["b"].meta["kind"] == "hard"


def test_a19_a_class_label_among_choices_is_the_option_of_its_name(tmp_path):
    path = labelled_table(
        tmp_path / "labels.parquet",
        question=(datasets.Value("string"), ["What is it?"]),
        answer=(datasets.ClassLabel(names=NAMES), [1]),
        choices=(datasets.List(datasets.Value("string")), [["dog", "cat"]]),
    )
    assert [sample.answers for sample in loaded(path)] == [("A",)]


def test_a19_class_labels_that_are_letters_or_lists_or_numbers(tmp_path):
    path = labelled_table(
        tmp_path / "labels.parquet",
        id=(datasets.Value("string"), ["a"]),
        question=(datasets.Value("string"), ["What is it?"]),
        answer=(datasets.List(datasets.ClassLabel(names=NAMES)), [[0, 1]]),
    )
    assert loaded(path)[0].answers == ("cat", "dog")
    path = labelled_table(
        tmp_path / "numbers.parquet",
        question=(datasets.Value("string"), ["What is it?"]),
        answer=(datasets.ClassLabel(num_classes=2), [1]),
        choices=(datasets.List(datasets.Value("string")), [["dog", "cat"]]),
    )
    assert loaded(path)[0].answers == ("B",)


@pytest.mark.parametrize("name", ["exact", "auto", "chartqa", "mathvision", "mmmu-open", "mmmu"])
@pytest.mark.parametrize(
    ("response", "gold"), [("7", "7.0"), ("12", "12.0"), ("7.0", "7"), ("-3", "-3.0"), ("7.", "7.00")]
)
def test_a19_seven_is_seven_point_nought(name, response, gold):
    assert open_grader(name).grade(response, (gold,)).correct
    assert open_grader(name).grade(f"The answer is {response}.", (gold,)).correct


def test_a19_exact_tells_other_numbers_apart():
    judge = open_grader("exact").grade
    assert not judge("7", ("7.5",)).correct
    assert not judge("3.1", ("3.10",)).correct  # a version, not a value
    assert judge("10000000000000000", ("1e+16",)).correct


def test_a19_gold_answers_of_floats():
    assert gold_answers(7.0) == ("7",)
    assert gold_answers([7.0, 8.5, "9.0"]) == ("7", "8.5", "9.0")
    assert gold_answers(7.0, ["5.0", "7.0"]) == ("B",)
    assert gold_answers("7.0", ["5", "7"]) == ("B",)
    assert gold_answers("7", ["5.0", "7.0"]) == ("B",)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a19_responses_of_any_file(tmp_path, suffix):
    path = tmp_path / f"responses.{suffix}"
    rows = [{"response": "7", "gold": 7.0}, {"response": "12", "gold": 12.5}]
    if suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        getattr(pl.DataFrame(rows), f"write_{suffix}")(path)
    assert [row["correct"] for row in grade_file(path, open_grader("auto"))] == [True, False]


def test_a19_own_rows_of_floats(tmp_path):
    path = tmp_path / "floats.csv"
    path.write_text("id,question,answer\n1,How many?,7.0\n2,How many dogs?,12.0\n")
    for sample in loaded(path):
        assert open_grader("auto").grade(str(int(float(sample.answers[0]))), sample.answers).correct
