"""Ray: whoever dies in the middle of a part, the store is that of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
