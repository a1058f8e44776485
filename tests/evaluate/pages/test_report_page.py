"""The report's page, its tables and what a terminal shows: safe, whole, and in words that are true."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from synthetic_report import N, build, by_name, synthetic

from relope.evaluate.pages.escape import latex_text
from relope.evaluate.pages.scale import Scale
from relope.evaluate.pages.wording import plain
from relope.evaluate.report import MethodScores, read_report, terminal_table
from relope.types import ResultWarning


def test_everything_a_user_wrote_is_escaped(tmp_path):
    _, _, page = build(tmp_path)
    assert "Is &lt;b&gt;this&lt;/b&gt; &amp; that &lt;script&gt;" in page
    for text in ("<b>this", "<b>title", "<b>note", "<i>yes", "<u>never"):
        assert text not in page


def test_method_names_are_escaped_and_never_read_as_mathematics(tmp_path):
    methods = [dataclasses.replace(synthetic().methods[0], name="a<b>$x^2$ & co")]
    _, _, page = build(tmp_path, methods=methods)
    assert "a&lt;b&gt;$x^2$ &amp; co" in page and "<b>$" not in page


def test_images_are_embedded_and_missing_ones_said(tmp_path):
    _, _, page = build(tmp_path)
    assert 0 < page.count("data:image/png;base64,") <= 18 and "image-rendering: pixelated" in page
    _, _, page = build(tmp_path, images=lambda sample_id: None)
    assert "data:image" not in page and page.count(">no image<") == 18


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


def test_the_terminal_shows_every_method(tmp_path):
    _, report, _ = build(tmp_path)
    table = terminal_table(read_report(tmp_path / "out")).text
    rows = table.rows
    assert table.title == f"AUC of P(correct) on {N} samples" and all(len(row) == len(table.columns) for row in rows)
    assert rows[0][:2] == ["relope", f"{report['methods'][0]['auc']:.3f}"] and rows[0][4] == "higher"
    assert rows[-1][0] == "question-kind (control)"


def test_the_terminal_leaves_out_columns_that_nothing_stands_in(tmp_path):
    build(tmp_path)
    report = read_report(tmp_path / "out")
    alone = dataclasses.replace(
        report, methods=tuple(dataclasses.replace(row, difference_to_probe=None) for row in report.methods)
    )
    assert terminal_table(report).text.columns[3:5] == ["vs probe", "verdict"]
    table = terminal_table(alone).text
    assert "verdict" not in table.columns and all(len(row) == len(table.columns) for row in table.rows)


def test_warnings_come_once_worst_first_in_the_report_and_at_the_top_of_the_page(tmp_path):
    note, wrong = ResultWarning("note", "small print"), ResultWarning("wrong", "probe learned from <b>test</b>")
    _, report, page = build(tmp_path, warnings=(note, wrong, note))
    assert [warning["text"] for warning in report["warnings"]] == [wrong.text, note.text]
    assert read_report(tmp_path / "out").warnings == (wrong, note)
    assert page.index("probe learned from &lt;b&gt;test") < page.index("small print") < page.index('class="tiles"')


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
