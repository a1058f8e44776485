"""Grades: of traces, of files of responses, and the rows that splits and folds stand for."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from relope.cli import app
from relope.errors import RelopeError
from relope.extract.graders import multiple_choice
from relope.extract.grading.grader import open_grader
from relope.extract.responses import grade_file
from relope.store.grades import apart, rows_of, write_grades


class Made:
    """What the functions here read of a store."""

    def __init__(self, path, samples):
        self.path, self.label = path, str(path)
        self.samples = samples.with_row_index("row")

    def __len__(self):
        return len(self.samples)


def test_traces_are_parsed_one_by_one(tmp_path):
    columns = {
        "id": ["a", "b"],
        "split": ["test", "test"],
        "response": ["B", "x"],
        "answers": [["B"], ["A"]],
        "choices": [["p", "q"], ["p", "q"]],
        "traces_direct": [["(A)", "B", "?!"], ["q", "q", "p"]],
        "traces_chain": [["so B", "so A"], []],
    }
    store = Made(tmp_path, pl.DataFrame(columns))
    path, table, _ = write_grades(store, "multiple-choice", multiple_choice.VERSION, multiple_choice.grade)
    assert path.name == f"multiple-choice@{multiple_choice.VERSION}.parquet" and pl.read_parquet(path).equals(table)
    assert table["parsed_direct"].to_list() == [["A", "B", ""], ["B", "B", "A"]]
    assert table["parsed_chain"].to_list() == [["B", "A"], []]
    assert table["correct"].to_list() == [True, False]


def test_without_traces_there_are_no_such_columns(tmp_path):
    frame = pl.DataFrame({"id": ["a"], "split": ["test"], "response": ["x"], "answers": [["x"]], "choices": [[]]})
    _, table, _ = write_grades(Made(tmp_path, frame), "exact", "1", open_grader("exact").grade)
    assert table.columns == ["id", "split", "correct", "parsed", "parse_status"]


def test_a_store_of_folds_has_a_train_and_a_test_split(tmp_path):
    folds = [f"fold-{n % 5}" for n in range(12)]
    store = Made(tmp_path, pl.DataFrame({"split": folds, "group": [str(n) for n in range(12)]}))
    assert rows_of(store, ("test",)).tolist() == [0, 5, 10]
    assert rows_of(store, ("train",)).tolist() == [n for n in range(12) if n % 5]
    assert rows_of(store, ("fold-3", "fold-1")).tolist() == [1, 3, 6, 8, 11]
    with pytest.raises(RelopeError, match="unknown split"):
        rows_of(store, ("validation",))


def test_rows_that_share_a_picture_with_another_split_stand_apart(tmp_path):
    store = Made(tmp_path, pl.DataFrame({"split": ["train"] * 3 + ["test"] * 2, "group": ["a", "b", "a", "b", "c"]}))
    assert apart(store, np.array([0, 1, 2])).tolist() == [True, False, True]
    assert apart(store, np.arange(5)).all()


def rows(path, entries):
    """Write a file of responses."""
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def test_a_file_of_responses(tmp_path):
    entries = [
        {"response": "(B)", "gold": "B", "choices": ["x", "y"]},
        {"response": "y", "gold": 0, "choices": ["x", "y"]},
        {"response": None, "gold": "A", "choices": ["x", "y"]},
        {"response": "C", "gold": "C"},
    ]
    path = rows(tmp_path / "r.jsonl", entries)
    assert grade_file(path, open_grader("multiple-choice")) == [
        {"correct": True, "parsed": "B", "parse_status": "parsed"},
        {"correct": False, "parsed": "B", "parse_status": "parsed"},
        {"correct": False, "parsed": "", "parse_status": "unparsed"},
        {"correct": True, "parsed": "C", "parse_status": "parsed"},
    ]


def relope(*arguments):
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_a_list(tmp_path):
    path = rows(tmp_path / "r.jsonl", [{"response": "$1,000", "gold": "1000"}, {"response": "1920", "gold": "2010"}])
    result = relope("grade", "--responses", path, "--grader", "chartqa", "--json")
    assert result.exit_code == 0 and [grade["correct"] for grade in json.loads(result.stdout)] == [True, False]
    assert set(json.loads(result.stdout)[0]) == {"correct", "parsed", "parse_status"}
    assert "2 answers" in relope("grade", "--responses", path, "--grader", "chartqa").stdout


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([{"response": "x"}], "column 'gold' is missing in line 1 of r.jsonl"),
        ([{"gold": "x"}], "column 'response' is missing"),
        ([{"response": 3, "gold": "x"}], "column 'response' in line 1 of r.jsonl holds int"),
        ([{"response": "x", "gold": "Q", "choices": ["a", "b"]}], "column 'gold' in line 1 of r.jsonl: answer 'Q'"),
        ([{"response": "x", "gold": "a", "choices": "ab"}], "column 'choices'"),
        ([{"response": "x", "gold": "A", "choices": ["w"] * 27}], "at most 26 texts or numbers"),
        ([{"response": "x", "gold": "A", "choices": ["a", None]}], "at most 26 texts or numbers, not ['a', None]"),
        ([{"response": "x", "gold": " "}], "column 'gold' in line 1 of r.jsonl is empty"),
        ([{"response": "x", "gold": []}], "column 'gold' in line 1 of r.jsonl is empty"),
        ([{"response": "x", "gold": float("nan")}], "answer nan"),
        ([["x", "y"]], "line 1 of r.jsonl must be an object"),
        ([], "r.jsonl holds no rows"),
    ],
)
def test_mistakes_in_a_file_of_responses(tmp_path, entries, says):
    result = relope("grade", "--responses", rows(tmp_path / "r.jsonl", entries), "--grader", "multiple-choice")
    assert result.exit_code == 2 and says in result.stderr and "Traceback" not in result.output


def test_half_a_surrogate_pair_is_printed_as_nothing(tmp_path):
    path = rows(tmp_path / "r.jsonl", [{"response": "\ud800x", "gold": "x"}])
    grades = json.loads(relope("grade", "--responses", path, "--grader", "exact", "--json").stdout)
    assert grades == [{"correct": True, "parsed": "x", "parse_status": "parsed"}]


def test_either_a_store_or_a_file(tmp_path):
    assert "either --store STORE or --responses" in relope("grade").stderr
    assert "either" in relope("grade", "--store", tmp_path, "--responses", tmp_path / "x").stderr
