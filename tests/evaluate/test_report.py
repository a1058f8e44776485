"""The report: its numbers recomputed independently, its page safe and whole."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.metrics import brier_score_loss, roc_auc_score

from relope.errors import InvalidInputError
from relope.evaluate.numbers.records import Report
from relope.evaluate.numbers.routing import escalation_order
from relope.evaluate.numbers.significance import delong, holm
from relope.evaluate.pages.escape import latex_text
from relope.evaluate.pages.scale import Scale
from relope.evaluate.pages.wording import plain
from relope.evaluate.report import (
    MethodScores,
    ReportInputs,
    build_report,
    finished_report,
    read_report,
    terminal_table,
)
from relope.types import ResultWarning

N = 240
VOID = {"meta", "img", "br"}


def image(sample_id):
    return None if sample_id.endswith("7") else Image.new("RGB", (32, 20), (200, 40, 90))


def synthetic(**changes):
    rng = np.random.default_rng(0)
    correct = rng.random(N) < 0.6
    labels = pl.DataFrame(
        {
            "id": [f"s{i}" for i in range(N)],
            "split": ["test"] * N,
            "group": [f"g{i // 2}" for i in range(N)],
            "correct": correct,
            "question": ["Is <b>this</b> & that <script>alert(1)</script>?"] * N,
            "response": ['"<i>yes</i>"'] * N,
            "answers": [["no", "<u>never</u>"]] * N,
            "dataset": ["tiny"] * N,
            "kind": ["bars", "count", "clock"] * (N // 3),
        }
    )

    def method(name, strength, **more):
        return MethodScores(name, np.clip(rng.normal(0.5 + strength * correct, 0.15), 0, 1), **more)

    methods = [
        method("probe", 0.05, seconds_fit=2.0, note="a <b>note</b>"),
        method("relope", 0.2, seconds_fit=200.0),
        method("logprob", 0.02, needs_training=False),
        method("question-kind", 0.01, is_control=True),
    ]
    given = {
        "title": "A <b>title</b>",
        "what": "Something was run.",
        "small_name": "small",
        "large_name": "large",
        "dataset": "tiny",
        "labels": labels,
        "methods": methods,
        "large_correct": rng.random(N) < 0.85,
        "provenance": {"recipe_id": "r1"},
        "caveat": "Small numbers.",
        "images": image,
        "resamples": 400,
        "seed": 5,
    }
    return ReportInputs(**{**given, **changes})


def build(tmp_path, **changes):
    inputs = synthetic(**changes)
    built = build_report(inputs, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert built.to_json() == report
    assert read_report(tmp_path / "out") == Report.from_json(report)
    page = (tmp_path / "out" / "report.html").read_text()
    check_page(page)
    return inputs, report, page


class Balance(HTMLParser):
    """Fail on tags that are not closed in order, and collect ids."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(page):
    assert "<script" not in page and "http://" not in page and "https://" not in page and "@import" not in page
    assert "xmlns" not in page and "nan" not in re.sub(r"base64,[^\"]*", "", page).lower().split()
    assert set(re.findall(r'(?:src|href)="([^"#][^"]{0,4})', page)) <= {"data:"}
    balance = Balance()
    balance.feed(page)
    assert not balance.open
    assert len(balance.ids) == len(set(balance.ids))
    assert not balance.tags & {"script", "link", "iframe", "u", "i"}
    used = set(re.findall(r"url\(#([^)]*)\)", page)) | set(re.findall(r'href="#([^"]*)"', page))
    assert used <= set(balance.ids)


def by_name(report):
    return {row["method"]: row for row in report["methods"]}


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


def test_everything_a_user_wrote_is_escaped(tmp_path):
    _, _, page = build(tmp_path)
    assert "Is &lt;b&gt;this&lt;/b&gt; &amp; that &lt;script&gt;" in page
    for text in ("<b>this", "<b>title", "<b>note", "<i>yes", "<u>never"):
        assert text not in page


def test_method_names_are_escaped_and_never_read_as_mathematics(tmp_path):
    methods = [dataclasses.replace(synthetic().methods[0], name="a<b>$x^2$ & co")]
    _, _, page = build(tmp_path, methods=methods)
    assert "a&lt;b&gt;$x^2$ &amp; co" in page and "<b>$" not in page


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


def test_images_are_embedded_and_missing_ones_said(tmp_path):
    _, _, page = build(tmp_path)
    assert 0 < page.count("data:image/png;base64,") <= 18 and "image-rendering: pixelated" in page
    _, _, page = build(tmp_path, images=lambda sample_id: None)
    assert "data:image" not in page and page.count(">no image<") == 18


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


def test_words_admit_when_no_difference_is_shown(tmp_path):
    inputs = synthetic()
    noise = np.random.default_rng(1).normal(0, 0.001, N)
    same = MethodScores("same", np.clip(inputs.methods[0].scores + noise, 0, 1))
    _, report, page = build(tmp_path, methods=[inputs.methods[0], same])
    assert by_name(report)["same"]["difference_to_probe"]["verdict"] == "no difference shown"
    assert "no difference to probe is shown" in page and "The best AUC here is" in page


def test_more_methods_than_colours(tmp_path):
    inputs = synthetic()
    many = [dataclasses.replace(inputs.methods[2], name=f"method-{number}") for number in range(20)]
    _, _, page = build(tmp_path, methods=[*many, inputs.methods[0]])
    assert all(f">method-{number}<" in page for number in range(20))


def test_colours_follow_the_page(tmp_path):
    _, _, page = build(tmp_path)
    assert "#0102" not in page and "currentColor" in page and "prefers-color-scheme: dark" in page


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


def test_the_terminal_shows_every_method(tmp_path):
    _, report, _ = build(tmp_path)
    table = terminal_table(read_report(tmp_path / "out")).text
    rows = table.rows
    assert table.title == f"AUC of P(correct) on {N} samples" and all(len(row) == len(table.columns) for row in rows)
    assert rows[0][:2] == ["relope", f"{report['methods'][0]['auc']:.3f}"] and rows[0][4] == "higher"
    assert rows[-1][0] == "question-kind (control)"


def test_warnings_come_once_worst_first_in_the_report_and_at_the_top_of_the_page(tmp_path):
    note, wrong = ResultWarning("note", "small print"), ResultWarning("wrong", "probe learned from <b>test</b>")
    _, report, page = build(tmp_path, warnings=(note, wrong, note))
    assert [warning["text"] for warning in report["warnings"]] == [wrong.text, note.text]
    assert read_report(tmp_path / "out").warnings == (wrong, note)
    assert page.index("probe learned from &lt;b&gt;test") < page.index("small print") < page.index('class="tiles"')


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
    assert by_name(report)["relope"]["difference_to_probe"]["p_delong"] == expected and "DeLong" in page


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


def test_undefined_metrics_say_why(tmp_path):
    _, report, _ = build(tmp_path / "none", large_correct=None)
    metrics = by_name(report)["relope"]["metrics"]
    assert metrics["apgr"]["value"] is None and "not guessed" in metrics["apgr"]["null_reason"]
    _, report, page = build(tmp_path / "worse", large_correct=np.zeros(N, bool))
    metrics = by_name(report)["relope"]["metrics"]
    assert metrics["qnc"]["value"] is None and "no gap to recover" in metrics["qnc"]["null_reason"]
    assert "APGR, CPT and QNC are undefined" in page


def test_every_table_is_exported(tmp_path):
    _, report, _ = build(tmp_path)
    folder = tmp_path / "out/tables"
    assert {path.suffix for path in folder.iterdir()} == {".md", ".tex", ".csv"}
    metrics = pl.read_csv(folder / "metrics.csv")
    row = metrics.filter((pl.col("method") == "relope") & (pl.col("metric") == "apgr")).to_dicts()[0]
    assert row["value"] == pytest.approx(by_name(report)["relope"]["metrics"]["apgr"]["value"])
    assert row["ci95_low"] < row["value"] < row["ci95_high"] and row["n"] == N
    text = (folder / "methods.tex").read_text()
    assert text.count("\\begin{tabular}") == 1 and "\\toprule" in text
    assert latex_text("50 % & a_b − c") == "50 \\% \\& a\\_b $-$ c"


@pytest.mark.parametrize("span", [(0.5, 0.53), (0.48, 0.97), (0.61, 0.84), (0.0, 1.0), (0.7, 0.8)])
def test_the_numbers_of_a_scale_stand_apart(span):
    """A digit is about 7 pixels wide at this size."""
    scale = Scale.over([span], None)
    pixels = [float(scale.x(tick)) for tick in scale.ticks]
    texts = [scale.label(tick) for tick in scale.ticks]
    assert len(pixels) >= 2
    assert min(np.diff(pixels)) >= 7 * len(texts[0]) + 9
    assert all(scale.low - 1e-9 <= float(text) <= scale.high + 1e-9 for text in texts)


def test_slices_below_the_whole_are_marked(tmp_path):
    labels = synthetic().labels.with_columns(
        kind=pl.when(pl.int_range(N) % 3 == 0).then(pl.lit("hard")).otherwise(pl.lit("easy"))
    )
    good = np.where(labels["kind"] == "easy", labels["correct"], np.random.default_rng(1).random(N))
    _, report, page = build(tmp_path, labels=labels, methods=[MethodScores("relope", good)])
    part = page[page.index("<h2>Parts of the data</h2>") : page.index("<h2>What the methods cost</h2>")]
    hard = next(row for row in report["slices"] if row["value"] == "hard")
    assert hard["ci95"][1] < report["methods"][0]["auc"] and part.count('stroke="var(--s2)"') == 1
    assert part.index("<td>hard</td>") < part.index('stroke="var(--s2)"')


def test_settings_are_written_as_a_person_reads_them():
    digest = "0123456789abcdef" * 4
    assert [plain(value) for value in (None, True, False, [], {}, 3)] == ["—", "yes", "no", "none", "none", "3"]
    assert plain(digest) == digest[:12] and plain(["a", "b"]) == "a, b"
    assert plain({"x_y": ["a"], "z": ["a", "b"]}) == "x y a, z (a, b)"
    assert plain({"m": {"price": 1.5, "speed": None}}) == "m (price 1.5, speed —)"
