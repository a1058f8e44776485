"""`relope recommend`: what it says is out of fold, on the training split, and fits a page."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from relope import steps
from relope.cli import app
from relope.errors import InvalidInputError, NotFoundError
from relope.spec import build
from relope.steps import recommend as module
from relope.steps.advice import dearer


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
    assert told["deploy"] == name and told["n"] == 160 and told["budget"] == 0.2
    assert outcome.tables[0].rows[0][0].removesuffix(" *") == told["candidates"][0]["name"]


def commands(method, splits=("train", "validation", "test"), **asked):
    return module._commands(build("recommend", {"store": "runs/my own.zarr", **asked}), method, splits)


def test_what_to_type_is_the_router_that_was_advised():
    """The flags that the advice was computed with are flags of the fit, and its grades those of the threshold."""
    plain, calibrate = commands("kernel-probe")
    router = "--router 'runs/my own.zarr.routers/kernel-probe' --store 'runs/my own.zarr'"
    assert plain == "relope fit kernel-probe --store 'runs/my own.zarr'"
    assert calibrate == f"relope calibrate {router} --budget 0.2"
    asked = {"layer": 3, "split": "train,validation", "grades": "exact@1", "budget": "10%"}
    assert commands("kernel-probe", **asked) == [
        f"{plain} --layer 3 --split train,validation --grades exact@1",
        f"relope calibrate {router} --split test --budget 0.1 --grades exact@1",
    ]
    untrained = "relope calibrate --router entropy --store 'runs/my own.zarr' --budget 0.1 --grades exact@1"
    assert commands("entropy", **asked) == [untrained]


def test_where_all_was_learned_from_calibrate_says_so():
    asked = {"splits": ("validation",), "split": "validation"}
    assert "--split" not in commands("kernel-probe", **asked)[1]


def test_it_is_one_page_of_80_letters(outcome):
    commands = outcome.to_json()["commands"]
    lines = [line for line in outcome.text.splitlines() if line.strip() not in commands]
    assert len(lines) < 24 and max(map(len, lines)) <= 80


def test_only_the_training_split_is_read(store_path, monkeypatch):
    def only_asked(spec, examples, folds, grader, progress):
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


def test_what_reads_a_layer_that_is_not_stored_is_no_candidate(store_path):
    lowest = advice(store_path, layer=3, before_answer=True)  # of layers 3 and 4: nothing reads layer 2
    assert [row["name"] for row in lowest.facts["candidates"]] == ["kernel-probe"]


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


@pytest.fixture
def few(monkeypatch):
    """Have the step see only the first so many samples, of which those at some places are answered wrongly."""
    whole = module.training_rows

    def see(n, wrong):
        def some(selection):
            rows = whole(selection)
            correct = np.ones(n, bool)
            correct[list(wrong)] = False
            return replace(rows, rows=rows.rows[:n], correct=correct, parsed=rows.parsed.head(n))

        monkeypatch.setattr(module, "training_rows", some)

    return see


def test_pieces_of_the_curve_that_are_too_small_are_left_out(store_path, few):
    few(26, range(0, 26, 4))
    told = advice(store_path, before_answer=True)
    json_told = told.to_json()
    assert json_told["too_few"] and [point["n"] for point in json_told["curve"]][-1] == 21
    assert re.search(r"Of [\d and]+ nothing can be fitted: too few right or wrong answers\.", told.text)
    assert len(json_told["curve"]) + len(json_told["too_few"]) == len(module.SHARES)


def test_nothing_is_deployed_that_is_not_shown_to_beat_chance(store_path, few):
    few(26, range(0, 26, 4))
    told = advice(store_path, before_answer=True)
    assert told.text.startswith("Deploy none: on 26 samples no router is shown to rank better than chance")
    assert "Next:" not in told.text and not told.to_json()["commands"] and "More labels" in told.text
    assert told.to_json()["deploy"] is None and not any(row[0].endswith("*") for row in told.tables[0].rows)


def test_a_curve_of_one_point_says_that_a_doubling_is_not_known(store_path, few, monkeypatch):
    few(26, range(0, 26, 4))

    def refused(*asked):
        raise InvalidInputError("too few")

    monkeypatch.setattr(module, "_with_share", refused)
    told = advice(store_path, before_answer=True)
    assert told.to_json()["doubling"] is None and len(told.to_json()["curve"]) == 1
    assert "More labels: not known, there are too few to halve the 21 learned from." in told.text
    assert "Of 5 and 10 nothing can be fitted" in told.text


def test_what_cannot_be_folded_is_refused_with_the_facts_of_the_whole(store_path, few):
    few(26, [0])
    with pytest.raises(InvalidInputError, match=r"^26 training samples, 1 answered wrongly: .*about 260 like") as error:
        advice(store_path)
    assert error.value.hint == "extract more samples"
    few(26, [])
    with pytest.raises(InvalidInputError, match=r"26 training samples, 0 answered wrongly: .* wrong answers$"):
        advice(store_path)


@pytest.mark.parametrize(
    ("best", "pick", "why"),
    [
        ("entropy", "kernel-probe", "the small model must answer first"),
        ("question-confidence", "entropy", "it is a control, which reads no state"),
        ("fusion-prefill", "kernel-probe", r"it is a stack: every query costs \d scores"),
        ("kernel-posthoc", "entropy", "it must be fitted, which entropy is not"),
        ("statistics-probe", "kernel-probe", "it reads every token of the prompt"),
    ],
)
def test_why_the_best_costs_more_is_said(outcome, best, pick, why):
    assert re.fullmatch(why, dearer(best, pick, outcome.to_json()["before_answer"]))
