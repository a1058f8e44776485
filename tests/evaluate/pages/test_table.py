"""One table, four renderers: the same cells on a page, in Markdown, in LaTeX and as CSV, each escaped its own way."""

import csv
import io

import pytest

from relope.evaluate.pages import render
from relope.evaluate.pages.export import comma_separated, latex, markdown
from relope.evaluate.pages.scale import Scale
from relope.evaluate.pages.table import Cell, Column, Table, columns, row

SCALE = Scale.over([(0.6, 0.9)], 0.75)
TABLE = Table(
    "made",
    "What <b>is</b> 50 % & more_",
    [*columns(["model", "method"], [], grouped=True), Column("data", "n=9", "n"), Column("drawn", scale=SCALE)],
    [
        row("m1", "a|b", Cell("80.1", ("78.0–82.0", "paper <81>"), note="a note"), Cell(mark=(0.8, (0.7, 0.9), "red"))),
        row("m1", "c", Cell("−1.0", word="lower", tone="lower"), Cell()),
        row("m2", "d", "—", Cell(), apart=True),
    ],
    [{"method": "a|b", "value": 0.801, "null_reason": None}, {"method": "c", "value": None, "null_reason": "x, y"}],
    ["A <note>."],
    apart="Set apart <here>.",
)


@pytest.fixture
def page():
    """The table alone, made by the macro that every page uses."""
    return str(render.environment().get_template("parts.html.j2").module.table(TABLE))


def test_html(page):
    assert "<figcaption>What &lt;b&gt;is&lt;/b&gt; 50 % &amp; more_</figcaption>" in page
    assert page.count('<tr class="group"><th colspan="3">m1</th></tr>') == 1 and '<th colspan="3">m2</th>' in page
    assert '<td class="label">a|b</td>' in page and "data<br>n=9</th>" in page
    under = '<div class="under">78.0–82.0</div><div class="under">paper &lt;81&gt;</div>'
    assert (
        f'<td class="n">80.1{under}<div class="note">a note</div></td>' in page
        and '−1.0 <span class="lower">lower</span>' in page
    )
    assert page.count("<circle") == 1 and f'cx="{SCALE.x(0.8)}"' in page and f"--lines: {SCALE.lines}" in page
    assert '<tbody class="controls">' in page and "Set apart &lt;here&gt;." in page and "A &lt;note&gt;." in page


def test_markdown():
    lines = markdown(TABLE).splitlines()
    assert lines[2:5] == [
        "| model | method | data, n=9 |",
        "| --- | --- | ---: |",
        "| m1 | a\\|b | 80.1 (78.0–82.0; paper &lt;81&gt;) |",
    ]
    assert lines[5:7] == ["| m1 | c | −1.0 lower |", "| m2 | d | — |"] and lines[-1] == "A &lt;note&gt;."


def test_latex():
    text = latex(TABLE)
    assert (
        r"\caption{What \textless{}b\textgreater{}is\textless{}/b\textgreater{} 50 \% \& more\_}" in text
        and r"\begin{tabular}{llr}" in text
    )
    assert r"m1 & c & $-$1.0 lower \\" in text and r"m2 & d & --- \\" in text


def test_csv():
    assert list(csv.DictReader(io.StringIO(comma_separated(TABLE)))) == [
        {"method": "a|b", "value": "0.801", "null_reason": ""},
        {"method": "c", "value": "", "null_reason": "x, y"},
    ]


def test_what_is_read_back_has_the_same_texts():
    assert Table.from_json(TABLE.to_json()).text == TABLE.text
    assert TABLE.text.columns == ["model", "method", "data, n=9"] and TABLE.text.rows[1] == ["m1", "c", "−1.0 lower"]
