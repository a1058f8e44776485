"""D: a report's page says how its numbers were made: samples, layer, settings, seeds, grader, date, command lines."""

import html
import re

import pytest

from relope import steps
from relope.spec import FitSpec, PredictSpec, build


@pytest.fixture(scope="module")
def evaluated(store_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    scores = folder / "scores"
    settings = {"head": "logistic"}
    steps.run(FitSpec(method="probe", store=store_path, out=folder / "probe", set=settings, seed=3, device="cpu"))
    steps.run(PredictSpec(router=str(folder / "probe"), store=store_path, out=scores / "probe.parquet", device="cpu"))
    steps.run(PredictSpec(router="logprob", store=store_path, out=scores / "logprob.parquet", device="cpu"))
    asked = {"store": str(store_path), "scores": str(scores), "bootstrap": 100, "out": str(folder / "report")}
    outcome = steps.run(build("evaluate", asked))
    return outcome.report, html.unescape((folder / "report" / "report.html").read_text())


def test_d_the_first_screen_names_samples_layer_seeds_grader_and_date(evaluated):
    report, page = evaluated
    first, grader = page[: page.index("<h2>")], report.provenance["grader"]
    assert f"n = {report.n:,} samples in {report.n_groups:,} image groups" in first and "@" in grader
    assert f"{report.n_correct:,} answered rightly, by {grader}" in first
    assert f"n_train = 160 of train, by {grader}; layer 4; seed 3" in first
    assert "nothing is trained; reads no block's states" in first
    assert re.search(r"<dt>made</dt><dd>20\d\d-\d\d-\d\dT[^<]* by relope evaluate ", first)


def test_d_the_table_below_says_it_of_every_method(evaluated):
    report, page = evaluated
    making = page[page.index("What each method learned from") :]
    row = re.search(r"<tr[^>]*>\s*<td[^>]*>probe</td>.*?</tr>", making, flags=re.DOTALL)[0]
    for told in (">160<", ">train<", f">{report.provenance['grader']}<", ">4<", ">3<", "head logistic"):
        assert told in row
    assert report.row("probe").dates[0][:10] in row


def test_d_the_command_lines_are_those_that_were_run(evaluated):
    _, page = evaluated
    commands = page[page.index("Command lines") :]
    for start in ("relope fit probe --store", "relope predict --router", "relope evaluate --store"):
        assert start in commands
    assert "--set head=logistic" in commands and "--seed 3" in commands
