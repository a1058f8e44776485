"""Where an attention probe looks, without torch: what the method itself says."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from relope.errors import StoreError
from relope.probes.examples import Examples
from relope.probes.gaze import mean_weights, read_gazes
from relope.probes.protocol import make
from relope.probes.router import RouterRecord, load_router, read_record
from relope.spec import build
from relope.store.grades import labelled
from relope.tiny.scenes import digits


@pytest.mark.parametrize("settings", [
    {}, {"pool": "image"}, {"pool": "text", "norm": "rms"}, {"norm": "rms", "last": True}, {"members": 2},
])  # fmt: skip
def test_the_weights_are_those_of_the_method(store, tmp_path, settings):
    rows, correct = labelled(store, ("train",), None)
    probe = make("attention-probe", {"epochs": 2, **settings}).fit(Examples(store, rows, correct, 4), seed=0)
    probe.save(tmp_path)
    gazes = read_gazes(tmp_path, RouterRecord("attention-probe", layer=4))
    assert len(gazes) == settings.get("members", 1)
    some = rows[:5]
    for row, weights in zip(some, probe.token_weights(Examples(store, some, None, 4)), strict=True):
        told = mean_weights(gazes, store, int(row), 4)
        assert told.dtype == np.float32 and told.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(told, weights, rtol=2e-4, atol=1e-7)


def test_another_method_has_none_and_a_damaged_one_is_refused(store, tmp_path):
    assert read_gazes(tmp_path, RouterRecord("probe")) == ()
    rows, correct = labelled(store, ("train",), None)
    make("attention-probe", {"epochs": 1}).fit(Examples(store, rows, correct, 4), seed=0).save(tmp_path)
    settings = json.loads((tmp_path / "probe.json").read_text())
    for change in ({"params": {}}, {"width": 7}, {"width": None}):
        (tmp_path / "probe.json").write_text(json.dumps({**settings, **change}))
        with pytest.raises(StoreError):
            read_gazes(tmp_path, RouterRecord("attention-probe"))


def test_looking_loads_no_torch_and_says_what_explain_says(store_path, tmp_path):
    from relope import steps
    from relope.steps.explain import explain, looker
    from relope.store import open_store

    store = shutil.copytree(store_path, tmp_path / "tiny.zarr")
    fit = {"method": "attention-probe", "store": str(store), "set": {"epochs": 1}}
    folder = steps.run(build("fit", fit)).path
    with open_store(store) as opened:
        name = opened.samples["id"][3]
        told, told_by_torch = looker(folder)(opened, name), explain(load_router(folder), opened, name)
        assert told.note == told_by_torch.note
        assert [word.text for word in told.words] == [word.text for word in told_by_torch.words]
        for ours, theirs in zip(told.patches, told_by_torch.patches, strict=True):
            np.testing.assert_allclose(ours.weights, theirs.weights, rtol=2e-4, atol=1e-7)
    code = (
        "import sys; from pathlib import Path; from relope.steps.explain import looker\n"
        "from relope.store import open_store\n"
        f"told = looker(Path({str(folder)!r}))(open_store({str(store)!r}), {name!r})\n"
        "assert told.words and '⟨' not in told.words[0].text\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert read_record(folder).method == "attention-probe"


def test_a_router_of_another_method_is_asked_itself(store_path, tmp_path):
    from relope import steps
    from relope.errors import InvalidInputError
    from relope.steps.explain import looker
    from relope.store import open_store

    made = steps.run(
        build("fit", {"method": "probe", "store": str(store_path), "set": {"epochs": 1}, "out": tmp_path / "r"})
    )
    with open_store(store_path) as opened, pytest.raises(InvalidInputError, match="weighs no tokens"):
        looker(made.path)(opened, opened.samples["id"][0])


def test_scans_are_scikit_learn_s():
    from sklearn.datasets import load_digits

    images, labels = digits._load()
    there = load_digits()
    np.testing.assert_array_equal(images, there.images)
    np.testing.assert_array_equal(labels, there.target)
    assert images.dtype == there.images.dtype and labels.dtype == there.target.dtype
