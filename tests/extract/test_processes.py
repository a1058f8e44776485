"""One process a device: units are handed out once, progress adds up, and whoever dies is told by its device."""

import os
from types import SimpleNamespace

import pytest

from relope.errors import InvalidInputError
from relope.extract import processes
from relope.extract.engine import EngineError, Work
from relope.extract.plan import Unit
from relope.steps.extract_worker import Worker, asked_again

UNITS = [Unit((f"{n}a", f"{n}b"), 2) for n in range(6)]
WORKER = """
import json, os, sys
spec = json.loads(sys.stdin.readline())["spec"]
for line in sys.stdin:
    ids, batch_size = json.loads(line)
    if spec["device"] == spec["fails_on"]:
        {fails}
    with open(spec["out"], "a") as sealed:
        sealed.write(" ".join(ids) + "\\n")
    print(json.dumps({"done": 1}), flush=True)
    print(json.dumps({"sealed": len(ids)}), flush=True)
"""


@pytest.fixture
def compute(tmp_path, monkeypatch):
    """Give a function that computes the units on devices, of which one fails; it returns what was sealed."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(processes, "WORKER", "stand_in")

    def run(devices, fails_on="", fails="", progress=lambda done, total: None):
        (tmp_path / "stand_in.py").write_text(WORKER.replace("{fails}", fails or "pass"))
        out = tmp_path / "sealed"
        out.touch()
        work = Work(None, UNITS, {}, lambda ids: None, progress)
        processes.compute_on(devices, {"spec": {"out": str(out), "fails_on": fails_on}}, work)
        return out.read_text().splitlines()

    return run


def test_every_unit_is_computed_once_and_progress_adds_up(compute):
    told = []
    sealed = compute(["cpu", "cpu"], progress=lambda done, total: told.append((done, total)))
    assert sorted(sealed) == [" ".join(unit.ids) for unit in UNITS]
    assert told[-1] == (12, 12) and all(done <= total == 12 for done, total in told)


@pytest.mark.parametrize(("fails", "error", "says"), [
    ("os._exit(3)", EngineError, "the process on cuda:1 ended with exit code 3"),
    ("os.kill(os.getpid(), 9)", EngineError, "the process on cuda:1 ended by signal 9"),
    ("""print(json.dumps({"error": "no card", "hint": "-"}), flush=True)""", InvalidInputError, "on cuda:1: no card"),
])  # fmt: skip
def test_a_process_that_dies_or_refuses_is_told_by_its_device(compute, fails, error, says):
    with pytest.raises(error, match=says):
        compute(["cuda:0", "cuda:1"], "cuda:1", fails)


def test_a_process_that_is_dead_before_it_is_asked_is_told(compute, tmp_path):
    (tmp_path / "stand_in.py").write_text("raise SystemExit(4)")
    process = None
    try:
        with pytest.raises(EngineError, match="exit code 4"):
            process = processes._Process("cpu", {"spec": {}}, 1)
            process.hand(UNITS[0])
            process.answer()
    finally:
        if process is not None:
            process.kill()


def test_a_worker_that_cannot_see_the_store_or_the_samples_says_so(store_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from relope.spec import build

    spec = build("extract", {"model": "tiny-vl", "dataset": "tiny", "out": tmp_path / "x.zarr"})
    with pytest.raises(Exception, match=r"x\.zarr is not to be seen on"):
        Worker(asked_again(spec, tmp_path / "x.zarr"))
    worker, ended = Worker.__new__(Worker), []
    worker.samples, worker.thumbnails, worker.batches = {"a": None}, False, None
    worker.writer = SimpleNamespace(is_sealed=lambda ids: ids == ["a"])
    worker.work(iter([(7, (["a"], 1))]), lambda *told: ended.append(told), print)
    assert ended == [(7, None)]  # sealed already: no model is asked
    with pytest.raises(InvalidInputError, match="has no sample 'b', nor 1 others"):
        worker.work(iter([(8, (["a", "b", "c"], 2))]), lambda *told: None, print)
