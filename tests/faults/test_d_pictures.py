"""D, pictures: lines told apart, axes that end where shares do, a p-value on its own side, headings explained."""

import itertools
import re

import numpy as np
import pytest
from made_reports import made_sweep, make_report

from relope.evaluate.numbers.metrics import reliability
from relope.evaluate.pages import wording
from relope.evaluate.pages.detail_tables import ROUTING, budget_table, by_chance, routing_table
from relope.evaluate.pages.lines import line_styles
from relope.evaluate.pages.tables import methods_table
from relope.evaluate.report import read_report
from relope.evaluate.studies.inputs import StudyRequest
from relope.evaluate.studies.make import make_study

METHODS = {f"m{number:02d}": 0.3 - number / 80 for number in range(14)}


def test_d_no_two_lines_look_alike():
    names = [f"m{number}" for number in range(24)]
    styles = line_styles(["a-control", *names, "another"], ["a-control", "another"])
    looks = [(style["color"], repr(style["linestyle"])) for style in styles.values()]
    assert len(set(looks)) == 26 and styles["a-control"]["color"] == styles["another"]["color"]
    assert not {styles[name]["color"] for name in names} & {styles["another"]["color"]}
    without_colour = {(styles[name]["marker"], repr(styles[name]["linestyle"])) for name in names}
    assert len(without_colour) == 24, "in print, and to whoever sees colours otherwise"


def test_d_the_lines_of_a_page_differ_in_colour_or_dashes(tmp_path):
    make_report(tmp_path, methods={**METHODS, "question-kind": 0.01, "question-confidence": 0.02})
    page = (tmp_path / "report.html").read_text()
    figure = page[page.index('aria-label="Routing curves of all methods') :]
    left = figure[figure.index('id="all-axes_1"') : figure.index('id="all-axes_2"')]
    styles = [
        (re.search(r"stroke: ([^;\"]+)", style)[1], (re.search(r"stroke-dasharray: ([^;\"]+)", style) or [""])[0])
        for style in re.findall(r'<path d="[^"]{600,}" [^>]*style="([^"]*)"', left)
    ]
    assert len(styles) >= 16 and len(set(styles)) == len(styles)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0498, "p = 0.0498"),
        (0.04999, "p = 0.04999"),
        (0.05, "p = 0.050"),
        (0.0502, "p = 0.050"),
        (0.049999999, "p < 0.05"),
        (0.012, "p = 0.012"),
        (0.0001, "p < 0.001"),
    ],
)
def test_d_a_p_value_stands_on_its_own_side_of_alpha(p, text):
    assert wording.p_value(p) == text


def test_d_thresholds_are_told_and_shares_only_where_they_are_not_what_was_asked_for(tmp_path):
    make_report(tmp_path)
    report = read_report(tmp_path)
    table = budget_table(report)
    assert [row.cells[0].text for row in table.rows] == [method.method for method in report.methods]
    for row, method in zip(table.rows, report.methods, strict=True):
        for cell, budget in zip(row.cells[1:], method.budgets, strict=True):
            assert float(cell.text) == pytest.approx(budget.threshold, abs=5e-5)
            same = wording.percent(budget.realised) == wording.percent(budget.requested)
            assert cell.under == (() if same else (f"really {wording.percent(budget.realised)}",))


def test_d_every_acronym_is_explained_where_it_stands(tmp_path):
    make_report(tmp_path)
    table, page = routing_table(read_report(tmp_path)), (tmp_path / "report.html").read_text()
    assert all(column.means for column in table.columns[1:]) and len(table.caption) < 160
    for _, title, means, _ in ROUTING:
        assert f'{title}<div class="means">{means}</div>' in page


def test_d_a_calibration_reaches_one(tmp_path):
    make_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    figure = page[page.index("Predicted against observed accuracy") :]
    figure = figure[: figure.index("</svg>")]
    for number in ("0.0", "0.8", "1.0"):
        assert figure.count(f">{number}</text>") == 4, "on both axes of both panels"


@pytest.mark.parametrize("large", [0.9, None])
def test_d_one_word_for_what_leaves_the_small_model(tmp_path, large):
    make_report(tmp_path, large=large)
    page = (tmp_path / "report.html").read_text()
    for word in ("set aside", "random selection", "keeping at random", "sent to the large model"):
        assert word not in page
    assert "share of questions escalated" in page and "random escalation" in page


def test_d_every_number_of_the_methods_carries_its_interval_and_what_it_is_of(tmp_path):
    make_report(tmp_path, split=["test"], grader="exact@5")
    report = read_report(tmp_path)
    table, page = methods_table(report), (tmp_path / "report.html").read_text()
    at = next(index for index, column in enumerate(table.columns) if column.title == "system right")
    for row, method in zip(table.rows, [*report.methods], strict=True):
        assert row.cells[at].under == (wording.between_percent(method.accuracy_at_ci95["0.2"]),)
    of = "160 samples (test split), judged by exact@5"
    assert of in table.caption and page.count(of) >= 5
    tiles = page[page.index('class="tiles"') : page.index("<dl")]
    assert tiles.count("% interval") == len(re.findall(r'class="value">[\d.]+', tiles))


def test_d_what_the_calibration_error_is_by_chance(tmp_path):
    make_report(tmp_path)
    report, rng = read_report(tmp_path), np.random.default_rng(0)
    errors = []
    for _ in range(200):
        scores = np.clip(rng.beta(6, 4, report.n), 0, 1)
        filled = reliability(rng.random(report.n) < scores, scores)
        errors.append(sum(each.n * abs(each.score - each.accuracy) for each in filled) / report.n)
    assert 0.8 * by_chance(report) < np.mean(errors) < 1.05 * by_chance(report)
    assert f"up to about {by_chance(report):.2f} on 160 samples" in (tmp_path / "report.html").read_text()


def axis_numbers(page):
    """Return the numbers of vertical axes: they are anchored at their ends."""
    texts = re.findall(r"<text[^>]*text-anchor: end[^>]*>([-−+\d.,]+)(?: %)?</text>", page)
    return [float(text.replace("−", "-").replace(",", "")) for text in texts]


def test_d_no_axis_passes_the_largest_share(tmp_path):
    rng = np.random.default_rng(0)
    make_report(tmp_path / "a", methods={"probe@n50": 0.9, "relope@n50": 2.0, "relope@n90": 3.0, "probe@n90": 2.0})
    made_sweep(tmp_path / "sweep.parquet", sizes=(12, 10))
    make_report(tmp_path / "b", methods={"probe": 3.0, "relope": 3.0}, correct=rng.random(160) < 0.97)
    asked = [
        ("data-efficiency", {"reports": (str(tmp_path / "a"),)}, 1),
        ("figure3", {"sweeps": (str(tmp_path / "sweep.parquet"),)}, 1),
        ("figure2", {"reports": (str(tmp_path / "b"),)}, 100),
    ]
    for name, given, most in asked:
        make_study(StudyRequest(name, bootstrap=100, **given), tmp_path / name)
        numbers = axis_numbers((tmp_path / name / "study.html").read_text())
        assert numbers and max(numbers) <= most
    page = (tmp_path / "b" / "report.html").read_text()
    for figure in re.findall(r"<svg class=\"figure\".*?</svg>", page, flags=re.DOTALL):
        if "Accuracy against" in figure or "Predicted" in figure:
            assert max(axis_numbers(figure)) <= (100 if "Accuracy" in figure else 1)


def test_d_figure_2_names_each_line_with_its_value_at_the_marked_share(tmp_path):
    make_report(tmp_path / "a", methods=METHODS)
    make_study(StudyRequest("figure2", (str(tmp_path / "a"),), bootstrap=100), tmp_path / "study")
    page, report = (tmp_path / "study/study.html").read_text(), read_report(tmp_path / "a")
    named = re.findall(r">(m\d\d) ([\d.]+) %</text>", page)
    assert dict(named) == {name: f"{100 * report.curves[name][50]:.1f}" for name in METHODS}
    assert ">at 50 %, grey line<" in page
    heights = [float(y) for y in re.findall(r'transform="translate\([\d.]+ ([\d.]+)\)"[^>]*>m\d\d ', page)]
    if heights:  # names stand in the order of those values
        order = sorted(zip(heights, (float(value) for _, value in named), strict=True))
        assert all(a >= b - 1e-9 for (_, a), (_, b) in itertools.pairwise(order))
