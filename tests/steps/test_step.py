"""A new step needs one specification and one file; where outputs lie is known in one place."""

import json
import weakref
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from relope import registry, steps
from relope.cli import app
from relope.errors import InvalidInputError, NotFoundError
from relope.extract.extraction import ModelChoice
from relope.fields import SPECS
from relope.pipeline.ledger import Ledger
from relope.pipeline.plan import plan
from relope.pipeline.runner import decisions, run_pipeline
from relope.spec import build
from relope.steps.functions import step_function

PIPELINE = """
talk:
  stages:
    first: {run: echo, with: {word: hello, times: 2, out: "${out}/hello.txt"}}
    second: {run: echo, with: {word: world, before: "${first.out}", tags: "a,b", set: {loud: 1}, out: "${out}/w.txt"}}
"""


class Board:
    def begin(self, number, label):
        return lambda done, total: None

    def end(self, number, label, text):
        pass


@pytest.fixture
def echo(tmp_path, monkeypatch):
    """The toy step, in a working folder of its own; gone after the test."""
    import echo_step

    monkeypatch.chdir(tmp_path)
    SPECS.pop("echo", None)  # the class entered itself when its file was imported; after the test it must be gone
    monkeypatch.setitem(SPECS, "echo", echo_step.EchoSpec)
    yield echo_step
    step_function.cache_clear()


def relope(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_toy_step_runs_from_the_command_line(echo):
    done = relope("echo", "hello", "--times", "2", "--tags", "a,b", "--set", "loud=1", "--json")
    assert json.loads(done.stdout) == {"path": "runs/hello.txt", "reused": False, "words": 2}
    assert Path("runs/hello.txt").read_text() == "hello a b loud=1\nhello a b loud=1"
    assert "Write words into a file" in relope("echo", "--help").stdout and "echo" in relope("--help").stdout
    wrong = relope("echo", "hello", "--times", "0")
    assert wrong.exit_code == 2 and "--times" in wrong.stderr


def test_a_toy_step_runs_from_yaml_and_is_skipped_when_nothing_changed(echo, tmp_path):
    Path("pipelines.yaml").write_text(PIPELINE)
    planned = plan(Path("pipelines.yaml"), "talk", tmp_path)
    assert [step.needs for step in planned] == [frozenset(), frozenset({0})]
    run_pipeline(planned, Ledger.open(tmp_path), 1, Board())
    assert (tmp_path / "w.txt").read_text() == "hello\nhello\nworld a b loud=1"
    assert not any(decision.run for decision in decisions(planned, Ledger.open(tmp_path)))
    (tmp_path / "hello.txt").write_text("changed")
    assert [decision.run for decision in decisions(planned, Ledger.open(tmp_path))] == [True, True]


def test_a_toy_step_runs_from_python(echo):
    assert steps.run(echo.EchoSpec(word="hi")).facts == {"words": 1}
    outcome = step_function("echo")("there", before=Path("runs/hi.txt"), tags=["x"])
    assert outcome.path == Path("runs/there.txt") and outcome.path.read_text() == "hi\nthere x"
    with pytest.raises(InvalidInputError, match="times=0"):
        step_function("echo")("there", times=0)
    with pytest.raises(NotFoundError, match="did you mean 'times'"):
        step_function("echo")("there", time=3)


@pytest.mark.parametrize("step", sorted(SPECS))
def test_every_step_is_declared_whole(step):
    opened = steps.open_step(step)
    assert opened.version >= 1 and callable(opened.run) and callable(opened.output)
    assert SPECS[step].__doc__ and all(info.description for info in SPECS[step].model_fields.values())


PLANNED = """
own:
  stages:
    store: {run: extract, with: {model: tiny-vl, dataset: DATASET, split: train, limit: 2, device: cpu}}
    info: {run: store info, with: {store: "${store.out}"}}
"""


@pytest.mark.parametrize("kind", ["folder", "file", "plug-in"])
def test_plan_and_run_agree_on_a_data_set_with_a_dot_in_its_name(kind, tmp_path, monkeypatch):
    """A data set called my-v1.5 was planned at my-v1.zarr and written to my-v1.5.zarr."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps({"id": i, "question": "q", "answer": "a", "split": "train"}) + "\n" for i in range(2))
    if kind == "folder":
        Path("my-v1.5").mkdir()
        Path("my-v1.5/rows.jsonl").write_text(rows)
    elif kind == "file":
        Path("my-v1.5.jsonl").write_text(rows)
    else:
        known = registry._files
        files = {**known("datasets"), "my-v1.5": known("datasets")["tiny-bars"]}
        monkeypatch.setattr(registry, "_files", lambda asked: files if asked == "datasets" else known(asked))
    name = "my-v1.5.jsonl" if kind == "file" else "my-v1.5"
    Path("pipelines.yaml").write_text(PLANNED.replace("DATASET", name))
    planned = plan(Path("pipelines.yaml"), "own", tmp_path)
    assert planned[0].output == Path("runs/my-v1.5.zarr") and planned[1].needs == {0}
    if kind != "plug-in":
        assert steps.run(planned[0].spec).path == planned[0].output and planned[0].output.is_dir()
        assert not steps.run(build("store info", {"store": planned[0].output})).failed


def test_a_model_that_has_run_leaves_its_memory_to_others(monkeypatch, tmp_path):
    """In a pipeline the next step may run in another process, on the same card."""
    models, left, opened = [], [], ModelChoice.open

    def noted(choice):
        backbone = opened(choice)
        models.append(weakref.ref(backbone.model))
        return backbone

    monkeypatch.setattr(ModelChoice, "open", noted)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: left.append([model() for model in models]))
    asked = {"model": "tiny-vl", "dataset": "tiny", "split": "test", "limit": 4, "out": tmp_path / "x.zarr"}
    steps.run(build("extract", asked))
    assert left[-1] == [None]
