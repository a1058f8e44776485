"""The runner: what runs and why, in which order, side by side, and after an interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relope.errors import InvalidInputError, NotFoundError, RelopeError
from relope.pipeline.ledger import Ledger
from relope.pipeline.plan import plan
from relope.pipeline.runner import decisions, run_pipeline

PIPELINE = """
mine:
  stages:
    fit:
      run: fit
      matrix: {method: [question-kind, probe], seed: [0, 1]}
      with:
        {method: "${matrix.method}", seed: "${matrix.seed}", set: {},
         store: "STORE", out: "${out}/${matrix.method}-${matrix.seed}"}
    score:
      run: predict
      matrix: {method: [question-kind, probe], seed: [0, 1]}
      with: {router: "${fit.out}", store: "STORE", out: "${out}/scores/${matrix.method}@seed${matrix.seed}.parquet"}
    report:
      run: evaluate
      with: {store: "STORE", scores: "${out}/scores", bootstrap: 100, out: "${out}/report"}
"""


class Recorder:
    """A board that keeps what it is told."""

    def __init__(self):
        self.begun, self.ended = [], []

    def begin(self, number, label):
        self.begun.append(number)
        return lambda done, total: None

    def end(self, number, label, text):
        self.ended.append((number, label, text))


@pytest.fixture
def pipeline(tmp_path, store_path):
    path = tmp_path / "pipelines.yaml"
    path.write_text(PIPELINE.replace("STORE", str(store_path)))
    return path


def whys(steps, out):
    return {step.title: (one.run, one.why) for step, one in zip(steps, decisions(steps, Ledger.open(out)), strict=True)}


def run(pipeline, out, jobs=1):
    steps, board = plan(pipeline, "mine", out), Recorder()
    run_pipeline(steps, Ledger.open(out), jobs, board)
    return steps, board


def test_runs_in_order_then_skips_and_says_why(pipeline, tmp_path):
    out = tmp_path / "out"
    steps = plan(pipeline, "mine", out)
    assert whys(steps, out)["fit probe, 1"] == (True, "not done yet")
    assert whys(steps, out)["score probe, 1"] == (True, "follows fit probe, 1")
    _, board = run(pipeline, out)
    assert board.begun == list(range(9)) and (out / "report/report.html").is_file()
    report = json.loads((out / "report/report.json").read_text())
    rows = {row["method"]: row for row in report["methods"]}
    assert rows["probe"]["seeds"] == [0, 1] and len(rows["probe"]["auc_by_seed"]) == 2
    assert rows["probe"]["auc_by_seed"][0] != rows["probe"]["auc_by_seed"][1]
    assert rows["probe"]["auc"] == pytest.approx(sum(rows["probe"]["auc_by_seed"]) / 2)
    _, board = run(pipeline, out)
    assert not board.begun and all("up to date" in text for _, _, text in board.ended)
    assert set(whys(steps, out).values()) == {(False, "up to date")}


def test_what_changed_is_named_and_only_that_runs_again(pipeline, tmp_path):
    out = tmp_path / "out"
    run(pipeline, out)
    pipeline.write_text(pipeline.read_text().replace("set: {}", "set: {}, split: [train, test]"))
    found = whys(plan(pipeline, "mine", out), out)
    assert found["fit probe, 0"][1].startswith("split changed:")
    pipeline.write_text(pipeline.read_text().replace("set: {}, split: [train, test]", "set: {}"))
    (out / "probe-1/router.json").unlink()
    found = whys(plan(pipeline, "mine", out), out)
    assert found["fit probe, 1"] == (True, f"{out / 'probe-1'} has changed")
    assert found["score probe, 1"] == (True, "follows fit probe, 1")
    assert found["fit probe, 0"][0] is False and found["report"][0] is True
    _, board = run(pipeline, out)
    # The router comes out the same, so what follows is up to date again but for its record of the router's bytes.
    assert board.begun[0] == 3 and set(board.begun) <= {3, 7, 8}


def test_another_package_version_runs_nothing_and_a_method_s_only_its_own(pipeline, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(pipeline, out)
    for module in ("version", "provenance"):  # wherever a result could have looked the version up
        monkeypatch.setattr(f"relope.{module}.__version__", "99.0")
    assert not any(runs for runs, _ in whys(plan(pipeline, "mine", out), out).values())
    monkeypatch.setattr("relope.probes.methods.probe.VERSION", 2)
    why = whys(plan(pipeline, "mine", out), out)
    assert why["fit probe, 0"] == (True, "version of methods/probe changed: 1 → 2")
    assert {stage for stage, (runs, _) in why.items() if runs} == {
        "fit probe, 0",
        "fit probe, 1",
        "score probe, 0",
        "score probe, 1",
        "report",
    }


def test_side_by_side_gives_the_same_numbers(pipeline, tmp_path):
    run(pipeline, tmp_path / "one")
    run(pipeline, tmp_path / "two", jobs=2)
    reports = [json.loads((tmp_path / name / "report/report.json").read_text()) for name in ("one", "two")]
    aucs = [{row["method"]: row["auc_by_seed"] for row in report["methods"]} for report in reports]
    assert aucs[0] == aucs[1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_names_its_stage_and_keeps_the_rest(pipeline, tmp_path, jobs):
    out = tmp_path / "out"
    pipeline.write_text(pipeline.read_text().replace("[question-kind, probe]", "[question-kind, mot]"))
    # Neither seed finds sampled answers; side by side, either may be the first to say so.
    with pytest.raises(RelopeError, match=r"^fit mot, [01]: "):
        run(pipeline, out, jobs)
    assert (out / "question-kind-0/router.json").is_file()
    assert len(json.loads((out / "steps.json").read_text())) >= 1


def test_a_wrong_setting_stops_the_run_before_its_first_step(pipeline, tmp_path):
    pipeline.write_text(pipeline.read_text().replace("set: {}", "set: {lrr: 1}"))
    board = Recorder()
    with pytest.raises(InvalidInputError, match=r"^fit question-kind, 0: question-kind: no setting 'lrr'"):
        run_pipeline(plan(pipeline, "mine", tmp_path), Ledger.open(tmp_path), 1, board)
    assert not board.begun


def test_what_nothing_makes_stops_the_run_before_its_first_step(pipeline, tmp_path):
    pipeline.write_text(pipeline.read_text().replace("bootstrap: 100,", "bootstrap: 100, large_store: none.zarr,"))
    board, steps = Recorder(), plan(pipeline, "mine", tmp_path)
    why = "cannot: none.zarr is not there, and no step before makes it"
    assert whys(steps, tmp_path)["report"] == (True, why)
    with pytest.raises(NotFoundError, match=r"^report needs none.zarr, which is not there, and no step before makes"):
        run_pipeline(steps, Ledger.open(tmp_path), 1, board)
    assert not board.begun


def test_two_runs_at_once_keep_each_others_records(pipeline, tmp_path):
    steps = plan(pipeline, "mine", tmp_path)
    one, other = Ledger.open(tmp_path), Ledger.open(tmp_path)
    run_pipeline(steps[:1], one, 1, Recorder())
    run_pipeline(steps[1:2], other, 1, Recorder())
    assert [done.run for done in decisions(steps[:2], Ledger.open(tmp_path))] == [False, False]


def test_stages_may_run_other_pipelines_and_steps_are_planned_once(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "a:\n  stages:\n    x: {run: fit, with: {method: probe, store: s}}\n"
        "b:\n  stages:\n    y: {run: fit, with: {method: probe, store: s}}\n"
        "all:\n  stages: {one: {run: a}, two: {run: b}}\n"
        "loop:\n  stages: {one: {run: loop}}\n"
    )
    assert [step.title for step in plan(path, "all", Path("o"))] == ["a: x"]
    with pytest.raises(InvalidInputError, match="loop runs itself"):
        plan(path, "loop", Path("o"))


def test_references_to_a_matrix_pick_what_agrees(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "a:\n  stages:\n"
        "    fit: {run: fit, matrix: {data: [x, y], method: [probe, relope]}, "
        'with: {method: "${matrix.method}", store: "${matrix.data}.zarr"}}\n'
        '    score: {run: predict, matrix: {data: [x, y], method: [probe, relope]}, with: {router: "${fit.out}", '
        'store: "${fit.store}"}}\n'
        '    table: {run: study, with: {study: table2, reports: ["${fit.store}", z]}}\n'
        '    one: {run: study, with: {study: table2, out: "${fit.store}/x"}}\n'
    )
    with pytest.raises(InvalidInputError, match=r"\$\{fit.store\} stands for 2 values; one fits here"):
        plan(path, "a", Path("o"))
    path.write_text(path.read_text().rsplit("    one:", 1)[0])
    steps = plan(path, "a", Path("o"))
    assert [step.spec.router for step in steps if step.spec.step == "predict"] == [
        "x.zarr.routers/probe",
        "x.zarr.routers/relope",
        "y.zarr.routers/probe",
        "y.zarr.routers/relope",
    ]
    assert steps[-1].spec.reports == ("x.zarr", "y.zarr", "z")
    assert steps[4].needs == {0} and steps[7].needs == {3}


def test_killed_and_started_again_it_goes_on(pipeline, tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-c",
        "from relope.cli import main; main()",
        "run",
        "mine",
        "--out",
        str(out),
        "--jobs",
        "2",
    ]
    process = subprocess.Popen(command, cwd=pipeline.parent, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / "steps.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = len(json.loads((out / "steps.json").read_text()))
    assert done >= 1
    _, board = run(pipeline, out)
    assert len(board.begun) <= 9 - done and (out / "report/report.json").is_file()


def test_a_dry_run_loads_no_model_and_shows_why(pipeline, tmp_path):
    code = (
        "import json, sys; from typer.testing import CliRunner; from relope.cli import app; "
        "r = CliRunner().invoke(app, ['run', 'mine', '--dry-run', '--json']); assert r.exit_code == 0, r.output; "
        "rows = json.loads(r.stdout); assert rows[0]['why'] == 'not done yet' and 'store=' in rows[0]['with']; "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=pipeline.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_up_to_date_loads_no_torch(pipeline, tmp_path):
    out = tmp_path / "out"
    run(pipeline, out)
    script = (
        "import sys; from pathlib import Path; from relope.pipeline.ledger import Ledger\n"
        "from relope.pipeline.plan import plan; from relope.pipeline.runner import run_pipeline\n"
        "from types import SimpleNamespace as Board\n"
        "steps = plan(Path(sys.argv[1]), 'mine', Path(sys.argv[2]))\n"
        "board = Board(begin=None, end=lambda *told: None)\n"  # what begins would raise
        "run_pipeline(steps, Ledger.open(Path(sys.argv[2])), 1, board)\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(pipeline), str(out)], check=True)
