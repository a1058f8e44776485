"""A10: comma-separated and repeated forms of a list add up; a single value that is given twice is a question."""

import json

import pytest
from typer.testing import CliRunner

from relope.cli import app
from relope.commands import show
from relope.fields import KeyValues, Positional, Verbatim, Words, marked
from relope.spec import SPECS
from relope.types import Outcome


@pytest.fixture
def asked(monkeypatch):
    """The specifications that commands are run with; nothing runs."""
    specs = []

    def note(spec, as_json, quiet):
        specs.append(spec)

    monkeypatch.setattr(show, "run_and_show", note)
    return specs


def type_in(*words):
    result = CliRunner().invoke(app, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


NEEDED = {
    "extract": ["--model", "m", "--dataset", "d"], "plan": ["--model", "m", "--dataset", "d"],
    "caption": ["--model", "m", "--dataset", "d"], "grade": [],
    "fit": ["probe", "--store", "s"], "sweep": ["probe", "--store", "s"],
    "explain": ["--router", "r", "--store", "s", "--sample", "1"], "export": ["r", "--out", "o"],
    "predict": ["--router", "r", "--store", "s"], "evaluate": ["--store", "s"], "study": ["table1"],
    "recommend": ["--store", "s"],
    "calibrate": ["--router", "r", "--store", "s"], "import": ["f.csv"], "route": ["q", "--bundle", "b"],
    "serve": ["--bundle", "b", "--large-base-url", "http://x", "--large-model", "m"],
    "vllm-command": ["--bundle", "b"],
    "router push": ["b", "s3://b/x"], "router pull": ["s3://b/x"],
    "compare": ["a", "b"], "view": ["s"], "doctor": [],
    "store info": ["s"], "store verify": ["s"], "store convert": ["s", "--out", "o"],
    "store push": ["s", "s3://b/x"], "store pull": ["s3://b/x"], "store ls": ["s3://b/x"],
    "store merge": ["a", "b", "--out", "o"], "store gc": ["s"],
}  # fmt: skip
LISTS = [
    (step, field)
    for step, kind in SPECS.items()
    for field, info in kind.model_fields.items()
    if info.annotation == Words and field not in {**marked(kind, Positional), **marked(kind, Verbatim)}
]


@pytest.mark.parametrize(("step", "field"), LISTS)
def test_a10_both_forms_of_a_list_add_up(step, field, asked):
    flag, needed = f"--{field.replace('_', '-')}", [*step.split(), *NEEDED[step]]
    for words in ([flag, "3,4", flag, "5"], [flag, "3", flag, "4", flag, "5"], [flag, "3, 4,5"], [f"{flag}=3,4,5"]):
        assert type_in(*needed, *words).exit_code == 0
        assert getattr(asked.pop(), field) == ("3", "4", "5")


@pytest.mark.parametrize(("step", "field"), LISTS)
def test_a10_help_says_so(step, field):
    wide = CliRunner(env={"COLUMNS": "300"}).invoke(app, [*step.split(), "--help"]).stdout
    (line,) = [line for line in wide.splitlines() if line.split()[1:2] == [f"--{field.replace('_', '-')}"]]
    assert "comma-separated or repeated" in line


def test_a10_values_of_a_grid_add_up(asked):
    grid = ["--grid", "lora_rank=2", "--grid", "lora_rank=4,2", "--grid", "lr=1e-3"]
    assert type_in("sweep", "relope", "--store", "s", *grid).exit_code == 0
    assert asked.pop().grid == {"lora_rank": (2, 4), "lr": (0.001,)}


def test_a10_a_setting_has_one_value(asked):
    again = type_in("fit", "probe", "--store", "s", "--set", "epochs=3", "--set", "epochs=4")
    assert again.exit_code == 2 and "set epochs is given twice: 3 and 4" in again.stderr and not asked
    assert type_in("fit", "probe", "--store", "s", "--set", "epochs=3", "--set", "epochs=3").exit_code == 0


SINGLE = [
    (step, field)
    for step, kind in SPECS.items()
    for field, info in kind.model_fields.items()
    if info.annotation not in (Words, bool)
    and field not in marked(kind, Positional)
    and field not in marked(kind, KeyValues)
]


@pytest.mark.parametrize(("step", "field"), SINGLE)
def test_a10_one_value_given_twice_is_refused(step, field, asked):
    flag = f"--{field.replace('_', '-')}"
    rest = NEEDED[step]
    needed = rest if flag not in rest else rest[: rest.index(flag)] + rest[rest.index(flag) + 2 :]
    result = type_in(*step.split(), *needed, flag, "1", flag, "2")
    assert result.exit_code == 2 and f"{flag} is given 2 times and takes one value" in result.stderr
    assert not asked


def test_a10_lists_of_yaml_and_python_are_lists():
    from relope.spec import build

    for given in (["3", "4"], (3, 4), "3,4", "3, 4"):
        assert build("fit", {"method": "probe", "store": "s", "split": given}).split == ("3", "4")
    assert build("fit", {"method": "probe", "store": "s", "split": 3}).split == ("3",)


@pytest.mark.parametrize("given", ["", " ", ",", " , "])
def test_a10_a_list_of_nothing_is_not_the_default(given, asked):
    result = type_in("fit", "probe", "--store", "s", "--split", given)
    assert result.exit_code == 2 and "is empty" in result.stderr and not asked


def test_a10_a_run_gets_both(monkeypatch, tmp_path):
    """The whole way once: what reaches the step is told as JSON."""
    from relope.steps import evaluate

    def run(spec, watch):
        return Outcome(tmp_path, payload={"methods": spec.methods, "split": spec.split})

    monkeypatch.setattr(evaluate, "STEP", evaluate.Step(run, evaluate.output, version=1))
    words = ("evaluate", "--store", "s", "--methods", "a", "--methods", "b,c", "--split", "test", "--split", "x")
    assert json.loads(type_in(*words, "--json").stdout) == {"methods": ["a", "b", "c"], "split": ["test", "x"]}
