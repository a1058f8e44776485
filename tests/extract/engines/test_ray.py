"""Ray: what never fits is told with what there is, and whoever dies, the store is that of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relope.cli import app
from relope.extract import cluster
from relope.extract.engine import Work
from relope.extract.plan import Unit
from relope.store import ActivationStore, verify

pytest.importorskip("ray")
ROOT = Path(__file__).parents[3]
RUN = """
import sys
from pathlib import Path
from relope import steps
from relope.extract import plan
from relope.spec import ExtractSpec
plan.PART_SAMPLES = 24
more = {"engine": "ray", "workers": 2} if sys.argv[2] == "ray" else {}
steps.run(ExtractSpec(model="tiny-vl", dataset="tiny", split=("test",), limit=384, batch_size=8, samples=1,
                      trace_tokens=16, out=Path(sys.argv[1]), **more))
"""


def start(out, engine):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(out), engine],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def sealed(out):
    return len(list(out.glob("parts/[0-9a-f]*/COMMIT.json")))


def in_mid_part(out):
    """Return the ids of the processes that are writing a part; their names say them."""
    return [int(folder.name.split("-")[2]) for folder in out.glob("parts/.tmp-*-*")]


def wait_for(condition, process):
    limit = time.monotonic() + 240
    while time.monotonic() < limit and process.poll() is None:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


@pytest.mark.ray
def test_workers_killed_ten_times_and_drivers_three_the_store_is_that_of_one_process(tmp_path):
    whole, out = tmp_path / "whole.zarr", tmp_path / "x.zarr"
    assert start(whole, "local").wait(timeout=400) == 0
    killed = set()
    for n_workers, last in ((4, False), (3, False), (3, False), (0, True)):
        driver = start(out, "ray")
        for _ in range(n_workers):
            (victim, *_) = wait_for(lambda: [pid for pid in in_mid_part(out) if pid not in killed], driver)
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
        if last:
            assert driver.wait(timeout=400) == 0
        else:
            wait_for(lambda: [pid for pid in in_mid_part(out) if pid not in killed], driver)
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
    assert len(killed) == 10
    one, many = ActivationStore.open(whole), ActivationStore.open(out)
    assert (many.content_id, many.parts, len(many)) == (one.content_id, one.parts, 384)
    assert verify(out, deep=True) == [] and not in_mid_part(out)


class Dies:
    """An actor of which the first three die in their first unit."""

    def __init__(self, asked):
        self.path = Path(asked["died"])

    def compute(self, ids, batch_size):
        if len(self.path.read_text()) < 3:
            with self.path.open("a") as file:
                file.write("x")
            os._exit(1)
        return None if ids[0] != "refused" else ("sample 'refused' alone does not fit", "use smaller images")

    def done(self):
        return 1


@pytest.fixture
def small_cluster():
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    cluster.join(None)
    yield
    ray.shutdown()


def test_a_worker_is_started_anew_after_longer_and_longer_pauses(tmp_path, monkeypatch, caplog, small_cluster):
    monkeypatch.setattr(cluster, "Actor", Dies)
    monkeypatch.setattr(cluster, "LONGEST_PAUSE_S", 1.5)
    died, told = tmp_path / "died", []
    died.write_text("")
    units = [Unit(("a", "b"), 2), Unit(("c",), 2)]
    work = Work(None, units, {}, lambda ids: None, lambda done, total: told.append((done, total)))
    cluster.compute_on_cluster(cluster.Crew(1, 0.0), {"died": str(died)}, work)
    assert told[-1] == (3, 3) and died.read_text() == "xxx"
    pauses = [message.split(" in ")[1] for message in caplog.messages if "a worker has died" in message]
    assert pauses == ["1 s", "1.5 s", "1.5 s"]
    refused = Work(None, [Unit(("refused",), 2)], {}, lambda ids: None, lambda done, total: None)
    with pytest.raises(cluster.InvalidInputError, match="alone does not fit"):
        cluster.compute_on_cluster(cluster.Crew(1, 0.0), {"died": str(died)}, refused)
    for wanted in ((99, 0.0), (1, 1.0), (None, 0.5)):
        with pytest.raises(
            cluster.InvalidInputError, match=r"can never be placed: the cluster has 1 node: 1 × \("
        ) as no:
            cluster.crew_for(*wanted)
        assert "room for" in str(no.value) and "--workers" in no.value.hint
    assert cluster.crew_for(None, None).workers == max(1, cluster.crew_for(1, 0.0).cpus * os.cpu_count() - 1)


@pytest.mark.parametrize(
    ("node", "gpus", "fits"),
    [
        ({"CPU": 8}, 0, 8),
        ({"CPU": 8}, 1, 0),
        ({"CPU": 64, "GPU": 8}, 1, 8),
        ({"CPU": 64, "GPU": 8}, 3, 2),
        ({"CPU": 64, "GPU": 2}, 0.5, 4),
        ({"CPU": 3, "GPU": 8}, 1, 3),
        ({"CPU": 64, "GPU": 1}, 0.4, 2),
    ],
)
def test_who_fits_on_a_node(node, gpus, fits):
    assert cluster._fitting(node, gpus) == fits


def test_a_cluster_that_is_not_there_is_told(tmp_path):
    asked = ["extract", "--model", "tiny-vl", "--dataset", "tiny", "--engine", "ray", "--out", str(tmp_path / "x.zarr")]
    result = CliRunner().invoke(app, [*asked, "--address", "nowhere.invalid:6379", "--limit", "1"])
    assert result.exit_code == 2 and "nowhere.invalid:6379 cannot be reached" in result.stderr, result.output
    assert len(result.stderr.strip().splitlines()) == 2 and not (tmp_path / "x.zarr").exists()
