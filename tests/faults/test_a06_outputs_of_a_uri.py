"""A6: what is made from a store elsewhere lies where its recipe and content tell, never beside a local store's."""

import shutil

import pytest
from stepping import report_of, step

from relope.pipeline.lineage import output_of
from relope.spec import build
from relope.steps.outputs import outputs_beside
from relope.store import open_store


@pytest.fixture
def store(store_path, tmp_path, monkeypatch):
    """The small store as runs/tiny.zarr of a working folder of our own."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(store_path, tmp_path / "runs" / "tiny.zarr")


def test_a6_a_remote_store_of_the_same_name_has_outputs_of_its_own(store, team, tmp_path):
    uri = f"{team}/tiny.zarr"
    step("store push", store=store, uri=uri)
    step("fit", method="question-kind", store="runs/tiny.zarr")
    step("predict", router="runs/tiny.zarr.routers/question-kind", store="runs/tiny.zarr")
    here = step("evaluate", store="runs/tiny.zarr", bootstrap=100).path
    before = {path: path.read_bytes() for path in tmp_path.glob("runs/tiny.zarr.*/**/*") if path.is_file()}
    fitted = step("fit", method="probe", store=uri, set={"epochs": 2})
    scored = step("predict", router=fitted.path, store=uri)
    there = step("evaluate", store=uri, bootstrap=100).path
    assert there != here and [row["method"] for row in report_of(there)["methods"]] == ["probe"]
    assert report_of(there)["methods"][0]["n_train"] > 0
    assert {path: path.read_bytes() for path in before} == before
    with open_store(store) as opened:
        name = f"runs/tiny.zarr-{opened.recipe_id[:8]}-{opened.content_id[:8]}"
    assert outputs_beside(uri) == name and str(fitted.path) == f"{name}.routers/probe"
    planned = {
        "fit": {"method": "probe"},
        "predict": {"router": fitted.path},
        "evaluate": {},
        "sweep": {"method": "probe"},
    }
    made = {"fit": fitted.path, "predict": scored.path, "evaluate": there}
    for step_name, values in planned.items():
        spec = build(step_name, {**{key: str(value) for key, value in values.items()}, "store": uri})
        assert output_of(spec) == made.get(step_name, output_of(spec)) and str(output_of(spec)).startswith(name)


def test_a6_another_content_of_one_uri_has_outputs_of_its_own(store, tmp_path):
    uri = (tmp_path / "mount" / "tiny.zarr").as_uri()
    (tmp_path / "mount").mkdir()
    step("store push", store=store, uri=uri)
    first = outputs_beside(uri)
    step("extract", model="tiny-vl", dataset="tiny", split="test", limit=84, out=store, device="cpu")
    step("store push", store=store, uri=uri)
    assert outputs_beside(uri) != first and outputs_beside(uri).split("-")[1] == first.split("-")[1]
    assert outputs_beside("runs/tiny.zarr") == "runs/tiny.zarr"
