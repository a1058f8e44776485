"""An extraction killed at any moment goes on and ends with the same content."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relope.extract import plan
from relope.store import ActivationStore, verify

ROOT = Path(__file__).parents[2]
RUN = """
import sys
from pathlib import Path
from relope import steps
from relope.extract import plan
from relope.spec import ExtractSpec
plan.PART_SAMPLES = 16  # several parts, so that there is something to keep
sys.stdout.write("start\\n"); sys.stdout.flush()
steps.run(ExtractSpec(model="tiny-vl", dataset="tiny", split=("test",), limit=96, batch_size=8, samples=1,
                          trace_tokens=8, out=Path(sys.argv[1])))
"""


def start(out):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        text=True,
        start_new_session=True,
    )


def until_sealed(out, n_parts, process):
    """Wait until so many parts are sealed, or the process has ended."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit and process.poll() is None:
        if len([part for part in out.glob("parts/*/COMMIT.json") if not part.parent.name.startswith(".")]) >= n_parts:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_resumed_it_ends_with_the_same_content(tmp_path, how):
    whole = start(tmp_path / "whole.zarr")
    out = tmp_path / "x.zarr"
    for n_parts in (1, 3):
        process = start(out)
        until_sealed(out, n_parts, process)
        os.killpg(process.pid, how)
        process.communicate()
        assert verify(out, deep=True) == []
        kept = len(ActivationStore.open(out))
        assert kept % 16 == 0 and kept >= 16 * n_parts, "only the open part is lost"
    for process in (start(out), whole):
        process.communicate()
        assert process.returncode == 0
    resumed, expected = ActivationStore.open(out), ActivationStore.open(tmp_path / "whole.zarr")
    assert len(expected) == 96 and len(expected.parts) == 6
    assert (resumed.content_id, resumed.parts) == (expected.content_id, expected.parts)
    units = plan.read_plan(out / "plan.json")
    assert [unit.ids for unit in units] == [unit.ids for unit in plan.read_plan(tmp_path / "whole.zarr" / "plan.json")]
    assert resumed.samples["traces_chain"].to_list() == expected.samples["traces_chain"].to_list()
