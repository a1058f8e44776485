"""A4: stores, labels, scores and reports are joined by id and by what was asked; the first that differs is named."""

import shutil

import numpy as np
import polars as pl
import pytest
from stepping import question, report_of, step, write_rows

from relope.asked import PARTS, asked_column, asked_digest, first_difference
from relope.errors import InvalidInputError
from relope.store import open_store

N = 24
ROWS = [question(number) for number in range(N)]
CHANGED = {
    "question": {7: question(7, question="another one?")},
    "choices": {7: question(7, choices=["red", "blue", "black"])},
    "hint": {7: question(7, hint="look twice")},
    "gold answers": {7: question(7, answer="C")},
}


def extract(file, out, model="tiny-vl", **more):
    step(
        "extract", model=model, dataset=file, out=out, device="cpu", max_new_tokens=4, grader="multiple-choice", **more
    )
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A store of a data set of one's own."""
    folder = tmp_path_factory.mktemp("a4")
    store = extract(write_rows(folder / "data", ROWS), folder / "small.zarr")
    step("predict", router="logprob", store=store)
    return store


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Kind of change → a large store of other samples under the same ids."""
    folder, made = tmp_path_factory.mktemp("a4-large"), {}
    for name, rows in {**{key: key for key in CHANGED}, "images": "images", "": ""}.items():
        changed = [CHANGED.get(rows, {}).get(number, row) for number, row in enumerate(ROWS)]
        data = write_rows(folder / f"data-{name}", changed, shade=1 if name == "images" else 0)
        made[name] = extract(data, folder / f"large-{name}.zarr", "tiny-vl-large", tokens="lean")
    return made


def test_a4_the_same_samples_join(small, others, tmp_path):
    step("evaluate", store=small, large_store=others[""], bootstrap=100, out=tmp_path / "report")
    report = report_of(tmp_path / "report")
    assert report["n"] == N // 2 and report["hybrid"]["large_accuracy"] is not None
    assert pl.read_parquet(tmp_path / "report" / "scores.parquet")["asked"].n_unique() == N // 2


@pytest.mark.parametrize("what", [*CHANGED, "images"])
def test_a4_a_large_store_of_other_samples_is_refused(small, others, tmp_path, what):
    first = "q1" if what == "images" else "q7"
    with pytest.raises(
        InvalidInputError, match=rf"large-{what}.zarr holds other samples under .*: {first}'s {what} diff"
    ):
        step("evaluate", store=small, large_store=others[what], bootstrap=100, out=tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("what", ["question", "images"])
def test_a4_a_router_is_not_fitted_beside_another_large_store(small, others, tmp_path, what):
    asked = {"method": "routellm-sw", "store": small, "split": "train,test", "out": tmp_path / "r"}
    step("fit", **asked, large_store=others[""])
    with pytest.raises(InvalidInputError, match=f"'s {what} differ"):
        step("fit", **{**asked, "out": tmp_path / "other"}, large_store=others[what])
    assert not (tmp_path / "other").exists()


def test_a4_labels_of_other_samples_are_refused(small, tmp_path):
    data = write_rows(tmp_path / "data", [CHANGED["question"].get(number, row) for number, row in enumerate(ROWS)])
    labels = extract(data, tmp_path / "labels.zarr")
    with pytest.raises(
        InvalidInputError, match=r"labels store .*labels.zarr holds other samples .*: q7's question differ"
    ):
        step("evaluate", store=small, labels_store=labels, bootstrap=100, out=tmp_path / "report")


def test_a4_labels_frozen_on_other_images_are_allowed_where_the_recipe_says_so(small, tmp_path):
    worse = extract(write_rows(tmp_path / "data", ROWS), tmp_path / "worse.zarr", perturb="noise:0.3")
    step("predict", router="logprob", store=worse)
    step("evaluate", store=worse, labels_store=small, bootstrap=100, out=tmp_path / "report")
    report = report_of(tmp_path / "report")
    assert report["provenance"]["labels_frozen"] and "labels frozen" in report["dataset"]
    other = extract(write_rows(tmp_path / "other", ROWS, shade=1), tmp_path / "other.zarr")
    step("predict", router="logprob", store=other)
    with pytest.raises(InvalidInputError, match="q1's images differ"):
        step("evaluate", store=other, labels_store=small, bootstrap=100, out=tmp_path / "report2")


def test_a4_a_copied_folder_of_scores_is_refused(small, tmp_path):
    data = write_rows(tmp_path / "data", [CHANGED["question"].get(number, row) for number, row in enumerate(ROWS)])
    other = extract(data, tmp_path / "other.zarr")
    shutil.copytree(f"{small}.scores", f"{other}.scores")
    with pytest.raises(
        InvalidInputError, match=r"logprob.parquet (is about other samples|was made from another recipe)"
    ):
        step("evaluate", store=other, bootstrap=100, out=tmp_path / "report")


def test_a4_reports_of_other_questions_are_not_paired(small, tmp_path):
    data = write_rows(tmp_path / "data", [CHANGED["question"].get(number, row) for number, row in enumerate(ROWS)])
    other = extract(data, tmp_path / "other.zarr")
    step("predict", router="logprob", store=other)
    for store, name in ((small, "one"), (other, "two")):
        step("evaluate", store=store, bootstrap=100, out=tmp_path / name)
    done = step("compare", first=tmp_path / "one", second=tmp_path / "two", bootstrap=100)
    assert done.facts["paired"] is False if "paired" in done.facts else done.payload["paired"] is False
    assert "q7's question differ" in str(done.payload or done.facts)
    same = step("compare", first=tmp_path / "one", second=tmp_path / "one", bootstrap=100)
    assert (same.payload or same.facts)["paired"] is True


def test_a4_older_stores_join_by_what_they_tell(small):
    with open_store(small) as store:
        samples = store.samples
    older = samples.drop("asked").with_columns(asked_column(samples.drop("asked")))
    assert first_difference(samples.select("id", "asked"), older.select("id", "asked")) is None
    changed = samples.with_columns(question=pl.lit("x")).drop("asked")
    differs = first_difference(samples.select("id", "asked"), changed.select("id", asked_column(changed)))
    assert differs.parts == ("question",) and differs.n == N and differs.id == samples["id"][0]


def test_a4_each_part_of_what_was_asked_has_its_digits():
    base = ("q", ("a", "b"), "h", ("i", "j"))
    digests = [asked_digest(*base)]
    for number, other in enumerate(("Q", ("b", "a"), "H", ("j", "i"))):
        digests.append(asked_digest(*(other if place == number else value for place, value in enumerate(base))))
    one = pl.DataFrame({"id": ["x"] * 4, "asked": digests[:1] * 4}).with_row_index()
    assert len(set(digests)) == 5 and all(len(value) == 64 for value in digests)
    for number, name in enumerate(PARTS):
        ours, theirs = one.select("id", "asked")[:1], pl.DataFrame({"id": ["x"], "asked": [digests[number + 1]]})
        assert first_difference(ours, theirs).parts == (name,)
        assert first_difference(ours, theirs, (name,)) is None
    assert np.unique(digests).size == 5
