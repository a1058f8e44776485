"""The report: its numbers recomputed independently, what it refuses, and how it is read again."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from synthetic_report import N, build, by_name, synthetic

from relope.errors import InvalidInputError
from relope.evaluate.numbers.routing import escalation_order
from relope.evaluate.numbers.significance import delong, holm
from relope.evaluate.pages.tables import slice_tables
from relope.evaluate.report import MethodScores, build_report, finished_report, read_report, terminal_table


def test_json_equals_an_independent_recomputation(tmp_path):
    inputs, report, _ = build(tmp_path)
    correct, rows = inputs.labels["correct"].to_numpy(), by_name(report)
    for method in inputs.methods:
        row = rows[method.name]
        assert row["auc"] == pytest.approx(roc_auc_score(correct, method.scores), abs=1e-12)
        assert row["metrics"]["brier"]["value"] == pytest.approx(brier_score_loss(correct, method.scores), abs=1e-12)
        escalated = escalation_order(np.asarray(method.scores), 5)[: N // 5]
        system = correct.copy()
        system[escalated] = inputs.large_correct[escalated]
        assert row["accuracy_at"]["0.2"] == pytest.approx(system.mean())
        assert row["accuracy_at_ci95"]["0.2"][0] <= row["accuracy_at"]["0.2"] <= row["accuracy_at_ci95"]["0.2"][1]
        assert (row["n"], row["n_groups"], row["n_correct"]) == (N, N // 2, int(correct.sum()))
        assert row["ci95"][0] < row["auc"] < row["ci95"][1]
    gap = rows["relope"]["difference_to_probe"]
    assert gap["value"] == pytest.approx(rows["relope"]["auc"] - rows["probe"]["auc"])
    assert gap["verdict"] == "higher" and rows["probe"]["difference_to_probe"] is None
    over = rows["question-kind"]["best_over_control"]
    assert over["value"] == pytest.approx(rows["relope"]["auc"] - rows["question-kind"]["auc"])
    assert report["best"] == "relope" and [row["method"] for row in report["methods"]][-1] == "question-kind"
    assert report["hybrid"]["small_accuracy"] == pytest.approx(correct.mean())
    assert report["hybrid"]["large_accuracy"] == pytest.approx(inputs.large_correct.mean())


def test_slices_equal_an_independent_recomputation(tmp_path):
    inputs, report, _ = build(tmp_path)
    best = next(method for method in inputs.methods if method.name == report["best"])
    rows = [row for row in report["slices"] if row["column"] == "kind"]
    assert [row["value"] for row in rows] == ["bars", "clock", "count"]
    gone = np.zeros(N, bool)
    gone[escalation_order(np.asarray(best.scores), 5)[: N // 5]] = True
    for row in rows:
        inside = (inputs.labels["kind"] == row["value"]).to_numpy()
        correct = inputs.labels["correct"].to_numpy()[inside]
        assert row["n"] == inside.sum() and row["small_accuracy"] == pytest.approx(correct.mean())
        assert row["auc"] == pytest.approx(roc_auc_score(correct, best.scores[inside]), abs=1e-12)
        assert row["large_accuracy"] == pytest.approx(inputs.large_correct[inside].mean())
        assert row["escalated"] == pytest.approx(gone[inside].mean())
        assert row["kept_accuracy"] == pytest.approx(correct[~gone[inside]].mean())


def test_two_builds_give_the_same_bytes(tmp_path):
    build(tmp_path / "one")
    build(tmp_path / "two")
    for name in ("report.html", "report.json"):
        assert (tmp_path / "one/out" / name).read_bytes() == (tmp_path / "two/out" / name).read_bytes()


def test_times_stand_only_under_seconds(tmp_path):
    inputs, first, _ = build(tmp_path)
    slower = [dataclasses.replace(method, seconds_fit=99.0) for method in inputs.methods]
    second = build_report(synthetic(methods=slower), tmp_path / "slow").to_json()

    def without(value):
        if isinstance(value, dict):
            return {key: without(inner) for key, inner in value.items() if not key.startswith("seconds_")}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    assert first != second and without(first) == without(second)


def test_without_a_large_model_nothing_is_guessed(tmp_path):
    inputs, report, page = build(tmp_path, large_correct=None)
    assert report["accuracy_at_is"] == "kept" and report["hybrid"]["large_accuracy"] is None
    assert "not guessed" in report["hybrid"]["large_accuracy_null_reason"]
    scores, correct = np.asarray(inputs.methods[1].scores), inputs.labels["correct"].to_numpy()
    kept = escalation_order(scores, 5)[N // 5 :]
    assert by_name(report)["relope"]["accuracy_at"]["0.2"] == pytest.approx(correct[kept].mean())
    assert "The large model was not run" in page and "on what it keeps" in page


@pytest.mark.parametrize("value", [True, False])
def test_one_class_has_no_auc_but_a_reason(tmp_path, value):
    labels = synthetic().labels.with_columns(correct=pl.lit(value))
    _, report, page = build(tmp_path, labels=labels)
    for row in report["methods"]:
        assert row["auc"] is None and row["ci95"] is None and row["difference_to_probe"] is None
        assert row["auc_null_reason"].startswith(f"all {N} answers are {'right' if value else 'wrong'}")
    assert page.count("AUC needs both kinds") >= 4 and "—" in page
    assert report["best"] == "probe"


def test_one_method_one_sample_and_one_kind(tmp_path):
    inputs = synthetic()
    build(tmp_path / "method", methods=inputs.methods[:1])
    one = [dataclasses.replace(method, scores=method.scores[:1]) for method in inputs.methods]
    build(tmp_path / "sample", labels=inputs.labels[:1], methods=one, large_correct=np.array([True]))
    _, report, page = build(tmp_path / "kind", labels=inputs.labels.drop("kind"))
    assert [row["column"] for row in report["slices"]] == ["dataset"] and "data set" in page


def test_only_controls_can_be_reported(tmp_path):
    _, report, _ = build(tmp_path, methods=synthetic().methods[3:])
    assert report["best"] == "question-kind"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": []}, "no scores"),
        ({"methods": [MethodScores("a", np.zeros(N))] * 2}, "comes 2 times"),
        ({"methods": [MethodScores("a", np.zeros(3))]}, "shape"),
        ({"methods": [MethodScores("a", np.full(N, np.nan))]}, "NaN"),
        ({"large_correct": np.array([True])}, "1 labels for 240"),
        ({"labels": synthetic().labels.drop("group")}, "lack the columns group"),
        ({"labels": synthetic().labels[:0]}, "no test samples"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InvalidInputError, match=message):
        synthetic(**change)


def test_a_finished_report_is_known_by_its_fingerprint(tmp_path):
    build(tmp_path, provenance={"fingerprint": "f1"})
    assert finished_report(tmp_path / "out", "f1") == read_report(tmp_path / "out")
    assert finished_report(tmp_path / "out", "f2") is None and finished_report(tmp_path / "none", "f1") is None
    (tmp_path / "out" / "report.json").write_text("{")
    assert finished_report(tmp_path / "out", "f1") is None


def test_a_report_of_format_1_is_still_read(tmp_path):
    """Format 1 had no metrics, costs, seeds and corrected p-values, and families in place of slices."""
    _, report, _ = build(tmp_path)
    kept = {"method", "note", "is_control", "needs_training", "seconds_fit", "n", "n_groups", "n_correct", "auc"}
    kept |= {"ci95", "auc_null_reason", "best_over_control", "accuracy_at", "accuracy_at_ci95", "area_over_random"}
    old = {key: value for key, value in report.items() if key not in ("slices", "random_curve", "oracle_curve")}
    old |= {"format_version": 1, "families": [{"name": "bars"}], "methods": []}
    for row in report["methods"]:
        gap = row["difference_to_probe"]
        gap = gap and {key: gap[key] for key in ("value", "ci95", "p", "verdict")}
        more = {"difference_to_probe": gap, "oracle_area_share": 0.3, "brier": 0.2}
        old["methods"].append({**{key: row[key] for key in kept}, **more})
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "report.json").write_text(json.dumps(old))
    first, second = (terminal_table(read_report(tmp_path / name)).text for name in ("old", "out"))
    assert first == second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 4}, "has format 4; this version reads 1 to 3"),
        ({"n": "many"}, "has n: "),
        ({"methods": [{"method": "probe"}]}, r"lacks methods\.0\."),
    ],
)
def test_a_report_that_is_none_is_refused(tmp_path, change, message):
    _, report, _ = build(tmp_path)
    (tmp_path / "out" / "report.json").write_text(json.dumps({**report, **change}))
    with pytest.raises(InvalidInputError, match=message):
        read_report(tmp_path / "out")


def test_delong_stands_beside_only_where_samples_are_independent(tmp_path):
    inputs, report, page = build(tmp_path / "grouped")
    assert by_name(report)["relope"]["difference_to_probe"]["p_delong"] is None and "DeLong" not in page
    single = inputs.labels.with_columns(group=pl.col("id"))
    inputs, report, page = build(tmp_path / "single", labels=single)
    scores = {method.name: np.asarray(method.scores, float) for method in inputs.methods}
    expected = delong(inputs.correct, scores["relope"], scores["probe"])
    assert by_name(report)["relope"]["difference_to_probe"]["p_delong"] == expected and "DeLong p" in page


@pytest.mark.parametrize("several", ["probe", "relope"])
def test_delong_is_left_out_beside_a_mean_over_seeds(tmp_path, several):
    single = synthetic().labels.with_columns(group=pl.col("id"))
    methods = [
        dataclasses.replace(method, scores=np.stack([method.scores, method.scores**2 / 2]), seeds=(0, 1))
        if method.name == several
        else method
        for method in synthetic().methods
    ]
    _, report, page = build(tmp_path, labels=single, methods=methods)
    gaps = {row["method"]: row["difference_to_probe"] for row in report["methods"] if row["difference_to_probe"]}
    left_out = {name for name, gap in gaps.items() if gap["p_delong"] is None}
    assert left_out == (set(gaps) if several == "probe" else {several})
    assert page.count("(DeLong —: it compares single seeds)") == len(left_out)


def test_verdicts_are_corrected_for_the_number_of_methods(tmp_path):
    _, report, _ = build(tmp_path)
    gaps = {row["method"]: row["difference_to_probe"] for row in report["methods"] if row["difference_to_probe"]}
    assert [gaps[name]["p_holm"] for name in gaps] == pytest.approx(holm([gaps[name]["p"] for name in gaps]))
    for gap in gaps.values():
        assert (gap["verdict"] == "no difference shown") == (gap["p_holm"] >= 0.05)


def test_seeds_are_shown_apart_from_sampling_error(tmp_path):
    inputs = synthetic()
    rng = np.random.default_rng(2)
    rows = np.stack([np.clip(inputs.methods[1].scores + rng.normal(0, 0.1, N), 0, 1) for _ in range(3)])
    methods = [inputs.methods[0], dataclasses.replace(inputs.methods[1], scores=rows, seeds=(0, 1, 2))]
    _, report, page = build(tmp_path, methods=methods)
    row, aucs = by_name(report)["relope"], [roc_auc_score(inputs.correct, scores) for scores in rows]
    assert row["auc_by_seed"] == pytest.approx(aucs) and row["auc"] == pytest.approx(np.mean(aucs))
    assert row["auc_sd_over_seeds"] == pytest.approx(np.std(aucs, ddof=1)) and "over 3 seeds" in page
    assert by_name(report)["probe"]["auc_sd_over_seeds"] is None
    kept = pl.read_parquet(tmp_path / "out/scores.parquet")
    assert np.array_equal(kept["score relope@seed2"], rows[2]) and kept["correct"].to_list() == inputs.correct.tolist()
    with pytest.raises(InvalidInputError, match="2 seeds"):
        synthetic(methods=[dataclasses.replace(methods[1], seeds=(0, 1))])


def test_parts_of_the_data_are_held_against_the_seed_that_they_are_of(tmp_path):
    inputs = synthetic()
    rows = np.stack([inputs.methods[1].scores, np.random.default_rng(2).random(N)])
    method = dataclasses.replace(inputs.methods[1], scores=rows, seeds=(0, 1))
    _, report, page = build(tmp_path / "two", methods=[method])
    of_first = roc_auc_score(inputs.correct, rows[0])
    assert by_name(report)["relope"]["auc"] < of_first - 0.1
    for part in report["slices"]:
        inside = (inputs.labels[part["column"]] == part["value"]).to_numpy()
        assert part["auc"] == pytest.approx(roc_auc_score(inputs.correct[inside], rows[0][inside]))
    (table,) = slice_tables(read_report(tmp_path / "two" / "out"))
    assert table.columns[-1].scale.reference == pytest.approx(of_first) and table.columns[-2].under == "first seed"
    assert page.count("Of the first seed where a method has several.") == 4 and "of the first seed as all" in page
    _, _, page = build(tmp_path / "one")
    assert "first seed" not in page.replace("Training of the first seed", "")


def test_undefined_metrics_say_why(tmp_path):
    _, report, _ = build(tmp_path / "none", large_correct=None)
    metrics = by_name(report)["relope"]["metrics"]
    assert metrics["apgr"]["value"] is None and "not guessed" in metrics["apgr"]["null_reason"]
    _, report, page = build(tmp_path / "worse", large_correct=np.zeros(N, bool))
    metrics = by_name(report)["relope"]["metrics"]
    assert metrics["qnc"]["value"] is None and "no gap to recover" in metrics["qnc"]["null_reason"]
    assert "APGR, CPT and QNC are undefined" in page
