"""A12: few of a class give no verdict, no point for an interval, and a warning that comes first."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from relope import steps
from relope.commands.show import show
from relope.evaluate.compare import compare_reports
from relope.evaluate.numbers.bootstrap import bootstrap_auc
from relope.evaluate.numbers.heldout import HELD
from relope.evaluate.numbers.significance import judged
from relope.evaluate.report import MethodScores, ReportInputs, build_report, terminal_table
from relope.evaluate.studies.inputs import StudyRequest
from relope.evaluate.studies.make import make_study, read_warnings
from relope.spec import build
from relope.steps.evaluate import warnings
from relope.types import Outcome

TOO_FEW = "too few to tell"
SMALL = Path(__file__).parents[1] / "data" / "made_at_d3e24c3"


def labels(correct, group):
    n = len(correct)
    return pl.DataFrame(
        {
            "id": [f"s{i}" for i in range(n)],
            "group": group,
            "correct": correct,
            "question": ["what ?"] * n,
            "response": ["that"] * n,
            "answers": [["this"]] * n,
            "dataset": ["own"] * n,
            "kind": ["a", "b"] * (n // 2) + ["a"] * (n % 2),
        }
    )


def report_on(folder, n, n_wrong, *, per_group=1, seed=0, large=True):
    """Three methods; the best ranks every wrong answer below every right one."""
    rng = np.random.default_rng(seed)
    correct = np.arange(n) >= n_wrong
    scores = {
        "probe": rng.random(n),
        "relope": 0.4 * rng.random(n) + 0.5 * correct,
        "question-kind": rng.random(n),
    }
    methods = [MethodScores(name, row, is_control=name == "question-kind") for name, row in scores.items()]
    table = labels(correct, [f"g{i // per_group}" for i in range(n)])
    right = rng.random(n) < 0.9 if large else None
    inputs = ReportInputs("t", "w", "small", "large", "own", table, methods, right, resamples=200)
    return build_report(inputs, folder)


def intervals_of(value):
    """Every pair under a key that speaks of a 95 % interval."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if "ci95" in key:
                yield from (inner.values() if isinstance(inner, dict) else [inner])
            else:
                yield from intervals_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from intervals_of(inner)


@pytest.mark.parametrize(
    ("n", "n_wrong", "per_group"), [(61, 1, 1), (14, 7, 1), (14, 13, 1), (200, 9, 1), (300, 40, 8)]
)
@pytest.mark.parametrize("large", [True, False])
def test_a12_no_verdict_and_no_point_below_ten_of_a_class(tmp_path, n, n_wrong, per_group, large):
    report = report_on(tmp_path, n, n_wrong, per_group=per_group, large=large)
    judged_gaps = [row.difference_to_probe or row.best_over_control for row in report.methods if row.method != "probe"]
    assert {gap.verdict for gap in judged_gaps} == {TOO_FEW}
    assert report.best == "relope" and report.best_row.auc == 1.0
    known = [bounds for bounds in intervals_of(report.to_json()) if bounds is not None]
    assert len(known) > 10 and all(high - low > 0.01 for low, high in known)
    assert report.best_row.ci95[1] == 1.0 and report.best_row.ci95[0] < 0.95
    cells = [cell for row in terminal_table(report).text.rows for cell in row]
    assert "1.000–1.000" not in cells and cells.count(TOO_FEW) == 2


def test_a12_the_warning_comes_first_in_terminal_and_page(tmp_path, capsys):
    report = report_on(tmp_path, 61, 1)
    (said,) = (warning.text for warning in report.warnings)
    assert said.startswith("only 1 of 61 answers is wrong") and "10" in said
    outcome = Outcome(tmp_path, tables=[terminal_table(report).text], warnings=warnings(tmp_path))
    show(outcome, as_json=False, quiet=False)
    assert capsys.readouterr().out.startswith(f"warning: {said}")
    assert "only 1 of 61" in (tmp_path / "tables" / "methods.md").read_text()
    page = (tmp_path / "report.html").read_text()
    assert page.index("only 1 of 61") < page.index('class="tiles"') < page.index("1.000")
    assert json.loads((tmp_path / "report.json").read_text())["warnings"] == [{"severity": "unsure", "text": said}]


@pytest.mark.parametrize(
    ("n", "n_wrong", "per_group", "severity", "said"),
    [
        (20, 0, 1, "unsure", "all 20 answers are right"),
        (14, 13, 1, "unsure", "only 1 of 14 answers is right"),
        (300, 24, 8, "unsure", "only 24 of 300 answers are wrong, in 3 image groups"),
        (300, 20, 1, "note", "only 20 of 300 answers are wrong: intervals are wide"),
        (300, 40, 1, None, ""),
    ],
)
def test_a12_the_warning_says_what_is_few(tmp_path, n, n_wrong, per_group, severity, said):
    report = report_on(tmp_path, n, n_wrong, per_group=per_group)
    assert [warning.severity for warning in report.warnings] == ([severity] if severity else [])
    assert all(warning.text.startswith(said) for warning in report.warnings)


def test_a12_compare_and_study_give_no_verdict_and_warn_first(tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        report_on(tmp_path / name, 61, 1, seed=seed)
    comparison = compare_reports(tmp_path / "one", tmp_path / "two", 200, 0)
    assert {change.verdict for change in comparison.changes} == {TOO_FEW}
    assert [str(tmp_path / name) in comparison.warnings[i].text for i, name in enumerate(("one", "two"))] == [True] * 2
    make_study(StudyRequest("table2", (str(tmp_path / "one"),), bootstrap=200), tmp_path / "study")
    study = json.loads((tmp_path / "study" / "study.json").read_text())
    gaps = next(table for table in study["tables"] if table["name"] == "table2_differences")
    assert {record["verdict"] for record in gaps["records"]} == {TOO_FEW}
    (warning,) = read_warnings(tmp_path / "study")
    page = (tmp_path / "study" / "study.html").read_text()
    assert "only 1 of 61 answers is wrong" in warning.text and page.index("only 1 of 61") < page.index("<table")


def test_a12_a_sweep_that_held_out_few_wrong_answers_says_so(tmp_path):
    runs = [
        {
            "method": "probe",
            "layer": layer,
            "seed": seed,
            "inner_auc": 1.0,
            "held_group": list(range(20)),
            "held_correct": [False] * 2 + [True] * 18,
            "held_score": [0.1, 0.2, *(0.5 + 0.02 * i for i in range(18))],
        }
        for layer in (3, 4)
        for seed in (0, 1)
    ]
    pl.DataFrame(runs, schema_overrides=HELD).write_parquet(tmp_path / "sweep.parquet")
    result = make_study(StudyRequest("figure3", sweeps=(str(tmp_path / "sweep.parquet"),), bootstrap=200), tmp_path)
    assert all(high - low > 0.05 for low, high in ((r["ci95_low"], r["ci95_high"]) for r in result.table.records))
    assert "2 image groups" in result.warnings[0].text


def test_a12_fit_and_evaluate_warn_of_a_store_with_few_wrong_answers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SMALL / "tiny.zarr", tmp_path / "tiny.zarr")
    shutil.copytree(SMALL / "tiny.zarr.scores", tmp_path / "tiny.zarr.scores")
    asked = build("fit", {"method": "question-kind", "store": "tiny.zarr", "out": "router"})
    fitted = steps.run(asked)
    assert fitted.warnings[0].text.startswith("training samples: only 2 of 16 answers are wrong")
    assert steps.run(asked).warnings == fitted.warnings
    evaluated = steps.run(build("evaluate", {"store": "tiny.zarr", "bootstrap": 100}))
    assert any(warning.text.startswith("only ") for warning in evaluated.warnings)
    again = steps.run(build("evaluate", {"store": "tiny.zarr", "bootstrap": 100}))
    assert again.reused and again.warnings == evaluated.warnings and evaluated.to_json()["warnings"]


def two_equal(n, wrong, rng, per_group=1):
    correct = np.ones(n, bool)
    correct[rng.choice(n, wrong, replace=False)] = False
    group = rng.permutation(np.arange(n) // per_group)
    shared = rng.normal(size=n)[group]
    scores = [(shared + rng.normal(size=n)) / np.sqrt(2) + correct for _ in range(2)]
    return correct, np.stack(scores), group.astype(str)


@pytest.mark.parametrize("wrong", [1, 2, 3, 5, 9, 10, 20])
@pytest.mark.parametrize("per_group", [1, 3])
def test_a12_two_equal_methods_are_hardly_ever_called_different(wrong, per_group):
    rng, different = np.random.default_rng(wrong), 0
    for _ in range(200):
        correct, scores, groups = two_equal(300, wrong, rng, per_group)
        first, second = bootstrap_auc(correct, scores, groups, 1, 0)
        different += judged(first.minus(second).test()).verdict in ("higher", "lower")
    assert different <= 0.08 * 200  # at most 5.5 % in the long run: `bench_coverage.py`
    assert wrong >= 9 or not different


@pytest.mark.parametrize(("n", "wrong"), [(20, 5), (20, 10), (61, 5), (300, 5), (300, 10), (300, 20)])
@pytest.mark.parametrize("per_group", [1, 3])
def test_a12_the_interval_keeps_its_coverage(n, wrong, per_group):
    rng, true, hits = np.random.default_rng(n + wrong), norm.cdf(1 / np.sqrt(2)), 0
    for _ in range(300):
        correct, scores, groups = two_equal(n, wrong, rng, per_group)
        low, high = bootstrap_auc(correct, scores[:1], groups, 1, 0)[0].ci95
        hits += low <= true <= high
    assert 0.91 * 300 <= hits <= 0.99 * 300
