"""A2: which grader judged is said wherever a number is: routers, scores, reports, `store info`, and every text."""

import json
import shutil

import polars as pl
import pytest
from stepping import report_of, step

from relope.command_line import command_line
from relope.errors import NotFoundError
from relope.evaluate.numbers.likeness import unlike
from relope.evaluate.numbers.persample import open_report
from relope.evaluate.report import read_report
from relope.evaluate.scores import read_scores
from relope.probes.router import read_record
from relope.spec import build
from relope.store import open_store
from relope.store.grade_files import orders
from relope.store.grades import counting


@pytest.fixture
def graded(store_path, tmp_path):
    """A copy of the small store, judged by its own grader and by another one, which counts."""
    out = shutil.copytree(store_path, tmp_path / "tiny.zarr")
    step("grade", store=out, grader="exact")
    return out


def counted(store):
    with open_store(store) as opened:
        return counting(opened)


def test_a2_the_grader_stands_in_router_scores_and_report(graded, tmp_path):
    name = counted(graded)
    fitted = step("fit", method="probe", store=graded, set={"epochs": 2}, seed=3)
    assert fitted.facts["grader"] == name and name in fitted.text
    record = read_record(fitted.path)
    assert record.grader == name and record.dataset == "tiny" and record.date.endswith("Z")
    assert record.command == "relope fit probe --store tiny.zarr --seed 3 --set epochs=2"
    assert name in step("fit", method="probe", store=graded, set={"epochs": 2}, seed=3).text
    scored = step("predict", router=fitted.path, store=graded)
    meta = read_scores(scored.path).meta
    assert name in scored.text and scored.facts["grader"] == name
    assert (meta.grader, meta.n_train, meta.layer, meta.seed) == (name, record.n_samples, 4, 3)
    assert meta.settings["epochs"] == 2 and meta.settings["lr"] > 0 and meta.fit_splits == ["train"]
    assert name in step("predict", router=fitted.path, store=graded).text
    done = step("evaluate", store=graded, bootstrap=100)
    assert f"judged by {name}" in done.text
    report, row = report_of(done.path), report_of(done.path)["methods"][0]
    assert report["provenance"]["grader"] == name and f"judged by {name}" in report["what"]
    assert report["provenance"]["command"].startswith("relope evaluate --store tiny.zarr")
    assert report["provenance"]["date"].endswith("Z") and report["provenance"]["split"] == ["test"]
    assert (row["grader"], row["n_train"], row["layer"], row["seeds"]) == (name, record.n_samples, 4, [3])
    assert row["learned_from"] == ["train"] and row["settings"]["epochs"] == 2
    assert [command.split()[1] for command in row["commands"]] == ["fit", "predict"] and len(row["dates"]) == 2
    assert not any("/tmp" in str(value) or str(tmp_path) in str(value) for value in (record, meta, report))
    page = (done.path / "report.html").read_text()
    assert name in page and str(tmp_path) not in page


def test_a2_a_router_of_other_grades_is_said_first(graded):
    exact = counted(graded)
    router = step("fit", method="probe", store=graded, set={"epochs": 2}).path
    step("grade", store=graded, grader="auto")
    step("predict", router=router, store=graded)
    done = step("evaluate", store=graded, bootstrap=100)
    warnings = [warning for warning in read_report(done.path).warnings if warning.severity == "wrong"]
    assert any(f"probe learned from grades by {exact}" in warning.text for warning in warnings)
    assert any(counted(graded) in warning.text for warning in warnings)


def test_a2_methods_without_labels_name_none(graded):
    step("predict", router="logprob", store=graded)
    done = step("evaluate", store=graded, bootstrap=100)
    row = report_of(done.path)["methods"][0]
    assert (row["grader"], row["n_train"], row["layer"]) == ("", None, None)
    assert not [warning for warning in read_report(done.path).warnings if "grades by" in warning.text]


def test_a2_store_info_names_all_grades_and_what_made_them(graded):
    step("store convert", store=graded, out=graded.with_name("packed.zarr"), codec="zstd")
    for store in (graded, graded.with_name("packed.zarr")):
        done = step("store info", store=store)
        names = {entry["name"]: entry["counts"] for entry in done.payload["grades"]}
        assert sum(names.values()) == 1 and names[counted(store)] and len(names) == 2
        shown = dict(done.tables[0].rows)
        assert counted(store) in shown["graded by"] and "auto@" in shown["graded by"]
        commands = [entry["command"] for entry in done.payload["made"]]
        assert any(command.startswith("relope extract --model tiny-vl") for command in commands)
        assert any(command.startswith("relope grade --store tiny.zarr --grader exact") for command in commands)
        assert all(entry["date"].endswith("Z") and "/" not in entry["command"] for entry in done.payload["made"])


def test_a2_out_of_fold_scores_name_them_too(graded):
    done = step("fit", method="question-kind", store=graded, folds=3)
    meta = read_scores(done.path).meta
    assert meta.grader == counted(graded) and counted(graded) in done.text and 100 < meta.n_train < 120


def test_a2_labels_of_two_graders_are_not_mixed(graded, store_path, tmp_path):
    with pytest.raises(ValueError, match=r"judged by exact@\d+, .* by auto@"):
        step("fit", method="probe", store=graded, also=store_path, out=tmp_path / "r")


def test_a2_a_sweep_names_grader_n_and_command(graded):
    asked = {"method": "question-kind", "store": graded, "seeds": 1}
    done = step("sweep", **asked)
    runs = pl.read_parquet(done.path)
    assert runs["grader"].to_list() == [counted(graded)] and counted(graded) in done.text
    assert runs["n_train"][0] == done.facts["samples"] > 100 and done.facts["grader"] == counted(graded)
    assert runs["command"][0] == "relope sweep question-kind --store tiny.zarr --seeds 1"
    assert "--grades" not in done.facts["fit"]
    named = step("sweep", **asked, grades=next(name for name in orders(graded) if name.startswith("auto@")))
    assert named.facts["fit"].endswith(f"--grades {named.facts['grader']}")


def test_a2_a_study_names_the_graders_of_its_reports(graded, tmp_path):
    step("predict", router="logprob", store=graded)
    step("evaluate", store=graded, bootstrap=100)
    done = step("study", study="table2", reports=f"{graded}.report", bootstrap=100, out=tmp_path / "study")
    study = json.loads((done.path / "study.json").read_text())
    assert f"Judged by {counted(graded)}." in study["what"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"method": "probe", "store": "/home/alice/my runs/x.zarr"}, "relope fit probe --store x.zarr"),
        ({"method": "probe", "store": "../x.zarr", "out": "~/r"}, "relope fit probe --store x.zarr --out r"),
        ({"method": "probe", "store": "file:///home/alice/x.zarr"}, "relope fit probe --store x.zarr"),
        ({"method": "probe", "store": "runs/x.zarr"}, "relope fit probe --store runs/x.zarr"),
        ({"method": "probe", "store": "s3://bucket/x.zarr"}, "relope fit probe --store s3://bucket/x.zarr"),
        (
            {"method": "probe", "store": "x", "also": "a,/b/c", "set": {"head": "logistic", "c": 2.0}, "seed": 1},
            "relope fit probe --store x --also a,c --seed 1 --set head=logistic --set c=2.0",
        ),
    ],
)
def test_a2_a_command_line_names_nobodys_folders(values, line):
    assert command_line(build("fit", values)) == line


def test_a2_a_command_line_names_switches_and_no_password():
    assert command_line(build("store pull", {"uri": "hf://datasets/a/b/c", "verify": False})).endswith("--no-verify")
    spec = build("caption", {"model": "m", "dataset": "tiny", "endpoint": "http://me:secret@host/v1"})
    assert "secret" not in command_line(spec) and "http://host/v1" in command_line(spec)


def test_a2_reports_by_two_graders_are_not_put_side_by_side_without_a_word(graded, tmp_path):
    step("predict", router="logprob", store=graded)
    auto, exact = sorted(orders(graded))
    for name in (auto, exact):
        step("evaluate", store=graded, grades=name, bootstrap=100, out=tmp_path / name)
    said = f"{auto} and {exact} are judged by {auto} and {exact}"
    compared = step("compare", first=tmp_path / auto, second=tmp_path / exact, bootstrap=100)
    assert compared.warnings[0].severity == "wrong" and compared.warnings[0].text.startswith(said)
    studied = unlike([open_report(tmp_path / auto), open_report(tmp_path / exact)])
    assert [warning.text.startswith(said) for warning in studied] == [True]
    alone = step("compare", first=tmp_path / auto, second=tmp_path / auto, bootstrap=100)
    assert not [warning for warning in alone.warnings if warning.severity == "wrong"]


def test_a2_seeds_that_were_not_fitted_alike_are_said_first(graded):
    for seed, epochs in ((0, 2), (1, 3)):
        router = step("fit", method="probe", store=graded, set={"epochs": epochs}, seed=seed).path
        step("predict", router=router, store=graded)
    done = step("evaluate", store=graded, bootstrap=100)
    assert report_of(done.path)["methods"][0]["seeds"] == [0, 1]
    wrong = [warning.text for warning in read_report(done.path).warnings if warning.severity == "wrong"]
    assert wrong == ["the seeds of probe were not fitted alike (settings differ): their mean is of no one router."]
    step("predict", router=step("fit", method="probe", store=graded, set={"epochs": 3}).path, store=graded)
    alike = step("evaluate", store=graded, bootstrap=100)
    assert not [warning for warning in alike.warnings if warning.severity == "wrong"]


def test_a2_a_threshold_is_not_set_on_other_grades_without_a_word(graded, tmp_path):
    router = step("fit", method="question-kind", store=graded).path
    asked = {"router": router, "store": graded, "split": "test", "budget": 0.2}
    same = step("calibrate", **asked, out=tmp_path / "same")
    other = next(name for name in orders(graded) if name.startswith("auto@"))
    done = step("calibrate", **asked, grades=other, out=tmp_path / "other")
    assert not same.warnings and done.warnings[0].severity == "wrong" and other in done.warnings[0].text
    assert step("calibrate", **asked, grades=other, out=tmp_path / "other").warnings == done.warnings


def test_a2_predict_refuses_grades_that_are_not_there(store_path, tmp_path):
    with pytest.raises(NotFoundError, match="unknown grades"):
        step("predict", store=store_path, router="logprob", out=tmp_path / "s.parquet", grades="nope@1")


def test_a2_predict_says_that_the_store_is_judged_otherwise_than_when_the_router_was_fitted(graded):
    first = counted(graded)
    fitted = step("fit", method="probe", store=graded, set={"head": "logistic"}).path
    assert not step("predict", router=fitted, store=graded).warnings
    step("grade", store=graded, grader="multiple-choice")
    for again in (step("predict", router=fitted, store=graded), step("predict", router=fitted, store=graded)):
        (warning,) = again.warnings
        assert again.reused and warning.severity == "wrong"
        assert f"learned from grades by {first}" in warning.text and f"judged now by {counted(graded)}" in warning.text
    assert not step("predict", router=fitted, store=graded, grades=first).warnings
    assert not step("predict", router="logprob", store=graded).warnings
