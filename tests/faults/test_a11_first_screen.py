"""A11: the first screen says what to do at a budget: is the large model worth it, and does training pay at all."""

import json
import math
import re

import numpy as np
import pytest
from made_reports import N, make_report

from relope import steps
from relope.errors import InvalidInputError
from relope.evaluate.numbers.costs import Costs
from relope.evaluate.numbers.routing import escalation_order
from relope.evaluate.pages.first_screen import answers, conclusion, tiles
from relope.evaluate.report import read_report, terminal_tables
from relope.spec import build
from relope.steps.evaluation import Evaluation
from relope.steps.report_inputs import caveat_of

METHODS = {"fusion": 0.12, "probe": 0.1, "relope": 0.08, "logprob": 0.12, "entropy": 0.1, "question-kind": 0.01}


def system(inputs, name, share):
    """Return the accuracy of a method's system, seed by seed, by hand."""
    (method,) = [method for method in inputs.methods if method.name == name]
    right = []
    for scores in method.by_seed:
        answers = inputs.correct.copy()
        gone = escalation_order(scores, inputs.seed)[: int(np.ceil(share * N - 1e-9))]
        answers[gone] = inputs.large_correct[gone]
        right.append(answers.mean())
    return float(np.mean(right))


@pytest.mark.parametrize("budget", [0.2, 0.35, 0.07])
def test_a11_the_best_are_those_of_the_highest_accuracy_at_the_budget(tmp_path, budget):
    inputs = make_report(tmp_path, methods=METHODS, budget=budget)
    decision = read_report(tmp_path).decision
    trained = {name: system(inputs, name, budget) for name in ("fusion", "probe", "relope")}
    free = {name: system(inputs, name, budget) for name in ("logprob", "entropy")}
    assert decision.budget == budget
    for found, of in ((decision.router, trained), (decision.free, free)):
        assert of[found.method] == max(of.values()) and found.accuracy == pytest.approx(max(of.values()))
        as_many = math.ceil(round(100 * budget) * len(inputs.correct) / 100) / len(inputs.correct)
        random = (1 - as_many) * inputs.correct.mean() + as_many * inputs.large_correct.mean()
        assert found.over_random.value == pytest.approx(found.accuracy - random)
        assert found.over_small.value == pytest.approx(found.accuracy - inputs.correct.mean())
    gap = decision.router_over_free
    assert gap.value == pytest.approx(max(trained.values()) - max(free.values()))
    assert gap.ci95[0] <= gap.value <= gap.ci95[1]
    assert decision.large_over_small.value == pytest.approx(inputs.large_correct.mean() - inputs.correct.mean())


def test_a11_what_is_shown_first_is_at_the_budget_and_paired(tmp_path):
    make_report(tmp_path, methods=METHODS, budget=0.35)
    report, page = read_report(tmp_path), (tmp_path / "report.html").read_text()
    first = page[: page.index("<h2>")]
    decision = report.decision
    assert first.count("35\N{NARROW NO-BREAK SPACE}%") >= 4 and "20\N{NARROW NO-BREAK SPACE}%" not in first
    for name in (decision.router.method, decision.free.method):
        assert name in first
    assert first.index(conclusion(report)) < first.index('class="tiles"') < first.index("Is the large model worth it?")
    assert "Does training pay?" in first and decision.router_over_free.verdict in first
    assert f"{decision.router.method} before the small model" in first and "after the small model" in first


def test_a11_a_router_no_better_than_a_free_one_is_not_recommended(tmp_path):
    make_report(tmp_path, methods={"probe": 0.3, "logprob": 0.3})
    report = read_report(tmp_path)
    assert report.decision.router_over_free.verdict == "no difference shown"
    assert conclusion(report).startswith("Route with logprob, which needs no training")
    make_report(tmp_path, methods={"probe": 1.0, "logprob": 0.0})
    report = read_report(tmp_path)
    assert report.decision.router_over_free.verdict == "higher" and conclusion(report).startswith("Route with probe")


def test_a11_a_large_model_that_is_worse_is_not_worth_asking(tmp_path):
    make_report(tmp_path, methods={"probe": 0.3, "logprob": 0.1}, large=0.2)
    report = read_report(tmp_path)
    assert report.decision.large_over_small.verdict == "lower"
    assert conclusion(report) == "Do not escalate: large is right less often than tiny-vl."
    first = (tmp_path / "report.html").read_text().split("<h2>")[0]
    assert "over tiny-vl alone −" in first  # not only a lead over escalating blindly


def test_a11_what_is_not_known_is_not_claimed(tmp_path):
    make_report(tmp_path, methods={"probe": 0.3}, large=None)
    report = read_report(tmp_path)
    first = (tmp_path / "report.html").read_text().split("<h2>")[0]
    assert report.decision.large_over_small is None and report.decision.free is None
    for said in ("not known: the large model was not run", "none that needs no training is scored", "not guessed"):
        assert said in first
    assert "$" not in first


def test_a11_dollars_where_prices_are_known(tmp_path):
    each, more = np.full(N, 2e-4), np.full(N, 3e-3)
    costs = Costs(
        {"dollars": each, "latency": None}, {"dollars": each, "latency": None}, {"dollars": more, "latency": None}
    )
    make_report(tmp_path, methods=METHODS, costs=costs)
    decision = read_report(tmp_path).decision
    assert decision.dollars_small == pytest.approx(2e-4) and decision.dollars_large == pytest.approx(3e-3)
    assert decision.router.dollars == pytest.approx(2e-4 + 0.2 * 3e-3)
    first = (tmp_path / "report.html").read_text().split("<h2>")[0]
    assert "$0.8" in first and "tiny-vl alone $0.2, large alone $3 per 1,000 queries" in first


def test_a11_the_terminal_says_the_same(tmp_path):
    make_report(tmp_path, methods=METHODS)
    report = read_report(tmp_path)
    summary, methods = (table.text for table in terminal_tables(report))
    page = (tmp_path / "report.html").read_text().replace("&#39;", "'")
    assert summary.title == conclusion(report) and methods.columns[0] == "method"
    assert summary.rows[0][0] == "Is the large model worth it?"
    for question, answer in summary.rows:
        assert question in page and answer in page


@pytest.mark.parametrize(("given", "share"), [("20%", 0.2), (0.35, 0.35), ("0.07", 0.07), ("99 %", 0.99)])
def test_a11_a_budget_is_a_share_or_a_percentage(given, share):
    assert build("evaluate", {"store": "s", "budget": given}).budget == share


@pytest.mark.parametrize("given", ["20", "0", "1", "100%", "-0.2", "0.125", "much", "nan"])
def test_a11_what_is_no_budget_is_refused(given):
    with pytest.raises(InvalidInputError, match=r"a share of the questions in whole percents: 0.01 to 0.99"):
        build("evaluate", {"store": "s", "budget": given})


OURS = {"source": "relope.tiny"}


class Held:
    """What `caveat_of` looks at of a store."""

    def __init__(self, model, source, data):
        self.manifest = self
        self.recorded, self.identity = {"model": model, "source": source}, {"dataset": data}


class Meta:
    def __init__(self, seeds):
        self.meta, self.needs_training = self, True


@pytest.mark.parametrize(
    ("model", "source", "data", "large", "said", "not_said"),
    [
        ("tiny-vl", "package:tiny-vl", OURS, "package:tiny-vl-large", "both models", "on other data"),
        ("tiny-vl", "package:tiny-vl", OURS, "/models/72b", "and the small model are", "both models"),
        ("tiny-vl", "package:tiny-vl", {"source": "own", "name": "tiny"}, None, "on other data", "The images, the"),
        ("tiny-vl-mine", "/models/tiny-vl-mine", {"source": "relope.tiny"}, None, "These numbers hold", "miniature"),
        ("qwen", "Qwen/Qwen2.5-VL", {"repository": "aokvqa"}, None, "These numbers hold", "miniature"),
    ],
)  # fmt: skip
def test_a11_a_caveat_is_true_of_these_models_and_images(model, source, data, large, said, not_said):
    given = dict.fromkeys(Evaluation.__dataclass_fields__)
    given |= {"store": Held(model, source, data), "large": Held("l", large, {}) if large else None}
    text = caveat_of(Evaluation(**{**given, "scored": {"probe": [Meta(1)]}}))
    assert said in text and not_said not in text
    assert ("several seeds" in text) == ("These numbers hold" in text)
    two = caveat_of(Evaluation(**{**given, "scored": {"probe": [Meta(1), Meta(2)]}}))
    assert "several seeds" not in two


def test_a11_evaluate_takes_a_budget(store_path, tmp_path):
    out = tmp_path / "report"
    run = {"store": str(store_path), "methods": "logprob,entropy", "out": str(out), "bootstrap": 100}
    outcome = steps.run(build("evaluate", {**run, "budget": "30%"}))
    report = json.loads((out / "report.json").read_text())
    assert report["budget"] == 0.3 and set(report["methods"][0]["accuracy_at"]) == {"0.1", "0.2", "0.3", "0.5"}
    assert "kept @ 30" in " ".join(outcome.tables[1].columns)
    assert not steps.run(build("evaluate", run)).reused and steps.run(build("evaluate", run)).reused
    assert re.search(r"best free one at 20", (out / "report.html").read_text())


def test_a11_a_tile_is_no_good_where_the_small_model_alone_is_as_good(tmp_path):
    make_report(tmp_path, methods={"probe": 0.3, "logprob": 0.02}, large=0.2)
    report = read_report(tmp_path)
    small, router, free = report.hybrid.small_accuracy, report.decision.router, report.decision.free
    assert router.over_random.verdict == "higher" and router.accuracy >= small > free.accuracy
    assert [tile.tone for tile in tiles(report)] == ["", "", "", "bad"]
    assert "over tiny-vl alone −" in tiles(report)[3].under
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="tile bad"') == 1 and 'class="tile good"' not in page
    make_report(tmp_path, methods={"probe": 0.3, "logprob": 0.3})
    assert [tile.tone for tile in tiles(read_report(tmp_path))] == ["", "", "good", "good"]


def test_a11_models_that_know_other_things_may_be_worth_it_all_the_same(tmp_path):
    """The large model is right where the small one is wrong, and wrong where it is right."""
    correct = np.random.default_rng(1).random(N) < 0.6
    make_report(tmp_path, methods={"probe": 2.0, "logprob": 0.0}, correct=correct, large=~correct)
    report = read_report(tmp_path)
    assert report.decision.large_over_small.verdict == "lower"
    assert "but at 20\N{NARROW NO-BREAK SPACE}% probe is shown to be better than tiny-vl alone" in conclusion(report)


def test_a11_the_best_control_and_the_picking_stand_on_the_first_screen(tmp_path):
    inputs = make_report(tmp_path, methods={**METHODS, "question-confidence": 0.3})
    report = read_report(tmp_path)
    control, router = report.decision.control, report.decision.router
    assert control.method == "question-confidence"
    assert control.accuracy == pytest.approx(system(inputs, "question-confidence", 0.2))
    assert report.decision.method_over_control.value == pytest.approx(router.accuracy - control.accuracy)
    told = dict(answers(report))
    assert told["Does it beat a control?"].startswith("question-confidence, which looks at no hidden state: system")
    assert f"{router.method} over question-confidence −" in told["Does it beat a control?"]
    assert "of 3 trained and of 2 free ones" in told["How were they picked?"]
    make_report(tmp_path, methods={"probe": 0.3, "logprob": 0.3})
    assert not {"Does it beat a control?", "How were they picked?"} & {*dict(answers(read_report(tmp_path)))}
