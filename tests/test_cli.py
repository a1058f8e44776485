"""The command line as a user meets it: the demo, JSON, and one-line answers to mistakes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from relope import registry
from relope.cli import app
from relope.probes.protocol import method_class
from relope.spec import SPECS

RELOPE = [sys.executable, "-c", "from relope.cli import main; main()"]


def relope(*arguments, cwd=None):
    """Run a command in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def start(*arguments, **options):
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [*RELOPE, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished quick demo."""
    out = tmp_path_factory.mktemp("demo") / "run"
    result = relope("demo", "--quick", "--out", out)
    assert result.exit_code == 0, result.output
    return out, result


def test_demo_makes_a_report_and_says_where(demo):
    out, result = demo
    assert f"Open {out / 'report.html'} in a browser" in result.stderr
    assert result.stderr.count("  relope ") == 3
    assert "relope" in result.stdout and "AUC" in result.stdout
    report = json.loads((out / "report.json").read_text())
    served = {name for name in registry.names("methods") if not method_class(name).traits.needs}
    assert {row["method"] for row in report["methods"]} == served
    for row in report["methods"]:
        assert row["ci95"][0] <= row["auc"] <= row["ci95"][1] and row["n"] == 300
    assert "<svg" in (out / "report.html").read_text()


def test_demo_again_reuses_everything_and_says_so(demo):
    out, _ = demo
    before = (out / "report.json").read_bytes()
    again = relope("demo", "--quick", "--out", out)
    steps = [line for line in again.stderr.splitlines() if line.startswith("[")]
    assert len(steps) > 10 and all("up to date" in line for line in steps)
    assert (out / "report.json").read_bytes() == before


def test_a_changed_setting_runs_only_what_depends_on_it(demo):
    out, _ = demo
    store = out / "tiny-vl.zarr"
    result = relope(
        "fit", "probe", "--store", store, "--set", "head=logistic", "--set", "epochs=2", "--out", out / "linear"
    )
    assert result.exit_code == 0 and "probe fitted on 300 samples" in result.stdout
    assert (
        "up to date"
        in relope(
            "fit", "probe", "--store", store, "--set", "head=logistic", "--set", "epochs=2", "--out", out / "linear"
        ).stdout
    )


def test_killed_and_started_again_it_ends_with_the_same_numbers(demo, tmp_path):
    out, _ = demo
    truth = comparable(out)
    for seconds in (6, 9, 12):
        process = start("demo", "--quick", "--out", str(tmp_path / "d"), start_new_session=True)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert relope("demo", "--quick", "--out", tmp_path / "d").exit_code == 0
    assert comparable(tmp_path / "d") == truth


def comparable(out):
    """Return a report without what the clock decides, and what a fit that was taken up again need not read."""
    report = json.loads((out / "report.json").read_text())
    parted = ("seconds", "bytes_read_fit", "dates")
    return [{k: v for k, v in row.items() if not k.startswith(parted)} for row in report["methods"]]


def test_interrupting_exits_with_130(tmp_path):
    process = start("demo", "--quick", "--out", str(tmp_path / "d"))
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said and "goes on from there" in said


def test_json_is_all_that_stdout_holds(store_path):
    for command in (["store", "info", store_path], ["grade", "--store", store_path], ["list", "methods"]):
        result = relope(*command, "--json")
        assert result.exit_code == 0
        json.loads(result.stdout)
    facts = json.loads(relope("store", "info", store_path, "--json").stdout)
    assert facts["samples"] == {"test": 80, "train": 160} and 0.4 < facts["accuracy"]["train"] < 0.95
    assert json.loads(relope("store", "verify", store_path, "--deep", "--json").stdout) == []


def test_help_keeps_its_brackets():
    """Rich takes [words] for markup and would leave them out."""
    assert "[@seed" in relope("fit", "--help").stdout


@pytest.mark.parametrize("kind", ["models", "datasets", "methods", "graders", "importers"])
def test_lists(kind):
    listed = json.loads(relope("list", kind, "--json").stdout)
    assert listed and all(entry["summary"] for entry in listed)


def test_every_command_has_help():
    assert relope("--help").exit_code == 0
    for command in (*SPECS, "demo", "run", "list", "store"):
        result = relope(*command.split(), "--help")
        assert result.exit_code == 0 and "--help" in result.stdout


def test_every_command_stands_in_a_panel_in_the_order_of_use():
    from relope.cli import PANELS

    text = relope("--help").stdout
    at = [text.index(f" {panel} ") for panel in PANELS]
    assert at == sorted(at) and "Commands" not in text and "relope demo --quick" in text[at[-1] :]
    first_words = {step.partition(" ")[0] for step in SPECS}
    assert {name for names in PANELS.values() for name in names} == {*first_words, "demo", "run", "list"}


MISTAKES = [
    (["extract", "--model", "tiny-v", "--dataset", "tiny"], "unknown model 'tiny-v'"),
    (["extract", "--model", "tiny-vl", "--dataset", "tinny"], "did you mean 'tiny'"),
    (
        ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--layers", "9", "--out", "{tmp}/x"],
        "the model has 6 blocks",
    ),
    (
        ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--split", "dev", "--out", "{tmp}/x"],
        "unknown split of tiny 'dev'",
    ),
    (["extract", "--model", "tiny-vl", "--dataset", "tiny", "--limit", "0"], "--limit 0: must be at least 1"),
    (
        ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--dtype", "float16"],
        "--dtype float16: must be auto, float32 or bfloat16",
    ),
    (["extract", "--model", "tiny-vl", "--dataset", "tiny", "--limit", "2", "--out", "{tmp}/busy"], "busy"),
    (["extract", "--model", "tiny-vl", "--dataset", "tiny", "--limit", "2", "--out", "{tmp}/file"], "file"),
    (
        ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--limit", "2", "--layers", "2,3", "--out", "{store}"],
        "layers",
    ),
    (
        ["extract", "--model", "tiny-vl", "--dataset", "aokvqa", "--limit", "2"],
        "cannot fetch data set HuggingFaceM4/A-OKVQA",
    ),
    (["extract", "--model", "tiny-vl", "--dataset", "{tmp}/q.jsonl"], "no data file at"),
    (["extract", "--model", "tiny-vl", "--dataset", "{tmp}/busy"], "holds no data file"),
    (["extract", "--model", "tiny-vl", "--dataset", "tiny", "--perturb", "nois"], "did you mean 'noise'"),
    (
        ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--text-only", "--captions", "{tmp}/c"],
        "no captions file",
    ),
    (
        ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--captions", "{tmp}/c"],
        "add --text-only, or drop --captions",
    ),
    (
        ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--text-only", "--perturb", "blur"],
        "drop --perturb or --text-only",
    ),
    (["caption", "--model", "m", "--dataset", "tiny", "--endpoint", "x", "--out", "{tmp}/c"], "is no web address"),
    (["grade"], "either --store STORE or --responses"),
    (["grade", "--responses", "{tmp}/r.jsonl"], "no data file at"),
    (["fit", "prob", "--store", "{store}"], "did you mean 'probe'"),
    (["fit", "probe", "--store", "{tmp}/nowhere"], "nowhere"),
    (["fit", "probe", "--store", "{tmp}/busy"], "busy"),
    (["fit", "probe", "--store", "{store}", "--layer", "6"], "layer 6 is not in"),
    (["fit", "probe", "--store", "{store}", "--set", "lr=fast"], "setting lr='fast'"),
    (["fit", "probe", "--store", "{store}", "--set", "lr"], "must be key=value"),
    (["fit", "probe", "--store", "{store}", "--grades", "x@1"], "unknown grades 'x@1'"),
    (["predict", "--router", "probe", "--store", "{store}"], "must be fitted first"),
    (["predict", "--router", "{tmp}/busy", "--store", "{store}"], "holds no finished router"),
    (["evaluate", "--store", "{store}", "--methods", "prob"], "scores"),
    (["grade", "--store", "{store}", "--grader", "exakt"], "did you mean 'exact'"),
    (["run", "nothing"], "unknown pipeline"),
    (["list", "things"], "unknown kind 'things'"),
    (["store", "info", "{tmp}/busy"], "busy"),
]


@pytest.mark.parametrize(("command", "says"), MISTAKES, ids=[" ".join(command[:4]) for command, _ in MISTAKES])
def test_mistakes_get_one_or_two_lines_and_exit_code_2(command, says, store_path, tmp_path):
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    filled = [part.replace("{tmp}", str(tmp_path)).replace("{store}", str(store_path)) for part in command]
    result = relope(*filled)
    assert result.exit_code == 2, result.output
    message = result.stderr[result.stderr.index("error: ") :].strip()
    assert says in message and "Traceback" not in result.output
    assert len(message.splitlines()) <= 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["busy", "file"]
    assert (tmp_path / "file").read_text() == (tmp_path / "busy" / "thesis.txt").read_text() == "mine"


def test_wrong_flags_exit_with_2():
    assert relope("extract", "--modell", "x").exit_code == 2
    assert relope("extrakt").exit_code == 2


def test_a_full_disk_keeps_what_is_sealed(store_path, tmp_path, monkeypatch):
    """Every write fails from now on; the store stays readable and the message says what to do."""
    copy = tmp_path / "tiny.zarr"
    shutil.copytree(store_path, copy)
    real = os.fsync

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = relope(
        "extract", "--model", "tiny-vl", "--dataset", "tiny", "--split", "test", "--limit", "90", "--out", copy
    )
    monkeypatch.setattr(os, "fsync", real)
    assert result.exit_code == 2 and "No space left on device" in result.stderr
    assert json.loads(relope("store", "verify", copy, "--json").stdout) == []
    assert json.loads(relope("store", "info", copy, "--json").stdout)["n_samples"] == 240


def test_scores_of_another_store_are_refused(store_path, tmp_path):
    other = tmp_path / "other.zarr"
    asked = ("--model", "tiny-vl", "--dataset", "tiny", "--split", "test", "--limit", "80", "--layers", "2")
    made = relope("extract", *asked, "--out", other)
    assert made.exit_code == 0, made.output
    relope("predict", "--router", "logprob", "--store", other, "--out", f"{store_path}.scores/logprob.parquet")
    result = relope("evaluate", "--store", store_path, "--out", tmp_path / "report")
    assert result.exit_code == 2 and "made from another recipe" in result.stderr
    shutil.rmtree(f"{store_path}.scores")


def test_evaluate_without_a_large_store(store_path, tmp_path):
    for name in ("logprob", "entropy"):
        assert relope("predict", "--router", name, "--store", store_path).exit_code == 0
    result = relope("evaluate", "--store", store_path, "--out", tmp_path / "report", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["accuracy_at_is"] == "kept"
