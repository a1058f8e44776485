"""`relope recommend`: what it says is out of fold, on the training split, and fits a page."""

import json
import re

import pytest
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.errors import NotFoundError
from relope.spec import build
from relope.steps import recommend as module


class Asked(Exception):
    """Raised with the examples that a step would work on."""


def advice(store, **asked):
    return steps.run(build("recommend", {"store": store, **asked}))


@pytest.fixture(scope="module")
def outcome(store_path):
    return advice(store_path)


def test_the_pick_is_told_with_what_to_type(outcome):
    told = outcome.to_json()
    name = told["pick"]["name"]
    assert outcome.text.startswith(f"Deploy {name}: it decides")
    assert "relope calibrate --router " in outcome.text
    assert {one["name"] for one in told["candidates"]} == {*module.BEFORE, *module.AFTER}
    assert told["n"] == 160 and told["budget"] == 0.2
    assert outcome.tables[0].rows[0][0].removesuffix(" *") == told["candidates"][0]["name"]


def test_it_is_one_page_of_80_letters(outcome):
    commands = outcome.to_json()["commands"]
    lines = [line for line in outcome.text.splitlines() if line.strip() not in commands]
    assert len(lines) < 24 and max(map(len, lines)) <= 80


def test_only_the_training_split_is_read(store_path, monkeypatch):
    def only_asked(spec, examples, grader, progress):
        raise Asked(examples)

    monkeypatch.setattr(module, "_advice", only_asked)
    with pytest.raises(Asked) as asked:
        advice(store_path)
    (examples,) = asked.value.args
    assert set(examples.table["split"]) == {"train"}


def test_before_the_answer_only_what_decides_then(store_path):
    told = advice(store_path, before_answer=True, budget=0.1).to_json()
    assert {one["name"] for one in told["candidates"]} == set(module.BEFORE) and all(told["before_answer"].values())
    if told["curve"]:
        assert [point["n"] for point in told["curve"]] == sorted(point["n"] for point in told["curve"])


def test_a_layer_that_is_not_there_is_named(store_path):
    with pytest.raises(NotFoundError, match="layer 6 is not in"):
        advice(store_path, layer=6)


def test_the_terminal_and_json(store_path):
    for width in ("80", "120"):
        shown = CliRunner(env={"COLUMNS": width}).invoke(
            app, ["recommend", "--store", str(store_path), "--before-answer", "-q"]
        )
        assert shown.exit_code == 0 and re.search(r"^Deploy ", shown.stdout, re.MULTILINE)
    shown = CliRunner().invoke(app, ["recommend", "--store", str(store_path), "--before-answer", "--json"])
    assert json.loads(shown.stdout)["pick"]["name"] in module.BEFORE
