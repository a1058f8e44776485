"""docs/scale.md: its commands run as they stand there, its scripts with the variables of what would start them."""

import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from pages import ROOT, Walk
from typer.testing import CliRunner

from relope.cli import app
from relope.extract import plan
from relope.store import ActivationStore, open_store

PAGE = "docs/scale.md"
DEVICES = Walk(PAGE, "runs/devices.zarr")
SHARDS = Walk(PAGE, "runs/shared.zarr")
ARRAY = Walk(PAGE, "#SBATCH")
JOB = Walk(PAGE, "kind: Job")
TASK = Walk(PAGE, "num_nodes")
RAY = Walk(PAGE, "runs/ray.zarr")
POOL = Walk(PAGE, "relope sweep")
TABLE = Walk(PAGE, "from math import ceil")
HERE = {"gemma3-12b": "tiny-vl", "aokvqa": "tiny", "s3://team/aokvqa.zarr": "team.zarr"}
"""What the page asks for → what takes its place here."""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command of the page in this process, with a few variables, in small parts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "PART_SAMPLES", 4)

    def invoke(words, out, **variables):
        words = [HERE.get(word, str(tmp_path / out) if word.endswith("aokvqa.zarr") else word) for word in words]
        few = ["--split", "test", "--limit", "32", "--batch-size", "4"] if "extract" in words else []
        result = CliRunner().invoke(app, [*words[words.index("relope") + 1 :], *few], env=variables)
        assert result.exit_code == 0, result.output

    return invoke


def test_two_shards_as_they_are_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with SHARDS as walk:
        walk.run_all()
    assert len(walk.said) == 2
    with ActivationStore.open("runs/shared.zarr") as store:
        assert len(store) == 40 * len(store.samples["split"].unique())


def test_the_devices_as_they_are_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with DEVICES as walk:
        walk.run_all()
    assert len(ActivationStore.open("runs/devices.zarr")) == 180


def test_ray_as_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RAY as walk:
        walk.run_all()
    assert len(ActivationStore.open("runs/ray.zarr")) == 180


def test_fits_and_pipelines_as_they_are_typed(tmp_path, monkeypatch, ray_cluster, store_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    shutil.copytree(store_path, tmp_path / "runs/tiny.zarr")
    with POOL as walk:
        walk.flags = {"run": ["--dry-run"]}  # tests/cluster runs one
        sweep, _ = walk
    assert "4 runs" in sweep.text


def test_the_table_is_what_the_formulas_say(capsys):
    with TABLE as walk:
        walk.run_all()
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 5 and [row for row in rows if f"\n{row}\n" not in page] == []


def test_the_array_of_slurm(run, tmp_path):
    script = ARRAY.text
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    first, last = re.search(r"--array=(\d+)-(\d+)", script).groups()
    words = shlex.split(script.splitlines()[-1])
    for task in range(int(first), int(last) + 1):
        variables = {"TASK_ID": task, "TASK_MIN": first, "TASK_STEP": 1, "TASK_COUNT": int(last) - int(first) + 1}
        array = {f"SLURM_ARRAY_{name}": str(value) for name, value in variables.items()}
        run(words, "x.zarr", **array, SLURM_PROCID="0", SLURM_STEP_NUM_TASKS="1")
    assert len(ActivationStore.open(tmp_path / "x.zarr").parts) == 8


def test_the_job_of_kubernetes(run, tmp_path):
    job = yaml.safe_load(JOB.text)["spec"]
    (container,) = job["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert job["completionMode"] == "Indexed" and variables == {"RELOPE_SHARDS": str(job["completions"])}
    assert {one["name"] for one in container["volumeMounts"]} == {
        one["name"] for one in job["template"]["spec"]["volumes"]
    }
    for index in range(job["completions"]):
        run(container["command"], "x.zarr", JOB_COMPLETION_INDEX=str(index), **variables)
    assert len(ActivationStore.open(tmp_path / "x.zarr")) == 32


def test_the_task_of_skypilot(run, tmp_path, monkeypatch):
    task = yaml.safe_load(TASK.text)
    extract, push = task["run"].splitlines()
    for node in range(task["num_nodes"]):
        (tmp_path / f"node-{node}").mkdir()
        monkeypatch.chdir(tmp_path / f"node-{node}")
        run(shlex.split(extract), "", SKYPILOT_NODE_RANK=str(node), SKYPILOT_NUM_NODES=str(task["num_nodes"]))
        run([str(tmp_path / "team.zarr") if word.startswith("s3:") else word for word in shlex.split(push)], "")
    assert len(open_store(str(tmp_path / "team.zarr"))) == 32
