"""A9: two own data files are two data sets: in the recipe, in merge, in `extract --out`, and for a router."""

import dataclasses
import json
import shutil

import pytest

from relope import steps
from relope.errors import InvalidInputError, RelopeError, StoreError
from relope.extract.data.open import open_dataset
from relope.spec import ExtractSpec, FitSpec, PlanSpec, PredictSpec
from relope.steps.extract import output
from relope.store import create_or_open, open_store
from relope.store.share.pull import merge
from relope.store.subset import write_subset


def rows(n, color="red", start=0):
    """Return questions with ids of their own, split by hand."""
    return [
        {"id": f"q{k}", "question": f"is {k} {color} ?", "answer": "red", "split": "train" if k % 3 else "test"}
        for k in range(start, start + n)
    ]


def lines(path, rows):
    """Write a JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def extract(path, out, **more):
    """Extract a file with the embedded model."""
    spec = {"model": "tiny-vl", "dataset": str(path), "out": out, "device": "cpu", "max_new_tokens": 4}
    return steps.run(ExtractSpec(**spec | more))


def recipe(path):
    """Return the recipe of a store."""
    with open_store(path) as store:
        return store.recipe_id


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Three stores of files: two that differ, of one name in two folders, and one of another name."""
    folder = tmp_path_factory.mktemp("own")
    extract(lines(folder / "one" / "q.jsonl", rows(12)), folder / "one.zarr")
    extract(lines(folder / "two" / "q.jsonl", rows(12, "blue")), folder / "two.zarr")
    extract(lines(folder / "other.jsonl", rows(12)), folder / "other.zarr")
    return folder


def test_a9_two_files_are_two_recipes(stores):
    recipes = {name: recipe(stores / f"{name}.zarr") for name in ("one", "two", "other")}
    assert len(set(recipes.values())) == 3
    with open_store(stores / "one.zarr") as store:
        identity = store.manifest.identity.dataset
    assert identity["name"] == "q" and len(identity["digest"]) == 64


def test_a9_merge_refuses_to_mix(stores, tmp_path):
    for other, says in (("two", "dataset.digest was"), ("other", "dataset.name was")):
        with pytest.raises(StoreError, match=says):
            merge([stores / "one.zarr", stores / f"{other}.zarr"], tmp_path / "both.zarr")
    assert not (tmp_path / "both.zarr").exists()


def test_a9_merge_refuses_one_id_with_two_questions(stores, tmp_path):
    lines(tmp_path / "q.jsonl", rows(2))
    for name, color in (("a", "blue"), ("b", "green")):
        extract(lines(tmp_path / "q.jsonl", rows(2)), tmp_path / f"{name}.zarr")
        extract(lines(tmp_path / "q.jsonl", rows(2) + rows(2, color, 2)), tmp_path / f"{name}.zarr")
    assert recipe(tmp_path / "a.zarr") == recipe(tmp_path / "b.zarr")
    with pytest.raises(StoreError, match="sample 'q2' asks something else"):
        merge([tmp_path / "a.zarr", tmp_path / "b.zarr"], tmp_path / "both.zarr")
    assert not (tmp_path / "both.zarr").exists()


@pytest.mark.parametrize("step", [ExtractSpec, PlanSpec])
def test_a9_plan_and_extract_refuse_another_data_set(stores, tmp_path, step):
    asked = {"model": "tiny-vl", "out": stores / "one.zarr", "device": "cpu", "max_new_tokens": 4}
    fresh = lines(tmp_path / "q.jsonl", rows(12, start=100))
    for path, says in (
        (stores / "two" / "q.jsonl", "12 samples have changed"),
        (stores / "other.jsonl", "holds samples of data set 'q', not of 'other'"),
        (fresh, "12 of the 12 samples in .*one.zarr are not in data set 'q'"),
    ):
        with pytest.raises(InvalidInputError, match=says) as error:
            steps.run(step(dataset=str(path), **asked))
        assert len(error.value.lines.splitlines()) <= 2


def test_a9_a_name_makes_files_one_data_set_or_two(stores, tmp_path):
    copy = lines(tmp_path / "copy.jsonl", rows(12)[::-1])
    assert extract(copy, stores / "one.zarr", name="q").reused
    with pytest.raises(RelopeError, match="not of 'copy'"):
        extract(copy, stores / "one.zarr")
    named = ExtractSpec(model="tiny-vl", dataset=str(copy), name="clinic 3")
    assert str(output(named)) == "runs/clinic 3.zarr"
    for ref, name, says in (("tiny", "mine", "tiny has its name"), (str(copy), "../x", "must be up to 100")):
        with pytest.raises(InvalidInputError, match=says):
            open_dataset(ref, name)


def test_a9_a_router_of_one_file_scores_another_only_as_transfer(stores):
    steps.run(FitSpec(method="probe", store=str(stores / "one.zarr"), set={"head": "logistic"}))
    router = str(stores / "one.zarr.routers" / "probe")
    asked = {"router": router, "store": str(stores / "other.zarr")}
    with pytest.raises(InvalidInputError, match="they differ in dataset"):
        steps.run(PredictSpec(**asked))
    steps.run(PredictSpec(**asked, transfer=True))


def test_a9_a_file_that_grows_stays_the_data_set(tmp_path, caplog):
    path, out = lines(tmp_path / "q.jsonl", rows(6)), tmp_path / "q.zarr"
    extract(path, out)
    begun = recipe(out)
    lines(path, rows(9))
    assert extract(path, out).facts["computed"] == 3 and recipe(out) == begun
    lines(path, [{**row, "split": "test"} for row in rows(9)])
    with pytest.raises(InvalidInputError, match=r"6 of the samples in .* are in another split now"):
        extract(path, out)
    lines(path, rows(8))
    assert extract(path, out).reused
    assert "1 of the 9 samples" in caplog.text and "(first: q8); they stay in the store" in caplog.text
    lines(path, rows(4))
    with pytest.raises(InvalidInputError, match=r"5 of the 9 samples in .* are not in data set 'q' .*another one"):
        extract(path, out)


def test_a9_a_store_from_before_names_grows_with_its_own_file_only(tmp_path):
    path, out = lines(tmp_path / "q.jsonl", rows(6)), tmp_path / "q.zarr"
    extract(path, out)
    older(out)
    begun = recipe(out)
    lines(path, rows(9))
    assert extract(path, out).facts["computed"] == 3 and recipe(out) == begun
    with pytest.raises(InvalidInputError, match="holds samples of data set 'q', not of 'other'"):
        extract(lines(tmp_path / "other.jsonl", rows(9)), out)


def older(out):
    """Give a store the identity that it had before data sets of one's own had a name and a digest."""
    with open_store(out) as store:
        manifest, ids, (part,) = store.manifest, store.samples["id"].to_list(), store.parts
    identity = manifest.identity.with_fields(dataset={"source": "own file"})
    made = create_or_open(out.with_name("older.zarr"), dataclasses.replace(manifest, identity=identity))
    write_subset(out, part, made.path, made.manifest, ids)
    made.publish()
    shutil.rmtree(out)
    made.path.rename(out)
