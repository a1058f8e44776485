"""`--log-to`: numbers and the specification go to a tracker, no sample does, and no tracker ever loses a fit."""

import importlib.machinery
import json
import sqlite3
import sys
import types

import pytest

from relope import steps
from relope.errors import NotFoundError
from relope.spec import build


def step(name, **fields):
    return steps.run(build(name, fields))


class FakeRun:
    """A run of trackio and of wandb: both are called like this."""

    def __init__(self, kept, **begun):
        self.begun, self.logged, self.finished = begun, [], False
        kept.append(self)

    def log(self, metrics, step=None):
        sys.stdout.write("said to the terminal")
        self.logged.append((dict(metrics), step))

    def finish(self):
        self.finished = True


def stand_in(monkeypatch, name, **content):
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def trackio(monkeypatch):
    """A stand-in with the signature of trackio 0.43, and its runs."""
    runs = []

    def init(project, name=None, group=None, space_id=None, config=None, *, embed=True, auto_log_gpu=None,
             auto_log_cpu=None):  # fmt: skip
        assert not embed and auto_log_gpu is False and auto_log_cpu is False
        return FakeRun(runs, project=project, name=name, config=config)

    stand_in(monkeypatch, "trackio", init=init)
    return runs


def texts(store_path):
    from relope.store import open_store

    with open_store(store_path) as store:
        table = store.samples
        return set(table["question"].to_list()) | set(table["id"].to_list())


def test_a_fit_tells_its_epochs_and_writes_what_it_would_without(store_path, tmp_path, trackio, capsys):
    asked = {"method": "probe", "store": store_path, "set": {"epochs": 3}}
    step("fit", **asked, out=tmp_path / "plain")
    assert not trackio
    step("fit", **asked, out=tmp_path / "told", log_to="trackio", log_project="mine")
    (run,) = trackio
    assert run.begun["project"] == "mine" and run.begun["name"] == "fit probe tiny.zarr seed 0" and run.finished
    assert run.begun["config"]["set.epochs"] == "3" and run.begun["config"]["method"] == "probe"
    assert not {"log_to", "log_project"} & run.begun["config"].keys()
    *epochs, (last, at) = run.logged
    assert [number for _, number in epochs] == list(range(1, len(epochs) + 1)) and at == len(epochs)
    assert all(metrics.keys() == {"train/loss", "inner/auc"} for metrics, _ in epochs)
    assert last["inner/best_auc"] == max(metrics["inner/auc"] for metrics, _ in epochs) and last["samples"] == 160
    for name in ("probe.safetensors", "probe.json", "learned.parquet"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "told" / name).read_bytes()
    records = [json.loads((tmp_path / name / "router.json").read_text()) for name in ("plain", "told")]
    assert records[0]["fingerprint"] == records[1]["fingerprint"] and "log" not in records[1]["command"]
    assert "said to the terminal" not in capsys.readouterr().out
    step("fit", **asked, out=tmp_path / "told", log_to="trackio")
    assert len(trackio) == 1  # nothing was fitted
    told = repr([(run.begun, run.logged) for run in trackio])
    assert str(tmp_path) not in told and not [text for text in texts(store_path) if text and text in told]


def test_a_fit_tells_each_epoch_when_it_ends_and_those_before_a_kill_once_more(
    store_path, tmp_path, monkeypatch, trackio
):
    from relope.probes import train

    validate, at_validation = train.rank_auc, []

    def killed_in_the_third(*given):
        at_validation.append(len(trackio[-1].logged))
        if len(at_validation) == 3:
            raise KeyboardInterrupt
        return validate(*given)

    monkeypatch.setattr("relope.probes.features.rank_auc", killed_in_the_third)
    asked = {"method": "probe", "store": store_path, "set": {"epochs": 4}, "out": tmp_path / "r", "log_to": "trackio"}
    with pytest.raises(KeyboardInterrupt):
        step("fit", **asked)
    step("fit", **asked)
    assert at_validation[:3] == [0, 1, 2]  # an epoch's numbers are there before the next one's
    first, second = trackio
    assert [number for _, number in first.logged] == [1, 2] and first.finished
    assert second.logged[:2] == first.logged and [number for _, number in second.logged] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "probe", "set": {"members": 2, "epochs": 2}},
        {"method": "fusion", "set": {"methods": "probe,question-kind", "folds": 2}, "jobs": 2},
    ],
)
def test_several_fits_in_one_tell_no_curve(store_path, tmp_path, trackio, asked):
    step("fit", **asked, store=store_path, out=tmp_path / "r", log_to="trackio")
    assert [set(metrics) for metrics, _ in trackio[0].logged] == [{"samples", "seconds"}]


def test_an_evaluation_tells_every_auc_with_its_interval(store_path, tmp_path, trackio):
    store = tmp_path / "tiny.zarr"
    step("store pull", uri=str(store_path), out=store)
    step("predict", router="logprob", store=store)
    asked = {"store": store, "bootstrap": 100, "log_to": "trackio"}
    report = step("evaluate", **asked)
    row = report.facts["methods"][0]
    (run,) = trackio
    told = {key: value for metrics, _ in run.logged for key, value in metrics.items()}
    assert told["auc/logprob"] == row["auc"] and [told["auc_low/logprob"], told["auc_high/logprob"]] == row["ci95"]
    assert told["samples"] == 80 and run.finished and run.begun["config"]["bootstrap"] == 100
    step("evaluate", **asked)  # a finished report is told again: whoever asks wants it there
    assert len(trackio) == 2


def test_a_sweep_tells_each_combination_and_a_fold_its_samples(store_path, tmp_path, trackio):
    swept = step("sweep", method="probe", store=store_path, grid={"lr": (0.001, 0.01)}, seeds=1, set={"epochs": 1},
                 out=tmp_path / "s.parquet", log_to="trackio")  # fmt: skip
    assert [run.begun["config"]["lr"] for run in trackio] == ["0.001", "0.01"]
    assert [run.logged[0][0]["inner/auc"] for run in trackio] == [one["inner_auc"] for one in swept.facts["settings"]]
    assert all("inner/auc_sd" not in run.logged[0][0] for run in trackio)  # one seed shows none
    step("fit", method="probe", store=store_path, set={"epochs": 1}, folds=2, out=tmp_path / "f.parquet",
         log_to="trackio")  # fmt: skip
    assert trackio[-1].begun["name"].endswith("out of fold") and trackio[-1].logged[0][0]["folds"] == 2


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_told_once_and_the_fit_stays(store_path, tmp_path, monkeypatch, caplog, broken):
    def fail(*arguments, **named):
        raise RuntimeError("the server is gone\nsecond line")

    def init(**begun):
        run = FakeRun([], **begun)
        setattr(run, broken, fail)
        return run

    stand_in(monkeypatch, "wandb", init=fail if broken == "init" else init, Settings=lambda **settings: settings)
    made = step("fit", method="probe", store=store_path, set={"epochs": 2}, out=tmp_path / "r", log_to="wandb")
    assert (made.path / "router.json").is_file()
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned == ["wandb failed (the server is gone): the rest of this run is not told to it"]


def test_only_the_first_of_several_processes_tells(store_path, tmp_path, monkeypatch, trackio):
    from relope.steps.tracking import tracked

    monkeypatch.setenv("RANK", "1")
    with tracked(build("evaluate", {"store": store_path, "log_to": "trackio"}), "x") as tell:
        tell({"a": 1.0})
    assert not trackio


@pytest.mark.parametrize("tracker", ["trackio", "wandb", "mlflow"])
@pytest.mark.parametrize("name, more", [
    ("fit", {"method": "probe"}), ("sweep", {"method": "probe", "grid": {"lr": (0.1,)}}), ("evaluate", {}),
])  # fmt: skip
def test_a_tracker_that_is_not_installed_is_named_before_any_work(
    store_path, tmp_path, monkeypatch, tracker, name, more
):
    from relope.steps import tracking

    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(NotFoundError, match=f"needs the extra `{tracker}`") as error:
        step(name, store=store_path, log_to=tracker, **more)
    assert error.value.hint == f"pip install 'relope[{tracker}]'"


def test_wandb_keeps_neither_terminal_nor_code(store_path, tmp_path, monkeypatch):
    runs = []
    stand_in(monkeypatch, "wandb", init=lambda **begun: FakeRun(runs, **begun), Settings=lambda **settings: settings)
    step("fit", method="probe", store=store_path, set={"epochs": 1}, out=tmp_path / "r", log_to="wandb")
    settings = runs[0].begun["settings"]
    assert settings["console"] == "off" and not settings["save_code"] and settings["disable_git"]


def test_mlflow_is_told_through_its_client(store_path, tmp_path, monkeypatch):
    calls = []

    class Client:
        def get_experiment_by_name(self, name):
            return None if not calls else types.SimpleNamespace(experiment_id="7")

        def create_experiment(self, name):
            calls.append(("experiment", name))
            return "7"

        def create_run(self, experiment_id, run_name=None):
            calls.append(("run", experiment_id, run_name))
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r"))

        def log_param(self, run_id, key, value):
            calls.append(("param", key, value))

        def log_metric(self, run_id, key, value, step=None):
            calls.append(("metric", key, step))

        def set_terminated(self, run_id):
            calls.append(("end", run_id))

    stand_in(monkeypatch, "mlflow", MlflowClient=Client)
    for out in ("a", "b"):
        step("fit", method="probe", store=store_path, set={"epochs": 1}, out=tmp_path / out, log_to="mlflow")
    assert [call for call in calls if call[0] == "experiment"] == [("experiment", "relope")]
    assert ("param", "set.epochs", "1") in calls and ("metric", "inner/auc", 1) in calls and calls[-1] == ("end", "r")


def test_settings_are_told_without_keys_and_folders():
    from relope.steps.tracking import _config

    asked = {"method": "probe", "store": "s3://bucket/x.zarr", "also": ["/home/me/y.zarr"]}
    spec = build("fit", {**asked, "set": {"a": "b" * 900, "encoder": "https://user:secret@host/x?token=abc"}})
    told = _config(spec)
    assert "secret" not in repr(told) and "abc" not in repr(told) and "/home/me" not in repr(told)
    assert told["also"] == "y.zarr" and len(told["set.a"]) == 500


def test_trackio_itself_keeps_the_curve_on_this_machine(store_path, tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    from trackio import utils

    monkeypatch.setattr(utils, "TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    step("fit", method="probe", store=store_path, set={"epochs": 2}, out=tmp_path / "r", log_to="trackio")
    with sqlite3.connect(tmp_path / "trackio" / "relope.db") as database:
        rows = database.execute("SELECT step, metrics FROM metrics ORDER BY id").fetchall()
        config = json.loads(database.execute("SELECT config FROM configs").fetchone()[0])
    database.close()
    assert [number for number, _ in rows] == [1, 2, 2] and "inner/auc" in json.loads(rows[0][1])
    assert config["method"] == "probe"


def test_wandb_itself_offline(store_path, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    step("fit", method="probe", store=store_path, set={"epochs": 2}, out=tmp_path / "r", log_to="wandb")
    wandb.teardown()  # it writes in a process of its own
    (kept,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = kept.read_bytes()
    assert b"inner/auc" in content and not [text for text in texts(store_path) if text and text.encode() in content]


def test_mlflow_itself_with_files(store_path, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "ml").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    step("fit", method="probe", store=store_path, set={"epochs": 2}, out=tmp_path / "r", log_to="mlflow")
    (curve,) = tmp_path.glob("ml/*/*/metrics/inner/auc")
    assert [line.split()[2] for line in curve.read_text().splitlines()] == ["1", "2"]
