"""Studies: every number recomputed with scikit-learn, published ones beside ours, mistakes refused."""

import csv
import json

import numpy as np
import polars as pl
import pytest
from made_reports import N, made_sweep, make_report
from sklearn.metrics import roc_auc_score

from relope.errors import InvalidInputError, NotFoundError
from relope.evaluate.numbers import estimates
from relope.evaluate.numbers.bootstrap import resample_weights
from relope.evaluate.numbers.heldout import HELD
from relope.evaluate.studies import published
from relope.evaluate.studies.inputs import StudyRequest
from relope.evaluate.studies.make import make_study, read_table


def study(tmp_path, kind, *folders, **more):
    request = StudyRequest(kind, tuple(map(str, folders)), bootstrap=100, **more)
    made = make_study(request, tmp_path / "study")
    result = json.loads((tmp_path / "study/study.json").read_text())
    assert made.to_json() == result
    assert read_table(tmp_path / "study").text == made.table.text
    page = (tmp_path / "study/study.html").read_text()
    assert "<script" not in page and "http://" not in page and "https://" not in page and "#0102" not in page
    for table in result["tables"]:
        for ending in ("md", "tex", "csv"):
            assert (tmp_path / f"study/tables/{table['name']}.{ending}").stat().st_size
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    return result, page


def records(result, table=0, **wanted):
    return [
        row for row in result["tables"][table]["records"] if all(row.get(key) == value for key, value in wanted.items())
    ]


def truth(inputs, method):
    """The mean over seeds of scikit-learn's AUC."""
    scores = next(one.scores for one in inputs.methods if one.name == method)
    return np.mean([roc_auc_score(inputs.correct, row) for row in scores])


def test_table2_recomputed_and_beside_the_paper(tmp_path):
    one = make_report(tmp_path / "r/a", model="qwen2.5-vl-7b", dataset="mmmu", seed=1)
    two = make_report(tmp_path / "r/b", model="qwen2.5-vl-7b", dataset="chartqa", seed=2, prefix="c")
    result, page = study(tmp_path, "table2", tmp_path / "r")
    for inputs, data in ((one, "mmmu"), (two, "chartqa")):
        for method in ("probe", "relope"):
            (row,) = records(result, data=data, method=method)
            assert row["value"] == pytest.approx(truth(inputs, method), abs=1e-12)
            assert row["ci95_low"] < row["value"] < row["ci95_high"]
            assert (row["n"], row["groups"], row["seeds"]) == (N, N // 2, 2)
    assert records(result, data="mmmu", method="relope")[0]["published"] == pytest.approx(0.8089)
    assert "paper 80.9" in page and "arXiv 2603.24787" in page
    average = np.mean([truth(one, "relope"), truth(two, "relope")])
    assert result["tables"][0]["rows"][1][-1].startswith(f"{100 * average:.1f} (")
    (gap,) = records(result, table=1, method="relope")
    assert gap["difference"] == pytest.approx(average - np.mean([truth(one, "probe"), truth(two, "probe")]))
    assert gap["verdict"] == "higher" and gap["data_sets"] == 2


def test_six_printed_averages_are_not_the_mean_of_their_row():
    wrong = [row for row in published.rows("table2") if abs(published.average(row) - float(row["avg_printed"])) > 0.011]
    assert len(wrong) == 6 and all(row["avg_matches"] == "NO" for row in wrong)


def test_two_reports_of_one_data_set_are_refused(tmp_path):
    for name in "ab":
        make_report(tmp_path / name)
    with pytest.raises(InvalidInputError, match="both about tiny-vl on tiny"):
        study(tmp_path, "table2", tmp_path / "a", tmp_path / "b")


def test_table1_pairs_conditions_by_sample(tmp_path):
    with_images = make_report(tmp_path / "p", seed=1, text_only=False)
    text = make_report(tmp_path / "t", seed=2, text_only=True)
    result, _ = study(tmp_path, "table1", tmp_path / "p", tmp_path / "t")
    (gap,) = records(result, method="relope", condition="difference")
    assert gap["value"] == pytest.approx(truth(with_images, "relope") - truth(text, "relope"))
    assert gap["ci95_low"] < gap["value"] < gap["ci95_high"]
    assert not any("Not paired" in note for note in result["tables"][0]["notes"])
    with pytest.raises(InvalidInputError, match="got 0 and 1"):
        study(tmp_path, "table1", tmp_path / "p")


def test_table1_says_when_it_cannot_pair(tmp_path):
    make_report(tmp_path / "p", seed=1, text_only=False)
    make_report(tmp_path / "t", seed=2, prefix="other", text_only=True)
    result, _ = study(tmp_path, "table1", tmp_path / "p", tmp_path / "t")
    assert any(note.startswith("Not paired") for note in result["tables"][0]["notes"])


def test_table1_sets_the_text_subset_against_the_questions_with_pictures(tmp_path):
    with_images = make_report(tmp_path / "p", dataset="scienceqa", seed=1)
    text = make_report(tmp_path / "t", dataset="scienceqa-text", seed=2, prefix="other")
    result, _ = study(tmp_path, "table1", tmp_path / "p", tmp_path / "t")
    for condition, data, inputs in (("text only", "scienceqa-text", text), ("multimodal", "scienceqa", with_images)):
        (row,) = records(result, method="relope", condition=condition)
        assert row["data"] == data
        assert row["value"] == pytest.approx(truth(inputs, "relope"), abs=1e-12)
    assert any(
        note == f"Not paired, other samples: scienceqa (text only: scienceqa-text, n={N:,})."
        for note in result["tables"][0]["notes"]
    )


def test_table3_keeps_regenerated_and_frozen_labels_apart(tmp_path):
    clean = make_report(tmp_path / "clean", seed=1)
    made = {}
    for number, kind in enumerate(("noise", "jpeg", "blur")):
        shown = {"kind": kind, "strength": 1.0}
        made[kind] = make_report(tmp_path / kind, seed=2 + number, perturbation=shown)
        make_report(tmp_path / f"{kind}-f", seed=5, correct=clean.correct, perturbation=shown, labels_frozen=True)
    folders = [tmp_path / "clean", *(tmp_path / f"{kind}{end}" for kind in made for end in ("", "-f"))]
    result, _ = study(tmp_path, "table3", *folders)
    assert [table["name"] for table in result["tables"]] == [
        "table3_regenerated",
        "table3_frozen",
        "table3_published",
    ]
    (lost,) = records(result, method="relope", images="clean − mean")
    assert lost["value"] == pytest.approx(
        truth(clean, "relope") - np.mean([truth(one, "relope") for one in made.values()])
    )
    assert result["tables"][0]["columns"] == ["method", "clean", "noise", "jpeg", "blur", "ΔAUC"]
    with pytest.raises(InvalidInputError, match="got 1 clean of 1"):
        study(tmp_path, "table3", tmp_path / "clean")


def test_table4_needs_routers_of_other_data(tmp_path):
    make_report(tmp_path / "own")
    with pytest.raises(InvalidInputError, match="fitted on other data sets; none") as caught:
        study(tmp_path, "table4", tmp_path / "own")
    assert "--leave-out" in caught.value.hint
    make_report(tmp_path / "moved", dataset="tiny-bars", transferred=["probe", "relope"])
    result, _ = study(tmp_path, "table4", tmp_path)
    assert {row["data"] for row in result["tables"][0]["records"]} == {"tiny-bars"}


def test_figure2_draws_every_method_and_keeps_the_numbers(tmp_path):
    make_report(tmp_path / "a")
    result, page = study(tmp_path, "figure2", tmp_path / "a")
    report = json.loads((tmp_path / "a/report.json").read_text())
    (row,) = [row for row in report["methods"] if row["method"] == "relope"]
    assert records(result, method="relope", metric="apgr")[0]["value"] == row["metrics"]["apgr"]["value"]
    assert page.count(">relope ") >= 1 and page.count(">relope<") >= 1 and "share of questions escalated" in page
    make_report(tmp_path / "b", large=False)
    with pytest.raises(InvalidInputError, match=r"needs reports with a large model$") as caught:
        study(tmp_path, "figure2", tmp_path / "b")
    assert "--large-store" in caught.value.hint


def test_figure2_says_why_a_gap_has_no_interval_or_no_value(tmp_path):
    right = np.random.default_rng(0).random(N) < 0.6  # as often as the small model, but for one answer
    for name, large in (("a", right ^ (np.arange(N) == np.flatnonzero(~right)[0])), ("b", np.zeros(N, bool))):
        make_report(tmp_path / name, correct=right, large=large, dataset=name)
    result, page = study(tmp_path, "figure2", tmp_path / "a", tmp_path / "b")
    one, none = (records(result, method="relope", metric="apgr", data=name)[0] for name in ("a", "b"))
    assert one["value"] is not None and one["ci95_low"] is None and one["dropped"] > 0.05
    assert f"APGR, CPT and QNC, tiny-vl on a: no interval: undefined on {one['dropped']:.1%} of the resamples" in page
    assert none["value"] is None and "APGR, CPT and QNC, tiny-vl on b: the large model is right on 0 samples" in page
    cells = {row[1]: row[6] for row in result["tables"][0]["rows"]}
    assert cells["a"].endswith(" (no interval)") and cells["b"] == "—"


def test_what_is_missing_is_said_below_the_table(tmp_path):
    make_report(tmp_path / "r/a", dataset="one", correct=np.ones(N, bool))
    make_report(tmp_path / "r/b", dataset="two", methods={"probe": 0.1})
    result, page = study(tmp_path, "table2", tmp_path / "r")
    assert result["tables"][0]["rows"][1][2:] == ["—", "—", "—"]
    for note in (f"— (one): all {N} answers are right: AUC needs both kinds.", "— (two): relope was not run."):
        assert note in result["tables"][0]["notes"] and note in page


def test_a_method_of_one_side_alone_has_no_difference(tmp_path):
    make_report(tmp_path / "r/a", methods={"probe": 0.1})
    make_report(tmp_path / "r/b", text_only=True)
    result, _ = study(tmp_path, "table1", tmp_path / "r", methods=("probe", "relope"))
    (gap,) = records(result, method="relope", condition="difference")
    assert gap["value"] is None and gap["null_reason"] == "relope was not run"
    assert records(result, method="probe", condition="difference")[0]["value"] is not None
    make_report(tmp_path / "p/a")
    make_report(tmp_path / "p/b", methods={"probe": 0.1}, perturbation="noise")
    result, _ = study(tmp_path, "table3", tmp_path / "p")
    assert records(result, method="relope", images="clean − mean")[0]["value"] is None


def test_pages_are_written_for_people(tmp_path):
    make_report(tmp_path / "r/a", model="small-1", dataset="one")
    make_report(tmp_path / "r/b", model="small-2", dataset="one", seed=1)
    result, page = study(tmp_path, "table2", tmp_path / "r")
    assert f"one<br>n={N}" in page and page.count('<tr class="group">') >= 4 and ">small-2</th>" in page
    assert f"relope {result['versions']['relope']}, python" in page and "{&quot;" not in page
    for folder, model in (("a", "small-1"), ("b", "small-2")):
        assert f"<dt>{tmp_path}/r/{folder}</dt><dd>{model} on one; n = {N}</dd>" in page
    assert "\n| small-1 | probe |" in (tmp_path / "study/tables/table2.md").read_text()


def test_figure2_names_every_method_but_the_controls(tmp_path):
    methods = {f"m{number}": 0.9 - number / 10 for number in range(8)}
    make_report(tmp_path / "a", methods={**methods, "question-kind": 0.01})
    result, page = study(tmp_path, "figure2", tmp_path / "a")
    assert "Not drawn, since they are controls: question-kind." in page
    assert all(f">m{number} " in page for number in range(8))
    (row,) = [row for row in result["tables"][0]["rows"] if row[2] == "m0"]
    assert row[3].count("(") == 1 and row[6].count("–") == 1
    make_report(tmp_path / "b", methods={"m0": 0.5})
    make_report(tmp_path / "c", methods={"m0": 0.5}, model="another")
    _, page = study(tmp_path, "figure2", tmp_path / "b", tmp_path / "c")
    assert "Not drawn" not in page and page.count('class="figure"') == 2


def test_figure3_averages_runs(tmp_path):
    rows = [
        {"method": "relope", "lora_rank": rank, "layer": 4, "seed": seed, "inner_auc": 0.7 + rank / 100 + seed / 100}
        for rank in (2, 8)
        for seed in (0, 1)
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "rank.parquet")
    result, page = study(tmp_path, "figure3", sweeps=(str(tmp_path / "rank.parquet"),))
    first, second = result["tables"][0]["records"]
    assert (first["setting"], first["value"], first["runs"]) == ("lora_rank", 2, 2)
    assert first["auc"] == pytest.approx(0.725) and second["auc"] == pytest.approx(0.785)
    assert first["sd_over_seeds"] == pytest.approx(np.std([0.72, 0.73], ddof=1)) and "LoRA rank" in page
    assert first["ci95_low"] is None and first["n"] is None and "an older sweep" in first["null_reason"]
    assert "No interval: an older sweep" in page and result["tables"][0]["rows"][0][3] == "72.5"
    with pytest.raises(NotFoundError, match=r"no\.parquet does not exist$") as caught:
        study(tmp_path, "figure3", sweeps=(str(tmp_path / "no.parquet"),))
    assert "relope sweep" in caught.value.hint
    with pytest.raises(InvalidInputError, match=r"figure3 is made of sweeps, and none was given$") as caught:
        study(tmp_path, "figure3", tmp_path)
    assert "--sweeps" in caught.value.hint


def test_figure3_draws_groups_once_for_all_runs(tmp_path, monkeypatch):
    """Against scikit-learn on samples that are really repeated."""
    monkeypatch.setattr(estimates, "RESAMPLED_FROM", 1)  # as if so few were enough
    rows = made_sweep(tmp_path / "rank.parquet")
    result, page = study(tmp_path, "figure3", sweeps=(str(tmp_path / "rank.parquet"),))
    first, second = records(result, setting="lora_rank")
    names = sorted({group for row in rows for group in row["held_group"]})
    weights = [w for part in resample_weights(np.array(names).astype(str), 100, 0) for w in part.T]

    def drawn(row, weight):
        times = weight[np.searchsorted(names, row["held_group"])].astype(int)
        return roc_auc_score(np.repeat(row["held_correct"], times), np.repeat(row["held_score"], times))

    def means(rank):
        return np.array([np.mean([drawn(row, w) for row in rows if row["lora_rank"] == rank]) for w in weights])

    for row, rank in ((first, 2), (second, 8)):
        mine = [one["inner_auc"] for one in rows if one["lora_rank"] == rank]
        assert row["auc"] == pytest.approx(np.mean(mine), abs=1e-12)
        assert [row["ci95_low"], row["ci95_high"]] == pytest.approx(np.percentile(means(rank), (2.5, 97.5)), abs=1e-12)
        assert row["sd_over_seeds"] == pytest.approx(np.std([np.mean(mine[:2]), np.mean(mine[2:])], ddof=1))
        assert (row["n"], row["n_most"], row["groups"], row["runs"], row["seeds"]) == (40, 44, len(names), 4, 2)
        assert (row["model"], row["data"], row["null_reason"]) == ("tiny-vl", "d", None)
    assert second["difference_to_best"] is None and first["difference_to_best"] == first["auc"] - second["auc"]
    gap = np.percentile(means(2) - means(8), (2.5, 97.5))
    assert [first["difference_low"], first["difference_high"]] == pytest.approx(gap, abs=1e-12)
    assert "tiny-vl on d" in result["what"] and "40–44 samples" in result["what"] and "inner AUC, n=40–44" in page


def test_figure3_of_one_class_has_no_interval_but_a_reason(tmp_path):
    rows = made_sweep(tmp_path / "rank.parquet")
    for row in rows:
        row["held_correct"] = [True] * len(row["held_correct"])
    pl.DataFrame(rows, schema_overrides=HELD).write_parquet(tmp_path / "rank.parquet")
    result, _ = study(tmp_path, "figure3", sweeps=(str(tmp_path / "rank.parquet"),))
    assert {(row["ci95_low"], row["null_reason"]) for row in records(result)} == {
        (None, "a run held out right or wrong answers only")
    }


def test_data_efficiency_reads_n_from_the_name(tmp_path):
    inputs = make_report(tmp_path / "a", methods={"probe@n50": 0.05, "probe@n200": 0.1, "relope@n50": 0.1})
    result, _ = study(tmp_path, "data-efficiency", tmp_path / "a")
    assert [row["labelled"] for row in records(result) if row["method"].startswith("probe")] == [50, 200]
    assert records(result, labelled=200)[0]["value"] == pytest.approx(truth(inputs, "probe@n200"))


def test_undefined_is_null_with_a_reason(tmp_path):
    make_report(tmp_path / "a", correct=np.ones(N, bool), large=False)
    result, _ = study(tmp_path, "table2", tmp_path / "a")
    (row,) = records(result, method="relope")
    assert row["value"] is None and row["null_reason"].startswith(f"all {N} answers are right")
    with (tmp_path / "study/tables/table2.csv").open() as file:
        assert next(csv.DictReader(file))["value"] == ""


def test_reports_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(NotFoundError, match="no report"):
        study(tmp_path, "table2", tmp_path)
    with pytest.raises(InvalidInputError, match=r"table2 is made of reports, and none was given$") as caught:
        study(tmp_path, "table2")
    assert "--reports" in caught.value.hint
    make_report(tmp_path / "a")
    pl.read_parquet(tmp_path / "a/scores.parquet").head(5).write_parquet(tmp_path / "a/scores.parquet")
    with pytest.raises(InvalidInputError, match=r"160 samples and 2 methods, scores\.parquet about 5 and 2"):
        study(tmp_path, "table2", tmp_path / "a")
