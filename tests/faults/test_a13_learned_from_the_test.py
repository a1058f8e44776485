"""A13: a router that learned from the samples it is judged on is no best router, and that is said first."""

import pytest
from made_reports import make_report

from relope import steps
from relope.evaluate.report import read_report, terminal_tables
from relope.probes.protocol import make
from relope.probes.router import Router, RouterRecord
from relope.spec import FitSpec, PredictSpec, build


def test_a13_it_is_out_of_the_best_and_in_the_warnings(tmp_path):
    make_report(tmp_path, methods={"fusion": 2.0, "probe": 0.2, "logprob": 0.05}, learned=("fusion",))
    report, page = read_report(tmp_path), (tmp_path / "report.html").read_text()
    assert report.best == "probe" == report.decision.router.method and report.hybrid.best == "probe"
    assert report.methods[-1].method == "fusion" and {row.method for row in report.methods[:2]} == {"probe", "logprob"}
    (first, *_) = report.warnings
    assert first.severity == "wrong" and first.text.startswith("fusion learned from the split test")
    assert page.index("fusion learned from the split test") < page.index('class="tiles"')
    assert "fusion" not in page[page.index('class="tiles"') : page.index("<h2>")]
    assert terminal_tables(report)[-1].text.rows[-1][0] == "fusion (learned from test)"


def test_a13_where_nothing_else_is_scored_there_is_no_best(tmp_path):
    make_report(tmp_path, methods={"probe": 1.0, "question-kind": 0.1}, learned=("probe",))
    report = read_report(tmp_path)
    assert report.decision.router is None and report.decision.free is None and report.best == "question-kind"
    assert any("no method is left" in warning.text for warning in report.warnings)
    make_report(tmp_path, methods={"probe": 1.0, "question-kind": 0.1}, learned=("probe", "question-kind"))
    report = read_report(tmp_path)
    assert report.decision.router is None and [warning.severity for warning in report.warnings[:3]] == ["wrong"] * 3


@pytest.mark.parametrize("split", ["test", "train,test"])
def test_a13_a_router_fitted_on_the_test_split_is_found_out(store_path, tmp_path, split):
    scores, router = tmp_path / "scores", tmp_path / "probe"
    steps.run(FitSpec(method="probe", store=store_path, out=router, split=tuple(split.split(",")), device="cpu"))
    steps.run(PredictSpec(router=str(router), store=store_path, out=scores / "probe.parquet", device="cpu"))
    steps.run(PredictSpec(router="logprob", store=store_path, out=scores / "logprob.parquet", device="cpu"))
    asked = {"store": str(store_path), "scores": str(scores), "bootstrap": 100, "out": str(tmp_path / "report")}
    outcome = steps.run(build("evaluate", asked))
    assert outcome.report.best == "logprob" and outcome.report.row("probe").seen == ("test",)
    assert outcome.warnings[0].severity == "wrong" and "probe learned from the split test" in outcome.warnings[0].text


def test_a13_other_images_of_the_same_questions_were_seen_too(store):
    """As by `predict --transfer`: a router that was fitted on noisy images of the test split."""
    identity = dict(store.manifest.identity)
    noisy = {**identity, "perturbation": {"kind": "noise", "strength": 0.1}}
    other = {**identity, "dataset": {"source": "own", "name": "another", "digest": "d"}}
    for fitted_on, learned in ((identity, ["test"]), (noisy, ["test"]), (other, []), ({}, [])):
        recipe = store.recipe_id if fitted_on == identity else "another"
        record = RouterRecord("probe", recipe_id=recipe, identity=fitted_on, splits=["test"])
        assert Router("probe", record, make("probe", {})).learned_in(store) == learned
