"""What a query costs, by hand."""

import json

import numpy as np
import pytest
from made_reports import labels_of

from relope.errors import NotFoundError
from relope.evaluate.numbers.analysis import analyse
from relope.evaluate.numbers.costs import EXAMPLE, Costs, ModelCost, cost_of, read_prices
from relope.evaluate.numbers.summary import summarise
from relope.evaluate.report import MethodScores, ReportInputs, build_report

SMALL = ModelCost(
    dollars_per_million_prompt_tokens=1e6,
    dollars_per_million_answer_tokens=2e6,
    seconds_per_query=0.5,
    seconds_per_answer_token=0.1,
)
LARGE = ModelCost(
    dollars_per_million_prompt_tokens=10e6,
    dollars_per_million_answer_tokens=20e6,
    seconds_per_query=3,
    seconds_per_answer_token=1,
)
PROMPT, ANSWER, THEIRS = np.array([4, 6]), np.array([3, 1]), np.array([5, 2])
# dollars: small 4+6=10, 6+2=8; its prompt 4, 6; large 40+100=140, 60+40=100
# seconds: small .8, .6; its prompt .5, .5; large 8, 5


def made(small=SMALL, large=LARGE):
    return Costs(
        cost_of(small, PROMPT, ANSWER),
        cost_of(small, PROMPT, np.zeros_like(ANSWER)),
        cost_of(large, PROMPT, THEIRS),
        before_answer=frozenset({"probe"}),
    )


@pytest.mark.parametrize(
    ("axis", "method", "expected"),
    [
        ("dollars", "posthoc", [(10 + 8) / 2, (10 + 8 + 100) / 2, (10 + 140 + 8 + 100) / 2]),
        ("dollars", "probe", [(10 + 8) / 2, (10 + 6 + 100) / 2, (4 + 140 + 6 + 100) / 2]),
        ("latency", "posthoc", [0.7, (0.8 + 0.6 + 5) / 2, (0.8 + 8 + 0.6 + 5) / 2]),
        ("latency", "probe", [0.7, (0.8 + 0.5 + 5) / 2, (0.5 + 8 + 0.5 + 5) / 2]),
    ],
)
def test_an_escalated_query_costs_what_the_method_had_to_see(axis, method, expected):
    second_first = np.array([1, 0])
    assert made().along(axis, method, second_first) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("lacking", [name for name in ModelCost.model_fields if "cached" not in name])
@pytest.mark.parametrize("method", ["posthoc", "probe"])
def test_an_unknown_price_makes_its_axis_unknown(lacking, method):
    unknown = SMALL.model_copy(update={lacking: None})
    for costs in (made(small=unknown), made(large=unknown)):
        known = {axis: costs.along(axis, method, np.array([0, 1])) is not None for axis in costs.small}
        assert known == {"dollars": "seconds" in lacking, "latency": "dollars" in lacking}


def test_the_report_says_when_a_method_decides_and_what_is_not_counted(tmp_path):
    correct = np.array([True, False])
    scores = np.array([0.9, 0.1])
    methods = [
        MethodScores("probe", scores, decides_before_answer=True),
        MethodScores("posthoc", scores, decides_before_answer=False),
        MethodScores("mot", scores, decides_before_answer=False, needs="--samples 5"),
    ]
    inputs = ReportInputs(
        title="t",
        what="w",
        small_name="s",
        large_name="l",
        dataset="d",
        labels=labels_of(correct),
        methods=methods,
        large_correct=np.array([True, True]),
        costs=made(),
        resamples=10,
    )
    build_report(inputs, tmp_path)
    rows = {row["method"]: row for row in json.loads((tmp_path / "report.json").read_text())["methods"]}
    assert rows["probe"]["costs"]["dollars"]["1"] == (4 + 140 + 6 + 100) / 2
    assert rows["posthoc"]["costs"]["dollars"]["1"] == rows["mot"]["costs"]["dollars"]["1"] == (18 + 240) / 2
    assert rows["probe"]["costs"]["dollars"]["0"] == rows["posthoc"]["costs"]["dollars"]["0"] == 9
    page = (tmp_path / "report.html").read_text()
    assert page.count(">before the answer</td>") == 2 and page.count(">after the answer</td>") == 4
    assert '<td class="n">9000</td>' in page and '<td class="n">0.700</td>' in page
    assert "Not counted: what the small model does beside answering for mot (--samples)" in page


def test_costs_are_means_over_the_seeds_as_accuracies_are():
    rows, correct = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([True, False])
    method = MethodScores("probe", rows, seeds=(0, 1), decides_before_answer=True)
    right, labels = np.array([True, True]), labels_of(correct)
    inputs = ReportInputs("t", "w", "s", "l", "d", labels, [method], right, costs=made(), resamples=10)
    report = summarise(analyse(inputs))
    second_first, first_first = (10 + 6 + 100) / 2, (4 + 140 + 8) / 2
    assert report.methods[0].costs["dollars"]["0.5"] == (second_first + first_first) / 2
    assert report.methods[0].accuracy_at["0.5"] == (1.0 + 0.5) / 2


def test_nothing_is_said_of_costs_that_are_unknown(tmp_path):
    inputs = ReportInputs(
        title="t",
        what="w",
        small_name="s",
        large_name="",
        dataset="d",
        labels=labels_of(np.array([True, False])),
        methods=[MethodScores("probe", np.array([0.9, 0.1]))],
        costs=made(large=None),
        resamples=10,
    )
    build_report(inputs, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("is unknown, so it is not shown") == 2 and "A query that is kept" not in page


def test_the_example_can_be_read_and_is_pointed_at(tmp_path):
    models = read_prices(EXAMPLE).models
    assert models["tiny-vl-large"].seconds_per_answer_token is None
    with pytest.raises(NotFoundError, match=r"example does not exist$") as caught:
        read_prices(tmp_path / "example")
    assert caught.value.hint.startswith("copy the example, ") and "costs.example.yaml" in caught.value.hint


def test_cached_tokens_cost_their_own_price_and_else_that_of_others():
    cached = np.array([4, 1])
    plain = cost_of(SMALL, PROMPT, ANSWER)["dollars"]
    assert cost_of(SMALL, PROMPT, ANSWER, cached)["dollars"].tolist() == plain.tolist()
    cheaper = SMALL.model_copy(update={"dollars_per_million_cached_tokens": 0.25e6})
    price = SMALL.dollars_per_million_prompt_tokens / 1e6
    expected = plain - cached * (price - 0.25)
    assert cost_of(cheaper, PROMPT, ANSWER, cached)["dollars"] == pytest.approx(expected)
