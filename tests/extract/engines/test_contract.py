"""Every engine: its parts are those of `local`, in the order that was planned, whatever happens on the way."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from relope import registry, steps
from relope.errors import InvalidInputError
from relope.extract import engine, plan
from relope.spec import ExtractSpec, build
from relope.store import ActivationStore, plan_path, verify

ROOT = Path(__file__).parents[3]
ENGINES = registry.names(engine.KIND)
CASES: dict[str, tuple[str, dict[str, str]]] = {
    **{name: (name, {}) for name in ENGINES},
    "ray": ("ray", {"workers": "2"}),
    "a process a device": ("local", {"devices": "cpu,cpu"}),
}
"""Case → an engine, and the settings of its own that it is run with."""

ELSEWHERE = {"vllm"}
"""Engines that need an environment of their own, and whose own tests run the same checks there."""

HERE = [pytest.param(case, marks=pytest.mark.skipif(case in ELSEWHERE, reason="not here")) for case in CASES]
RUN = """
import sys
from pathlib import Path
from relope import steps
from relope.extract import plan
from relope.spec import build
plan.PART_SAMPLES = 16  # several parts, so that there is something to keep
asked = dict(setting.split("=", 1) for setting in sys.argv[1:])
steps.run(build("extract", {"model": "tiny-vl", "dataset": "tiny", "split": "test", "batch_size": 8, **asked}))
"""


@pytest.fixture
def settings(case, request):
    """What a case is run with; the cluster that Ray runs on is started once, for all tests."""
    joined = {"address": request.getfixturevalue("ray_cluster")} if CASES[case][0] == "ray" else {}
    return {**CASES[case][1], **joined}


def asked(out, case="local", **changes):
    name, settings = CASES[case]
    asked = {"model": "tiny-vl", "dataset": "tiny", "split": "test", "limit": 48, "batch_size": 8, "out": out}
    return build("extract", {**asked, "engine": name, **settings, **changes})


def is_exact(case):
    return engine.engine_module(CASES[case][0]).EXACT


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of 16 samples, computed on one thread wherever they are computed."""
    monkeypatch.setattr(plan, "PART_SAMPLES", 16)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


EXTRAS = {"samples": 1, "trace_tokens": 4, "p_true": True}


@pytest.fixture(scope="module")
def by_local(tmp_path_factory):
    """The stores that engines are compared with: 48 samples with everything that may be asked, and 96 plain ones."""
    folder, threads = tmp_path_factory.mktemp("local"), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "PART_SAMPLES", 16)
        torch.set_num_threads(1)
        steps.run(asked(folder / "all.zarr", **EXTRAS))
        steps.run(asked(folder / "plain.zarr", limit=96))
        torch.set_num_threads(threads)
    return folder


@pytest.mark.parametrize("name", ENGINES)
def test_a_file_exports_what_the_step_asks_for(name):
    module = engine.engine_module(name)
    assert module.VERSION and isinstance(module.EXACT, bool)
    assert set(module.TAKES) | set(module.REFUSES) <= set(ExtractSpec.model_fields)
    assert not set(module.TAKES) & set(module.REFUSES)
    assert all(reason and not reason.endswith(".") for reason in module.REFUSES.values())


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_looked_at_without_loading_anything_heavy(name):
    code = (
        f"import sys; from relope.extract.engine import engine_module; engine_module({name!r}); "
        "print([name for name in ('torch', 'transformers', 'ray', 'vllm', 'httpx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "setting"), [(n, s) for n in ENGINES for s in engine.engine_module(n).REFUSES])
def test_what_an_engine_cannot_honour_is_refused_by_name(name, setting, tmp_path):
    values = {
        "attn": "eager",
        "quantize": "4bit",
        "device_map": "auto",
        "device": "cpu",
        "dtype": "float32",
        "shard": "1/2",
    }
    assert setting in values, "say here what a user would give"
    given = {"model": "tiny-vl", "dataset": "tiny", "out": tmp_path / "x.zarr", setting: values[setting]}
    with pytest.raises(InvalidInputError, match=rf"^{setting} is not for the engine {name}: ") as refused:
        steps.run(ExtractSpec(**given, engine=name))
    assert "--" + setting.replace("_", "-") in refused.value.hint and not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize("case", HERE)
def test_its_parts_are_those_of_local(case, settings, by_local, tmp_path, small_parts):
    told: list[tuple[int, int]] = []

    def watch(label):
        return nullcontext(lambda done, total: told.append((done, total)) if label.startswith("extract") else None)

    outcome = steps.run(asked(tmp_path / "x.zarr", case, **settings, **EXTRAS), watch)
    local, other = ActivationStore.open(by_local / "all.zarr"), ActivationStore.open(tmp_path / "x.zarr")
    assert outcome.facts["computed"] == 48 and verify(tmp_path / "x.zarr", deep=True) == []
    assert other.samples["id"].to_list() == local.samples["id"].to_list()
    assert told[-1] == (48, 48) and [done for done, _ in told] == sorted(done for done, _ in told)
    if is_exact(case):
        assert (other.content_id, other.parts) == (local.content_id, local.parts)
        assert other.samples["traces_chain"].to_list() == local.samples["traces_chain"].to_list()
        assert other.manifest.recipe_id == local.manifest.recipe_id
    else:
        assert other.manifest.identity.get("engine"), "values that may differ make another recipe"


@pytest.mark.parametrize("case", HERE)
def test_a_store_grows_and_nothing_is_computed_twice(case, settings, tmp_path, small_parts):
    out = tmp_path / "x.zarr"
    steps.run(asked(out, case, **settings, limit=20))
    first = ActivationStore.open(out).parts
    assert steps.run(asked(out, case, **settings, limit=20)).reused
    more = steps.run(asked(out, case, **settings, limit=40))
    grown = ActivationStore.open(out)
    assert more.facts["computed"] == 20 and tuple(grown.parts[: len(first)]) == tuple(first)
    assert [i for unit in plan.read_plan(plan_path(out)) for i in unit.ids] == grown.samples["id"].to_list()


@pytest.mark.parametrize("case", HERE)
def test_killed_in_mid_part_the_same_command_goes_on(case, settings, by_local, tmp_path, small_parts):
    out = tmp_path / "x.zarr"
    process = _start(out, case, settings)
    limit = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < limit and not list(out.glob("parts/[0-9a-f]*/COMMIT.json")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _wait_for_the_dead(out, on_ray="address" in settings)
    kept = len(ActivationStore.open(out))
    assert 0 < kept < 96 and kept % 16 == 0 and verify(out, deep=True) == []
    assert steps.run(asked(out, case, **settings, limit=96)).facts["computed"] <= 96 - kept
    whole = by_local / "plain.zarr"
    if not is_exact(case):
        steps.run(asked(whole := tmp_path / "whole.zarr", case, **settings, limit=96))
    resumed, expected = ActivationStore.open(out), ActivationStore.open(whole)
    assert (len(resumed), resumed.content_id, resumed.parts) == (96, expected.content_id, expected.parts)
    assert not list(out.glob("parts/.tmp-*"))


def _wait_for_the_dead(out, on_ray):
    """Wait until nobody writes any more; a cluster ends its workers only when it sees that nobody waits for them."""
    if on_ray:
        import ray

        whole = ray.remote(num_cpus=ray.cluster_resources()["CPU"])(lambda: None)
        ray.get(whole.remote(), timeout=120)  # runs once every core is free again
    limit = time.monotonic() + 60
    while _writing(out) and time.monotonic() < limit:
        time.sleep(0.05)


def _writing(out):
    """Return the processes that are writing a part and are not dead; the folders' names say them."""
    pids = {folder.name.split("-")[2] for folder in out.glob("parts/.tmp-*-*")}
    stats = [stat.read_text() for pid in pids if (stat := Path(f"/proc/{pid}/stat")).exists()]
    return [stat for stat in stats if stat.rpartition(")")[2].split()[0] not in "ZX"]


def _start(out, case, settings):
    """Run the same in a process of its own."""
    values = {"engine": CASES[case][0], "limit": 96, "out": out, **settings}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *(f"{key}={value}" for key, value in values.items())],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
