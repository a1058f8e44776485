"""Shares of a run: told by hand and by variables, side by side in one store and apart in several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from relope import steps
from relope.errors import InvalidInputError
from relope.extract import plan
from relope.extract.shards import Shard, read_shard
from relope.spec import ExtractSpec, build
from relope.store import ActivationStore, plan_path, verify
from relope.store.format.catalog import catalog_numbers

ROOT = Path(__file__).parents[2]
ARRAY = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "1", "SLURM_ARRAY_TASK_COUNT": "4"}
STARTED = [
    ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3"}, "4/8"),
    ({**ARRAY, "SLURM_ARRAY_TASK_ID": "1"}, "1/4"),
    ({**ARRAY, "SLURM_ARRAY_TASK_ID": "4", "SLURM_PROCID": "0"}, "4/4"),  # a batch script outside of srun
    ({**ARRAY, "SLURM_ARRAY_TASK_ID": "4", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, "8/8"),
    ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, "3/3"),
    ({**ARRAY, "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_STEP": "10", "SLURM_ARRAY_TASK_ID": "20"}, "3/4"),
    ({"JOB_COMPLETION_INDEX": "0", "RELOPE_SHARDS": "16"}, "1/16"),
    ({"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "2"}, "2/2"),
    ({"RANK": "1", "WORLD_SIZE": "4", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, "2/4"),  # torchrun by srun
]
UNCLEAR = [
    ({}, "no variable of torchrun, SLURM, Kubernetes or SkyPilot"),
    ({"JOB_COMPLETION_INDEX": "0"}, "nothing says of how many"),
    ({"JOB_COMPLETION_INDEX": "4", "RELOPE_SHARDS": "4"}, "must be below RELOPE_SHARDS, 4"),
    ({"RANK": "x", "WORLD_SIZE": "4"}, "RANK is 'x'"),
    ({**ARRAY, "SLURM_ARRAY_TASK_ID": "7"}, "not 4 in equal steps from 1"),
    ({**ARRAY, "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_ID": "2"}, "not 4 in equal steps from 1"),
    ({**ARRAY, "SLURM_ARRAY_TASK_ID": "1", "RANK": "0", "WORLD_SIZE": "2"}, "RANK and SLURM_ARRAY_TASK_ID are both"),
]


@pytest.mark.parametrize(("variables", "told"), STARTED)
def test_a_share_is_told_by_what_has_started_the_process(variables, told):
    assert str(read_shard("auto", variables)) == told


@pytest.mark.parametrize(("variables", "says"), UNCLEAR)
def test_variables_that_do_not_tell_one_share_are_refused(variables, says):
    with pytest.raises(InvalidInputError, match=says):
        read_shard("auto", variables)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", "", " 1/2", "１/２"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(InvalidInputError, match="neither auto nor one of n"):
        read_shard(text, {})


def test_shares_are_all_there_is_each_once():
    for count in (1, 2, 3, 7):
        shares = [read_shard(f"{index}/{count}", {}).of(range(5)) for index in range(1, count + 1)]
        assert sorted(item for share in shares for item in share) == list(range(5))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert str(Shard()) == "1/1"


RUN = """
import sys
from pathlib import Path
from relope import steps
from relope.extract import plan
from relope.spec import ExtractSpec
plan.PART_SAMPLES = 16
made = steps.run(ExtractSpec(model="tiny-vl", dataset="tiny", split=("test",), limit=96, batch_size=8,
                             out=Path(sys.argv[1]), shard=sys.argv[2]))
print(made.facts["computed"], made.facts["left"], made.text)
"""


def start(out, shard="auto", **variables):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(out), shard],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
        text=True,
    )


def ended(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The store of the same run in one process."""
    out = tmp_path_factory.mktemp("whole") / "x.zarr"
    ended(start(out, "1/1"))
    with ActivationStore.open(out) as store:
        yield store


def test_processes_side_by_side_make_one_store(tmp_path, whole):
    out = tmp_path / "deep" / "x.zarr"
    started = [start(out, JOB_COMPLETION_INDEX=str(index), RELOPE_SHARDS="3") for index in range(3)]
    told = [ended(process) for process in started]
    assert [line.split()[0] for line in told] == ["32"] * 3 and "0" in [line.split()[1] for line in told]
    together = ActivationStore.open(out)
    assert (together.content_id, together.parts) == (whole.content_id, whole.parts)
    assert together.samples["id"].to_list() == whole.samples["id"].to_list()
    assert catalog_numbers(out) == [1] and list((out / "grades").glob("*.parquet"))
    assert (out / "plan.json").read_bytes() == (whole.path / "plan.json").read_bytes()
    assert verify(out, deep=True) == [] and not list(out.glob("parts/.tmp-*"))


def test_a_share_waits_for_the_others_and_one_that_is_lost_is_run_again(tmp_path, whole):
    out = tmp_path / "x.zarr"
    first = ended(start(out, "2/2"))
    assert first.startswith("48 48 shard 2/2: 48 samples in ") and "48 of 96 samples are other shards'" in first
    assert not catalog_numbers(out) and not (out / "grades").exists()
    assert ended(start(out, "2/2")).startswith("0 48 shard 2/2: 48 samples up to date")
    assert ended(start(out, "1/2")).startswith("48 0 ")
    assert ActivationStore.open(out).parts == whole.parts and (out / "grades").is_dir()


def test_stores_apart_are_merged(tmp_path, whole):
    apart = [tmp_path / f"{index}.zarr" for index in (1, 2)]
    for index, out in enumerate(apart, 1):
        ended(start(out, f"{index}/2"))
    merged = tmp_path / "merged.zarr"
    steps.run(build("store merge", {"stores": [str(out) for out in apart], "out": str(merged)}))
    assert ActivationStore.open(merged).content_id == whole.content_id


def test_a_share_grows_with_its_store(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PART_SAMPLES", 4)
    asked = {"model": "tiny-vl", "dataset": "tiny", "split": ("test",), "out": tmp_path / "x.zarr"}
    for limit in (8, 20):
        for shard in ("1/2", "2/2"):
            made = steps.run(ExtractSpec(**asked, limit=limit, batch_size=4, shard=shard))
        assert made.facts["left"] == 0 and len(ActivationStore.open(tmp_path / "x.zarr")) == limit
    ids = [name for unit in plan.read_plan(plan_path(tmp_path / "x.zarr")) for name in unit.ids]
    assert ActivationStore.open(tmp_path / "x.zarr").samples["id"].to_list() == ids
