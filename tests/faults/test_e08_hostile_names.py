"""E8: names of methods, data sets and questions stay text on a page, in Markdown, LaTeX, CSV and on a terminal."""

import csv
import io
import re

import pytest
from made_reports import make_report

from relope.commands import console
from relope.evaluate.pages import render
from relope.evaluate.pages.escape import csv_cell, latex_text, markdown_text
from relope.evaluate.pages.export import comma_separated, latex, markdown
from relope.evaluate.pages.table import Table, columns, row

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://example.org/seen.png)",
    "=HYPERLINK(\"http://example.org\",\"x\")",
    "+1+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "＝1+1",
    r"\write18{touch pwned}",
    r"\input{/etc/passwd}",
    "^^5cinput{/etc/passwd}",
    "[1em]",
    "*",
    "a\n| b | c |\n# d",
    "a\r\n=1+1",
    "`code` **bold** __init__ $x$ ~~gone~~",
    "50 % & #1 {x} _y_ a--b",
    "[red]red[/red] [/]",
]  # fmt: skip


def table_of(name):
    return Table("t", name, columns([name], ["value"]), [row(name, "1")], [{"method": name, name: -1.5}], [name])


@pytest.fixture(params=HOSTILE)
def name(request):
    return request.param


def test_e8_a_page_shows_names_as_text(name):
    page = str(render.environment().get_template("parts.html.j2").module.table(table_of(name)))
    assert not re.findall(r"<(script|img|a|b|code)\b", page)


def test_e8_markdown_shows_names_as_text(name):
    text = markdown(table_of(name))
    assert "<" not in text and not re.search(r"(?<!\\)[`\[\]$]", text.replace("**", "", 2))
    lines = text.splitlines()
    assert len(lines) == 7 and all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines[2:5])
    assert not re.match(r"\s*([#+=-]|\d+[.)]\s)", lines[6])


def test_e8_latex_sets_names_as_text(name):
    text = latex_text(name)
    known = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar)\{\}|\\[&%$#_{},]"
    rest = re.sub(known, "", text)
    assert not re.search(r"[\\&%$#_^~<>|\n\r]", rest) and not text.startswith(("[", "*"))
    assert rest.count("{") == rest.count("}") and "--" not in rest
    lines = latex(table_of(name)).splitlines()
    assert len(lines) == 11 and lines[4] == rf"{text} & value \\"


def test_e8_csv_cells_are_no_formulas(name):
    rows = list(csv.reader(io.StringIO(comma_separated(table_of(name)))))
    assert len(rows) == 2 and len(rows[0]) == 2
    for text in (rows[0][1], rows[1][0]):
        assert not text.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert rows[1][1] == "-1.5"


def test_e8_the_terminal_shows_names_as_text(name, capsys):
    console.table(name, [name, "value"], [[name, "1"]])
    assert "[red]red[/red] [/]" not in name or capsys.readouterr().out.count("[red]red[/red] [/]") == 3


@pytest.mark.parametrize("value", ["-1.5", "+2", "1e-3", "-.5", "probe", "question-kind", "a_b"])
def test_e8_what_is_harmless_stays_as_it_is(value):
    assert csv_cell(value) == value and markdown_text("question_kind") == "question_kind"


def test_e8_a_report_of_hostile_names_is_harmless_as_a_whole(tmp_path):
    methods = dict.fromkeys(HOSTILE[:6], 0.1)
    make_report(tmp_path, methods=methods, model=HOSTILE[0], dataset=HOSTILE[4])
    page = (tmp_path / "report.html").read_text()
    assert not re.findall(r"<(script|img src=x|a href)", page)
    for path in (tmp_path / "tables").glob("*.md"):
        assert "<" not in path.read_text()
    for path in (tmp_path / "tables").glob("*.csv"):
        for cells in csv.reader(io.StringIO(path.read_text())):
            assert not [cell for cell in cells if cell.startswith(("=", "@", "+1+", "-2+"))]
