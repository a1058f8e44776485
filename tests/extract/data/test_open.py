"""What a data set is called: the same before it is opened, after, and in what a run leaves behind."""

import json
from importlib.metadata import EntryPoint

import pytest

from relope import registry, steps
from relope.errors import InvalidInputError
from relope.extract.data.open import dataset_name, open_dataset
from relope.spec import CaptionSpec, ExtractSpec
from relope.steps.step import step_of
from relope.store import ActivationStore

NAME = "my-v1.5"
ROWS = "".join(json.dumps({"id": f"q{n}", "question": f"is {n} red ?", "answer": "red"}) + "\n" for n in range(3))
PLUGIN = f"""
from relope.extract.data.dataset import DataSet
from relope.types import Sample

DATASET = DataSet("NAME", ("test",), lambda split, limit: [Sample("q", "{NAME}", "test", "red ?", ("red",))][:limit])
"""


def plug_in(monkeypatch, folder, own_name):
    """Let another package register a data set; its DATASET says what it is called."""
    (folder / "a_plug_in.py").write_text(PLUGIN.replace("NAME", own_name))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "a_plug_in", raising=False)
    point = EntryPoint(NAME, "a_plug_in", "relope.datasets")
    monkeypatch.setattr(registry, "_entry_points", lambda kind: {NAME: point} if kind == "datasets" else {})


@pytest.fixture(params=["plug-in", "file", "folder"])
def ref(request, tmp_path, monkeypatch):
    """A data set called my-v1.5, of every kind there is."""
    monkeypatch.chdir(tmp_path)
    if request.param == "plug-in":
        plug_in(monkeypatch, tmp_path, NAME)
        return NAME
    file = tmp_path / (f"{NAME}.jsonl" if request.param == "file" else f"{NAME}/test.jsonl")
    file.parent.mkdir(exist_ok=True)
    file.write_text(ROWS)
    return str(file if request.param == "file" else file.parent)


def test_a_name_with_a_dot_is_planned_and_written_as_one(ref):
    asked = {"model": "tiny-vl", "dataset": ref, "device": "cpu", "max_new_tokens": 0}
    planned = step_of(ExtractSpec(**asked)).output(ExtractSpec(**asked))
    assert dataset_name(ref) == open_dataset(ref).name == NAME
    assert str(planned) == "runs/my-v1.5.zarr" and steps.run(ExtractSpec(**asked)).path == planned
    assert {file.name for file in planned.parent.iterdir()} == {"my-v1.5.zarr"}
    captions = CaptionSpec(dataset=ref, model="tiny-vl")
    assert str(step_of(captions).output(captions)) == "runs/my-v1.5.captions.jsonl"
    with ActivationStore.open(planned) as store:
        assert set(store.samples["dataset"]) == {NAME} == {store.manifest.recorded["dataset"]}


def test_the_folder_that_one_stands_in_has_a_name(tmp_path, monkeypatch):
    (tmp_path / NAME / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / NAME / "data")
    assert [dataset_name(ref) for ref in (".", "..", f"{tmp_path}/{NAME}/", "../x.csv")] == ["data", NAME, NAME, "x"]


def test_a_plug_in_that_calls_itself_something_else(tmp_path, monkeypatch):
    plug_in(monkeypatch, tmp_path, "mine")
    with pytest.raises(InvalidInputError, match=r"'my-v1\.5' calls it 'mine'"):
        open_dataset(NAME)
