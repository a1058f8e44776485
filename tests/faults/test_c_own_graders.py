"""C: a grader from a Python file or a dotted path, named by its source's digest; its mistakes are told in a line."""

import hashlib
import sys

import polars as pl
import pytest

from relope import steps
from relope.errors import RelopeError
from relope.extract.grading.grader import open_grader
from relope.spec import GradeSpec, build
from relope.types import Grade

GOOD = """
from relope.types import Grade

def strict(response, answers, choices):
    return response.strip() in answers

def two(response, answers):
    return bool(answers) and response == answers[0]

def told(response, answers, choices, finish_reason):
    return None if finish_reason == "length" else Grade(True, response, "parsed")

def fails(response, answers, choices):
    return {}["x"]

def odd(response, answers, choices):
    return 0.5

def none(response):
    return True

NUMBER = 3
"""


@pytest.fixture
def judge(tmp_path):
    path = tmp_path / "judge.py"
    path.write_text(GOOD)
    return path


def test_c_a_function_of_a_file_judges(judge):
    grader = open_grader(f"{judge}:strict")
    assert grader.name == "judge.strict"
    assert grader.version == hashlib.sha256(GOOD.encode()).hexdigest()[:12]
    assert grader.grade(" B ", ("B",)) == Grade(True, "b", "parsed")
    assert grader.grade("A", ("B",)).correct is False
    assert open_grader(f"{judge}:two").grade("B", ("B",)).correct is True
    assert open_grader(f"{judge}:told").grade("B", (), (), "stop").correct is True
    assert open_grader(f"{judge}:told").grade("B", ("B",), (), "length").correct is None


def test_c_a_function_of_a_module_judges(judge, monkeypatch):
    monkeypatch.chdir(judge.parent)
    monkeypatch.delitem(sys.modules, "judge", raising=False)
    grader = open_grader("judge:strict")
    assert (grader.name, grader.grade("B", ("B",)).correct) == ("judge.strict", True)
    assert grader.version == open_grader(f"{judge}:strict").version
    sys.modules.pop("judge")


def test_c_another_source_is_another_version(judge):
    before = open_grader(f"{judge}:strict").version
    judge.write_text(GOOD.replace("response.strip()", "response"))
    assert open_grader(f"{judge}:strict").version != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}", "names no function"),
        ("{}:strickt", "did you mean 'strict'"),
        ("{}:NUMBER", "is int, no function"),
        ("{}:none", "takes"),
        ("nowhere.py:strict", "there is no grader file nowhere.py"),
        ("no_such_module:strict", "there is no Python module no_such_module"),
        ("math:sqrt", "has no Python source"),
    ],
)
def test_c_mistakes_are_told(judge, name, message):
    with pytest.raises(RelopeError, match=message) as caught:
        open_grader(name.format(judge))
    assert len(caught.value.lines.splitlines()) <= 2


def test_c_mistakes_in_the_code_are_told_with_their_line(judge, tmp_path):
    for name, message in (("fails", r"KeyError: 'x' \(line 14\)"), ("odd", "gave float 0.5")):
        with pytest.raises(RelopeError, match=message):
            open_grader(f"{judge}:{name}").grade("B", ("B",))
    for text, message in (("def f(:\n", r"SyntaxError: .* \(line 1\)"), ("\nimport no_such_thing\n", "no_such_thing")):
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(RelopeError, match=message):
            open_grader(f"{tmp_path / 'bad.py'}:f")


def test_c_grades_of_a_store_by_an_own_function(judge, store_path, tmp_path):
    import shutil

    copy = tmp_path / "copy.zarr"
    shutil.copytree(store_path, copy)
    done = steps.run(GradeSpec(store=str(copy), grader=f"{judge}:strict"))
    assert done.path.name == f"judge.strict@{hashlib.sha256(GOOD.encode()).hexdigest()[:12]}.parquet"
    assert "your own code" in done.text
    table = done.grades
    right = [response.strip() in answers for response, answers in _answers(copy)]
    assert table["correct"].to_list() == right
    assert steps.run(GradeSpec(store=str(copy), grader=f"{judge}:strict")).reused


def _answers(path):
    from relope.store import open_store

    return open_store(path).samples.select("response", "answers").iter_rows()


def test_c_a_pipeline_takes_an_own_grader_and_sees_its_source_change(judge):
    from relope.pipeline.lineage import inputs_of

    spec = build("grade", {"store": "runs/x.zarr", "grader": f"{judge}:strict"})
    assert judge in inputs_of(spec)


def test_c_responses_of_a_file_by_an_own_function(judge, tmp_path):
    path = tmp_path / "r.parquet"
    pl.DataFrame({"response": ["B", "b"], "gold": ["B", "B"]}).write_parquet(path)
    done = steps.run(GradeSpec(responses=path, grader=f"{judge}:strict"))
    assert [row["correct"] for row in done.payload] == [True, False]
