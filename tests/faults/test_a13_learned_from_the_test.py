"""A13: a router that learned from the samples it is judged on is no best router, and that is said first."""

import json

import pytest
from made_reports import make_report
from PIL import Image

from relope import steps
from relope.errors import InvalidInputError, StoreError
from relope.evaluate.numbers.records import Report
from relope.evaluate.report import read_report, terminal_tables
from relope.evaluate.scores import read_scores
from relope.probes.protocol import make
from relope.probes.router import Router, RouterRecord, load_router, write_router
from relope.probes.seen import marks_of, read_marks, seen_among, write_marks
from relope.spec import FitSpec, PredictSpec, build
from relope.store import open_store


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


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Two data sets of a user: 20 questions of the test split of the first are trained on in the second, renamed."""
    folder = tmp_path_factory.mktemp("own")
    splits = ["train"] * 40 + ["validation"] * 30 + ["test"] * 40

    def rows(numbers, prefix, split_of):
        for n in numbers:
            row = {"id": f"{prefix}{n}", "split": split_of(n), "question": f"How much is {n}+1?", "answer": "1"}
            yield {**row, "correct": n % 3 > 0}

    made = {"a": rows(range(110), "a", splits.__getitem__), "b": rows(range(90, 130), "b", lambda n: "train")}
    for name, given in made.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in given))
        asked = {"model": "tiny-vl", "dataset": str(data), "out": str(folder / f"{name}.zarr"), "device": "cpu"}
        asked |= {"max_new_tokens": 1, "split": "train,validation,test" if name == "a" else "train"}
        steps.run(build("extract", asked))
    return folder


def run(step, **values):
    return steps.run(build(step, {name: str(value) for name, value in values.items()}))


def test_a13_the_same_question_in_another_store_is_known_again(own, tmp_path):
    router, scores = tmp_path / "kind", tmp_path / "scores"
    run("fit", method="question-kind", store=own / "b.zarr", out=router)
    out = run("predict", router=router, store=own / "a.zarr", out=scores / "kind.parquet", transfer=True)
    assert out.facts["seen"] == 20 and "(20 of them it learned from)" in out.text
    run("predict", router="logprob", store=own / "a.zarr", out=scores / "logprob.parquet")
    report = run("evaluate", store=own / "a.zarr", scores=scores, bootstrap=100, out=tmp_path / "report").report
    assert (report.row("kind").seen, report.row("kind").n_seen, report.best) == (("test",), 20, "logprob")
    assert report.warnings[0].text.startswith("kind learned from 20 of the 40 samples of the split test, on which")
    assert Report.from_json(json.loads((tmp_path / "report" / "report.json").read_text())).row("kind").n_seen == 20


def test_a13_a_question_tested_on_in_a_joined_store_is_not_learned(own, tmp_path):
    fitted = run("fit", method="question-kind", store=own / "a.zarr", also=own / "b.zarr", out=tmp_path / "kind")
    assert fitted.facts["shared"] == 20 and fitted.facts["samples"] == 40 + 20
    assert "20 left out: their image or question is in another split" in fitted.text
    scored = run("predict", router=tmp_path / "kind", store=own / "a.zarr", out=tmp_path / "s.parquet", transfer=True)
    assert scored.facts["seen"] == 0 and not read_scores(tmp_path / "s.parquet").seen.any()


def test_a13_no_threshold_is_set_on_what_was_learned(own, tmp_path):
    for split, set_on in (("train", "validation"), ("train,validation", "test")):
        folder = tmp_path / split
        run("fit", method="question-kind", store=own / "a.zarr", split=split, out=folder / "kind")
        asked = {"router": folder / "kind", "store": own / "a.zarr"}
        run("predict", **asked, split="validation,test", out=folder / "scores" / "kind.parquet")
        report = run("evaluate", store=own / "a.zarr", scores=folder / "scores", bootstrap=100, out=folder / "r").report
        assert report.row("kind").budgets_set_on == set_on and not report.row("kind").seen
        told = run("predict", **asked, split="test", budget=0.2, out=folder / "decided.csv").text
        assert ("30 validation samples" if set_on == "validation" else "the scored samples themselves") in told
    with pytest.raises(InvalidInputError, match="learned from 30 of the 70 samples of split validation, test"):
        run("calibrate", **asked, split="validation,test", budget=0.2, out=tmp_path / "bundle")


def test_a13_a_bundle_says_what_its_router_learned_from(own, tmp_path):
    run("fit", method="question-kind", store=own / "b.zarr", out=tmp_path / "kind")
    store, router = open_store(own / "b.zarr"), load_router(tmp_path / "kind")
    assert router.marks is not None and len(router.marks) == 40
    assert router.seen_in(store, store.samples["row"].to_numpy()).all()
    write_router(tmp_path / "copy", router.record, router.probe, router.marks)
    assert load_router(tmp_path / "copy").marks.equals(router.marks)
    (tmp_path / "copy" / "learned.parquet").unlink()
    with pytest.raises(StoreError, match=r"learned\.parquet is missing"):
        load_router(tmp_path / "copy")


@pytest.fixture(scope="module")
def pictured(tmp_path_factory):
    """Two data sets: the test split of one shows an image of its training split, and one that the other trains on."""
    folder = tmp_path_factory.mktemp("pictured")
    for n in range(12):
        Image.new("RGB", (56, 56), (20 * n, 90, 200)).save(folder / f"{n}.png")

    def rows(name, numbers, split):
        return [
            {"id": f"{name}{n}", "split": split, "question": f"{name} {n}?", "answer": "1", "image": f"{n}.png"}
            | {"correct": n % 3 > 0}
            for n in numbers
        ]

    for name, given in {
        "a": rows("t", range(8), "train") + rows("u", (7, 8, 9), "test"),
        "b": rows("v", (8, 10), "train"),
    }.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
    return folder


def extracted(folder, name, split):
    asked = {"model": "tiny-vl", "dataset": folder / f"{name}.jsonl", "out": folder / f"{name}.zarr", "device": "cpu"}
    run("extract", **asked, max_new_tokens=1, split=split, grader="exact")


def test_a13_another_question_about_an_image_that_was_learned_is_no_test(pictured, tmp_path):
    extracted(pictured, "a", "train")
    run("fit", method="question-kind", store=pictured / "a.zarr", out=tmp_path / "probe")
    extracted(pictured, "a", "train,test")  # the store has grown: the fit could not know
    out = run("predict", router=tmp_path / "probe", store=pictured / "a.zarr", out=tmp_path / "s.parquet")
    assert out.facts["seen"] == 1
    extracted(pictured, "b", "train")
    asked = {"store": pictured / "a.zarr", "also": pictured / "b.zarr", "out": tmp_path / "both"}
    fitted = run("fit", method="question-kind", **asked)
    assert fitted.facts["shared"] == 2 and fitted.facts["samples"] == 7 + 1  # t7 and v8 are tested on


def test_a13_marks_of_an_older_relope_know_no_image(pictured, tmp_path):
    extracted(pictured, "a", "train")
    store = open_store(pictured / "a.zarr")
    write_marks(tmp_path, marks_of(store, store.samples["row"].to_numpy()).drop("shown"))
    assert read_marks(tmp_path).columns == ["asked", "named", "shown"]
    assert seen_among(read_marks(tmp_path), store, store.samples["row"].to_numpy())[:8].all()


def aged(router):
    """Make a router what an older relope left: it says of no sample whether it learned from it."""
    (router / "learned.parquet").unlink()
    value = json.loads((router / "router.json").read_text())
    del value["sha256"], value["files"]["learned.parquet"]
    (router / "router.json").write_text(json.dumps(value))


def test_a13_of_an_older_router_on_other_data_nobody_knows(own, tmp_path):
    run("fit", method="question-kind", store=own / "b.zarr", out=tmp_path / "kind")
    aged(tmp_path / "kind")
    out = tmp_path / "scores" / "kind.parquet"
    run("predict", router=tmp_path / "kind", store=own / "a.zarr", out=out, transfer=True)
    assert read_scores(out).seen is None
    asked = {"store": own / "a.zarr", "scores": out.parent, "bootstrap": 100}
    (warning,) = [each for each in run("evaluate", **asked, out=tmp_path / "r").warnings if "older relope" in each.text]
    assert warning.severity == "unsure" and "nobody knows whether some of them are judged here" in warning.text


def test_a13_of_an_older_router_the_splits_count(own, tmp_path):
    run("fit", method="question-kind", store=own / "a.zarr", out=tmp_path / "kind")
    aged(tmp_path / "kind")
    asked = {"store": own / "a.zarr", "split": "train,test"}
    run("predict", router=tmp_path / "kind", **asked, out=tmp_path / "scores" / "kind.parquet")
    report = run("evaluate", **asked, scores=tmp_path / "scores", bootstrap=100, out=tmp_path / "r").report
    assert (report.row("kind").seen, report.row("kind").n_seen) == (("train",), 40)


def test_a13_a_router_of_an_older_relope_counts_by_split(store):
    record = RouterRecord("probe", recipe_id=store.recipe_id, identity=dict(store.manifest.identity), splits=["train"])
    rows = store.samples["row"].to_numpy()
    seen = Router("probe", record, make("probe", {})).seen_in(store, rows)
    assert (seen == (store.samples["split"] == "train").to_numpy()).all()
