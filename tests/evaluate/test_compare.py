"""Two reports compared: paired where the samples are the same, with differences recomputed."""

import json

import numpy as np
import polars as pl
import pytest
from made_reports import make_report
from sklearn.metrics import roc_auc_score

from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.compare import compare_reports


def mean_auc(inputs, name):
    scores = next(method.scores for method in inputs.methods if method.name == name)
    return np.mean([roc_auc_score(inputs.correct, row) for row in scores])


def test_same_samples_are_paired(tmp_path):
    one = make_report(tmp_path / "a", seed=1)
    two = make_report(tmp_path / "b", seed=1, methods={"probe": 0.05, "relope": 0.6, "posthoc": 0.1})
    comparison = compare_reports(tmp_path / "a", tmp_path / "b", 400, 0)
    changes = {change.method: change for change in comparison.changes}
    assert comparison.paired and comparison.only_in_second == ["posthoc"]
    assert changes["relope"].comparison.value == pytest.approx(mean_auc(two, "relope") - mean_auc(one, "relope"))
    assert changes["relope"].verdict == "higher" and changes["relope"].comparison.ci95[0] > 0
    assert "paired" in comparison.what and "only in the second: posthoc" in comparison.what
    said = json.loads(json.dumps(comparison.to_json()))
    assert [row["change"] for row in said["records"]] == [change.comparison.value for change in comparison.changes]
    assert said["rows"][1][0] == "relope" and said["rows"][1][3].startswith(
        f"{100 * changes['relope'].comparison.value:+.1f} ("
    )


def test_a_report_against_itself_has_not_changed(tmp_path):
    make_report(tmp_path / "a")
    comparison = compare_reports(tmp_path / "a", tmp_path / "a", 100, 0)
    assert all((change.comparison.value, change.comparison.ci95) == (0, (0, 0)) for change in comparison.changes)
    assert {change.verdict for change in comparison.changes} == {
        "no change shown"
    } and comparison.settings_changed == []


def test_other_samples_are_not_paired(tmp_path):
    make_report(tmp_path / "a", seed=1)
    make_report(tmp_path / "b", seed=1, prefix="x", dataset="other")
    comparison = compare_reports(tmp_path / "a", tmp_path / "b", 100, 0)
    assert not comparison.paired and "not paired" in comparison.what
    assert comparison.settings_changed == ["dataset"]
    low, high = comparison.changes[0].comparison.ci95
    assert high > low


def test_mistakes_are_refused_with_both_sides_named(tmp_path):
    make_report(tmp_path / "a", methods={"probe": 0.1})
    make_report(tmp_path / "b", methods={"relope": 0.1})
    with pytest.raises(InvalidInputError, match=r"a has the methods probe, .*b has relope"):
        compare_reports(tmp_path / "a", tmp_path / "b", 100, 0)
    with pytest.raises(NotFoundError, match=r"has no report.json"):
        compare_reports(tmp_path / "a", tmp_path / "none", 100, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: pl.concat([t.head(len(t) - 1), t.head(1)]),
            r"2 of 160 rows have .* repeated .*first: s0",
        ),
        (
            lambda t: t.with_columns(pl.lit(float("nan")).alias("score probe@seed1")),
            r"160 of 160 scores of probe@seed1",
        ),
        (lambda t: t.with_columns(pl.col("score probe@seed0") + 1), r"s0 has 1\.\d+\); a score is P\(correct\)"),
        (lambda t: t.with_columns(pl.col("score probe@seed0").cast(pl.String)), r"are not in \[0, 1\]"),
        (
            lambda t: t.with_columns(correct=pl.col("correct").replace(True, None)),
            r"correct is Boolean with \d+",
        ),
        (lambda t: t.drop("group"), r"b cannot be read .*group"),
        (lambda t: t.head(100), r"about 160 samples and 2 methods, scores.parquet about 100 and 2"),
    ],
)
def test_damaged_samples_are_refused(change, message, tmp_path):
    for name in ("a", "b"):
        make_report(tmp_path / name)
    path = tmp_path / "b" / "scores.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(InvalidInputError, match=message):
        compare_reports(tmp_path / "a", tmp_path / "b", 100, 0)


def test_a_report_that_lacks_something_is_refused(tmp_path):
    make_report(tmp_path / "a")
    path = tmp_path / "a" / "report.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "provenance"})
    )
    with pytest.raises(InvalidInputError, match=r"a cannot be read \(report.json lacks provenance\)"):
        compare_reports(tmp_path / "a", tmp_path / "a", 100, 0)


def test_one_class_has_no_change_but_a_reason(tmp_path):
    make_report(tmp_path / "a")
    make_report(tmp_path / "b", correct=np.ones(160, bool))
    comparison = compare_reports(tmp_path / "a", tmp_path / "b", 100, 0)
    assert "b: all 160 answers are right: AUC needs both kinds" in comparison.what
    for row in comparison.to_json()["records"]:
        assert row["first"] is not None and row["second"] is None and row["change"] is None and row["ci95"] is None
        assert row["null_reason"] == "all 160 answers are right: AUC needs both kinds"
